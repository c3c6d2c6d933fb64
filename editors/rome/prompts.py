"""From an edit to ROME's prompts: context prefixes, the essence prompt, the lookup token.

Positions are found by character offsets in the assembled prompt, so BOS, a prefix and padding on
either side are counted as the model sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from einops import reduce
from torch import Tensor

from datamodules.prompt_encoder import Encoded, PromptEncoder, locate_phrase
from datamodules.row_length import check_length, may_exceed
from editors.rome.config import FactToken, LookupOptions
from editors.rome.values import Prompts, edits_at_once
from metrics.precision import single
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.finite import check_own_logits
from models.rows import Answers, EditBatch, Rows, RowText, text_rows

TOP = 5  # the published prefixes sample from the five likeliest tokens
AFTER_PREFIX = ". "


def sample_prefixes(
    model: EditableModel, encoder: PromptEncoder, contexts: Sequence[Sequence[int]], seed: int
) -> list[str]:
    """Short texts that the model writes by itself (the authors' generate.py).

    Args:
        model: the base model.
        encoder: its tokens.
        contexts: [[length, number], ...]; lengths count the start token.
        seed: of the sampling.

    Returns:
        Prefixes that end with a full stop and a space, in order.

    Raises:
        ModelError: the model's logits are no numbers.
    """
    draw = torch.Generator().manual_seed(seed)
    tokenizer = encoder.tokenizer
    start = tokenizer.bos_token_id
    start = tokenizer.eos_token_id if start is None else start
    prefixes = []
    for length, number in contexts:
        ids = torch.full((number, 1), start, device=model.device)
        while ids.shape[1] < length:
            last = Answers(
                torch.arange(number, device=ids.device),
                torch.full((number,), ids.shape[1] - 1, device=ids.device),
                torch.zeros(number, dtype=torch.int64, device=ids.device),
                number,
            )
            with torch.no_grad():
                likely = model(text_rows(ids), at=last).topk(TOP)
            check_own_logits(model, likely.values[:, 0], lambda _: "a text before a prompt")
            chance = likely.values.softmax(-1).cpu()
            drawn = torch.multinomial(chance, 1, generator=draw).to(ids.device)
            ids = torch.cat([ids, likely.indices.gather(1, drawn)], 1)
        prefixes += [encoder.decode(row[1:]) + AFTER_PREFIX for row in ids.cpu()]
    return prefixes


def assemble(
    encoder: PromptEncoder,
    texts: Sequence[RowText],
    subjects: Sequence[str],
    *,
    prefixes: Sequence[str],
    essence: str,
    fact_token: FactToken,
) -> tuple[Rows, Prompts]:
    """All prompts of some edits as one table.

    Args:
        encoder: the run's prompt function.
        texts: the edits' own questions with the new objects.
        subjects: their subjects.
        prefixes: texts before a prompt; the plain prompt comes first.
        essence: a text with {subject}.
        fact_token: where the fact is looked up.

    Raises:
        DataError: a prompt does not contain its subject, or is longer than what the model reads.
    """
    encoded: list[Encoded] = []
    row_texts: list[RowText] = []
    edit: list[int] = []
    for number, (text, subject) in enumerate(zip(texts, subjects, strict=True)):
        row_texts += [text] * (1 + len(prefixes))
        encoded += [encode_after(encoder, before, text) for before in ("", *prefixes)]
        # What follows the essence prompt is never looked at: attention is causal.
        essence_text = RowText(essence.replace("{subject}", subject), text.answer, plain=True)
        row_texts.append(essence_text)
        encoded.append(encode_after(encoder, "", essence_text))
        edit += [number] * (len(prefixes) + 2)
    rows = encoder.rows(encoded, row_texts, edit_index=edit)
    each = len(prefixes) + 2
    of_subject = [subjects[number] for number in edit]
    inside = [
        lookup(row, subject, fact_token) for row, subject in zip(encoded, of_subject, strict=True)
    ]
    essence_rows = torch.arange(each - 1, len(encoded), each)
    at = rows.answers()
    rewriting = ~torch.isin(at.row, essence_rows)
    prompts = Prompts(
        lookup=encoder.row_starts(encoded) + torch.tensor(inside),
        edit=torch.tensor(edit),
        plain=torch.arange(0, len(encoded), each),
        essence=essence_rows,
        at=Answers(at.row[rewriting], at.position[rewriting], at.target[rewriting], at.n_rows),
    )
    return rows, prompts


def prompts_in_parts(
    model: EditableModel,
    batch: EditBatch,
    encoder: PromptEncoder,
    prefixes: Sequence[str],
    options: LookupOptions,
    layer: int,
) -> Iterator[tuple[Tensor, Rows, Prompts]]:
    """The prompts of a batch on the model's device, those of as many edits at once as have room.

    Args:
        model: the base model.
        batch: the edits.
        encoder: the run's prompt function.
        prefixes: texts before a prompt; the plain prompt comes first.
        options: of the lookup.
        layer: the one that passes back go down to.

    Yields:
        Numbers of some edits, ascending; their rows; which rows they are.

    Raises:
        DataError: as `assemble`.
    """
    rows, prompts = assemble(
        encoder,
        [batch.rows.texts[row] for row in batch.edit_rows.tolist()],
        batch.subjects,
        prefixes=prefixes,
        essence=options.kl_prompt,
        fact_token=options.fact_token,
    )
    rows, prompts = rows.to(model.device), prompts.to(model.device)
    at_once = edits_at_once(model, prompts, layer)
    for edits in torch.arange(prompts.n_edits, device=model.device).split(at_once):
        of_edits, their_rows = prompts.select(edits)
        yield edits, rows.select(their_rows), of_edits


def mean_keys(
    model: EditableModel, state: PrefixState, site: Site, rows: Tensor, lookup: Tensor, n_edits: int
) -> Tensor:
    """The mean input of a map at the lookup tokens of each edit's prompts: (E, d_in).

    Args:
        model: the base model.
        state: of the prompts, at or below the site's layer.
        site: the map.
        rows: (E * C,) the rows that ask, C of each edit.
        lookup: (E * C,) the lookup token of each.
        n_edits: E.
    """
    keys, _ = model.read(state, site, rows, lookup)
    keys = keys.to(single(keys.dtype))  # the mean of rounded keys has more digits than they
    return reduce(keys, "(e c) d -> e d", "mean", e=n_edits)


def check_prefixed(
    encoder: PromptEncoder, prefixes: Sequence[str], texts: Sequence[RowText]
) -> None:
    """Refuses questions that, behind a prefix, the model could not read.

    Raises:
        DataError: naming the prefix, the question and its tokens.
    """
    for prefix, text in product(prefixes, texts):
        if may_exceed(encoder, encoder.max_positions, prefix, text.question, text.answer):
            encode_after(encoder, prefix, text)


def encode_after(encoder: PromptEncoder, prefix: str, text: RowText) -> Encoded:
    """A question behind a prefix, which may be empty.

    Raises:
        DataError: the model cannot read so long a row.
    """
    row = encoder.encode(
        text.question, text.answer, plain=text.plain, before=prefix, ended=text.ended
    )
    before = f"the editor's prefix {prefix!r}" if prefix else ""
    check_length(row, encoder.max_positions, text.question, text.answer, before=before)
    return row


def lookup(row: Encoded, subject: str, fact_token: FactToken) -> int:
    """Index of the lookup token in an unpadded row.

    Raises:
        DataError: the prompt does not contain the subject.
    """
    first, last = locate_phrase(row, subject)
    return {
        "subject_first": first,
        "subject_last": last,
        "subject_first_after_last": last + 1,
        "last": row.answer.index(True) - 1,
    }[fact_token]
