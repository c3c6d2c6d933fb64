"""Causal trace: which hidden states carry a fact (Meng et al. 2022, section 2).

    python -m analysis causal_trace model=llava_tiny data=world --output runs/trace

A question is asked three times: as it is; with noise on the embeddings of the subject's tokens; and
with that noise, but one state put back to its clean value. How much of the answer's probability
comes back is the state's indirect effect. The heat map shows it per layer and kind of token, for
the states after each layer and for the outputs of the MLPs alone. Only facts that the model knows
are traced: those whose answer it predicts, token by token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch
from rich.progress import track
from torch import Tensor, nn

from analysis import NOISE
from datamodules.prompt_encoder import Encoded, PromptEncoder, locate_phrase
from datamodules.records import Record
from datamodules.row_length import check_length
from errors import DataError
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.finite import check_own_logits, question_at
from models.hooks import forward_hooks, pre_hook, replace_output
from models.rows import Answers, RowText
from results.screen import screen

StateKind = Literal["state", "mlp"]
STATE_KINDS: tuple[StateKind, ...] = ("state", "mlp")
TOKENS = ("subject_first", "subject_middle", "subject_last", "first_after", "further", "last")
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Trace:
    """Mean probabilities of the first answer token, over facts and draws of noise.

    Attributes:
        clean: of the question as it is.
        corrupted: with noise on the subject.
        effect: kind -> (tokens, layers) indirect effect, NaN where no fact has such a token.
    """

    clean: float
    corrupted: float
    effect: Mapping[StateKind, Tensor]
    facts: int

    def best_layer(self) -> int:
        """The layer whose MLP output at the subject's last token brings back most."""
        return int(self.effect["mlp"][TOKENS.index("subject_last")].argmax())

    def as_dict(self) -> dict[str, object]:
        """For the JSON file; None where nothing was measured."""
        return {
            "facts": self.facts,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "best_layer": self.best_layer(),
            "effect": {
                kind: {
                    token: [None if value != value else value for value in row]
                    for token, row in zip(TOKENS, effect.tolist(), strict=True)
                }
                for kind, effect in self.effect.items()
            },
        }


@dataclass(frozen=True)
class _Prompts:
    """Prompts of some facts: their state before the first layer, and where everything is.

    `at` is the first token of each answer, `answers` all of them; `subject` and each kind of
    `tokens` are rows and positions.
    """

    state: PrefixState
    answers: Answers
    at: Answers
    subject: tuple[Tensor, Tensor]
    tokens: Mapping[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def causal_trace(
    model: EditableModel,
    encoder: PromptEncoder,
    records: Sequence[Record],
    *,
    noise: float = NOISE,
    draws: int = 5,
    seed: int = 0,
) -> Trace:
    """Traces the facts of some records, asked in text with their true answers.

    Args:
        model: the base model.
        encoder: its prompt function.
        records: whose edit questions are asked.
        noise: in standard deviations of the token embeddings.
        draws: of the noise, averaged.
        seed: of the noise.

    Raises:
        DataError: a question does not name its subject, or is longer than what the model reads.
    """
    deviation = float(model.hf.get_input_embeddings().weight.float().std()) * noise
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = [], []
    effects: dict[StateKind, list[Tensor]] = {kind: [] for kind in STATE_KINDS}
    parts = [records[i : i + ROWS_AT_ONCE] for i in range(0, len(records), ROWS_AT_ONCE)]
    for part in track(parts, "Tracing", console=screen(stderr=True), transient=True):
        prompts = _encode(model, encoder, part)
        values, probability = _clean(model, prompts)
        clean.append(probability)
        for _ in range(draws):
            noisy, base = _entered(model, _corrupt(prompts, deviation, generator), prompts.at)
            corrupted.append(base)
            for kind in STATE_KINDS:
                effects[kind].append(_restored(model, noisy, prompts, values[kind], kind) - base)
    return Trace(
        clean=float(torch.cat(clean).mean()),
        corrupted=float(torch.cat(corrupted).mean()),
        effect={kind: torch.cat(parts, -1).nanmean(-1).cpu() for kind, parts in effects.items()},
        facts=len(records),
    )


@torch.no_grad()
def records_to_trace(
    model: EditableModel, encoder: PromptEncoder, records: Sequence[Record], limit: int
) -> list[Record]:
    """The first `limit` records whose true answer the model predicts, token by token.

    Raises:
        DataError: there is none, or a question does not name its subject.
    """
    known: list[Record] = []
    for start in range(0, len(records), ROWS_AT_ONCE):
        part = records[start : start + ROWS_AT_ONCE]
        prompts = _encode(model, encoder, part)
        at = prompts.answers
        logits = model.suffix(prompts.state, at=at)
        questions = [record.text_fact().question for record in part]
        check_own_logits(model, logits.amax(-1), question_at(questions, at))
        right = logits.argmax(-1) == at.target
        all_right = at.row_mean(right.float()) == 1
        known += [record for record, ok in zip(part, all_right.tolist(), strict=True) if ok]
        if len(known) >= limit:
            return known[:limit]
    if not known:
        raise DataError(
            f"the model predicts the answer of none of {len(records)} facts, so there is nothing "
            "to trace. Take data that it knows."
        )
    return known


def token_positions(row: Encoded, subject: str) -> dict[str, list[int]]:
    """The tokens of a prompt by their kind; a subject of one token has only a last one.

    Raises:
        DataError: the prompt does not name the subject.
    """
    first, last = locate_phrase(row, subject)
    end = row.answer.index(True) - 1
    return {
        "subject_first": [first] if first < last else [],
        "subject_middle": list(range(first + 1, last)),
        "subject_last": [last],
        "first_after": [last + 1] if last + 1 < end else [],
        "further": list(range(last + 2, end)),
        "last": [end] if end > last else [],
    }


def _encode(model: EditableModel, encoder: PromptEncoder, records: Sequence[Record]) -> _Prompts:
    facts = [record.text_fact() for record in records]
    texts = [RowText(fact.question, fact.answer) for fact in facts]
    encoded = [encoder.encode(text.question, text.answer) for text in texts]
    for row, text in zip(encoded, texts, strict=True):
        check_length(row, model.max_positions, text.question, text.answer)
    rows = encoder.rows(encoded, texts, edit_index=range(len(texts))).to(model.device)
    starts = encoder.row_starts(encoded).tolist()
    positions = [token_positions(e, f.subject) for e, f in zip(encoded, facts, strict=True)]
    spans = [locate_phrase(e, f.subject) for e, f in zip(encoded, facts, strict=True)]
    at = rows.answers()
    begins = torch.cat([at.row.new_ones(1), at.row[1:] != at.row[:-1]]).bool()

    def flat(of_rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        pairs = [(r, p + starts[r]) for r, tokens in enumerate(of_rows) for p in tokens]
        table = torch.tensor(pairs, dtype=torch.int64, device=model.device).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    return _Prompts(
        state=model.prefix(rows, 0),
        answers=at,
        at=Answers(at.row[begins], at.position[begins], at.target[begins], len(rows)),
        subject=flat([range(first, last + 1) for first, last in spans]),
        tokens={name: flat([of_row[name] for of_row in positions]) for name in TOKENS},
    )


def _clean(model: EditableModel, prompts: _Prompts) -> tuple[dict[StateKind, list[Tensor]], Tensor]:
    """States after every layer and outputs of every MLP, and the answers' probabilities."""
    outputs: dict[StateKind, list[Tensor]] = {kind: [] for kind in STATE_KINDS}
    shape = (*prompts.state.hidden.shape[:2], -1)

    def store(kind: StateKind) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            outputs[kind].append(tensor.reshape(shape).to(model.device))

        return hook

    layers = range(model.n_layers)
    hooks = [(_module(model, k, layer), store(k)) for k in STATE_KINDS for layer in layers]
    with forward_hooks(hooks):
        return outputs, _probability(model, prompts.state, prompts.at, whole=True)


def _corrupt(prompts: _Prompts, deviation: float, generator: torch.Generator) -> PrefixState:
    hidden = prompts.state.hidden
    row, position = prompts.subject
    noise = torch.randn(len(row), hidden.shape[-1], generator=generator) * deviation
    noisy = hidden[row, position] + noise.to(hidden)
    return prompts.state.with_hidden(hidden.index_put((row, position), noisy))


def _entered(
    model: EditableModel, state: PrefixState, at: Answers
) -> tuple[list[PrefixState], Tensor]:
    """The state on entering every layer, and the answers' probabilities."""
    entered: list[PrefixState] = []

    def note(_module: nn.Module, args: tuple[Tensor, ...], _kwargs: object) -> None:
        entered.append(state.with_hidden(args[0].to(model.device), len(entered)))

    with ExitStack() as stack:
        for layer in model.decoder.layers:
            stack.enter_context(pre_hook(layer, note))
        return entered, _probability(model, state, at)


def _restored(
    model: EditableModel,
    noisy: Sequence[PrefixState],
    prompts: _Prompts,
    clean: Sequence[Tensor],
    kind: StateKind,
) -> Tensor:
    """Probabilities with one state put back: (tokens, layers, R), NaN without such a token.

    Nothing below a layer is changed by what is put back in it: `noisy` has the state entering each.
    """
    size = (len(TOKENS), model.n_layers, len(noisy[0].hidden))
    probabilities = noisy[0].hidden.new_full(size, torch.nan)
    for token, name in enumerate(TOKENS):
        row, position = prompts.tokens[name]
        if not len(row):
            continue
        rows = row.unique()
        for layer in range(model.n_layers):
            vectors = clean[layer][row, position]
            with replace_output(_module(model, kind, layer), row, position, vectors, size[-1]):
                last = layer == model.n_layers - 1
                restored = _probability(model, noisy[layer], prompts.at, whole=last)[rows]
            probabilities[token, layer, rows] = restored.to(probabilities)
    return probabilities


def _probability(
    model: EditableModel, state: PrefixState, at: Answers, *, whole: bool = False
) -> Tensor:
    """Of the first answer token: (R,).

    Unless `whole`, the last layer ends at the answers: what is done to its other tokens or read
    from its MLP is not there.
    """
    logits = model.suffix(state)[at.row, at.position] if whole else model.suffix(state, at=at)
    return logits.softmax(-1).gather(1, at.target[:, None])[:, 0]


def _module(model: EditableModel, kind: StateKind, layer: int) -> nn.Module:
    return model.decoder.layers[layer] if kind == "state" else model.linear(Site(layer, "mlp_out"))
