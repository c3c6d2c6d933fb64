"""Causal trace: which hidden states carry a fact (Meng et al. 2022, section 2).

    python -m analysis.causal_trace model=llava_tiny data=world --output runs/trace

A question is asked three times: as it is; with noise on the embeddings of the subject's tokens; and
with that noise, but one state put back to its clean value. How much of the answer's probability
comes back is the state's indirect effect. The heat map shows it per layer and kind of token, for
the states after each layer and for the outputs of the MLPs alone. Only facts that the model knows
are traced: those whose answer it predicts, token by token.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from analysis.command import configured, exit_code
from datamodules.prompt_encoder import Encoded, PromptEncoder, locate_phrase
from datamodules.records import Record
from errors import ConfigError, DataError
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.hooks import replaced
from models.rows import Answers, RowText
from runner import assembly

Kind = Literal["state", "mlp"]
KINDS: tuple[Kind, ...] = ("state", "mlp")
TOKENS = ("subject_first", "subject_middle", "subject_last", "first_after", "further", "last")
NOISE = 3.0  # standard deviations of the token embeddings, as published
ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Trace:
    """Mean probabilities of the first answer token, over facts and draws of noise.

    Attributes:
        clean: of the question as it is.
        corrupted: with noise on the subject.
        effect: kind -> (tokens, layers) indirect effect, NaN where no fact has such a token.
        facts: how many facts.
    """

    clean: float
    corrupted: float
    effect: Mapping[Kind, Tensor]
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
class _Asked:
    """Prompts of some facts: their state before the first layer, and where everything is."""

    state: PrefixState
    answers: Answers
    at: Answers  # the first token of each answer
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
        DataError: a question does not name its subject.
    """
    deviation = float(model.hf.get_input_embeddings().weight.float().std()) * noise
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = [], []
    effects: dict[Kind, list[Tensor]] = {kind: [] for kind in KINDS}
    parts = [records[i : i + ROWS_AT_ONCE] for i in range(0, len(records), ROWS_AT_ONCE)]
    for part in track(parts, "Tracing", console=Console(stderr=True), transient=True):
        asked = _ask(model, encoder, part)
        values, probability = _clean(model, asked)
        clean.append(probability)
        for _ in range(draws):
            noisy = _corrupt(asked, deviation, generator)
            base = _probability(model, noisy, asked.at)
            corrupted.append(base)
            for kind in KINDS:
                effects[kind].append(_restored(model, noisy, asked, values[kind], kind) - base)
    return Trace(
        clean=float(torch.cat(clean).mean()),
        corrupted=float(torch.cat(corrupted).mean()),
        effect={kind: torch.cat(parts, -1).nanmean(-1).cpu() for kind, parts in effects.items()},
        facts=len(records),
    )


@torch.no_grad()
def known(
    model: EditableModel, encoder: PromptEncoder, records: Sequence[Record], wanted: int
) -> list[Record]:
    """The first `wanted` records whose true answer the model predicts, token by token.

    Raises:
        DataError: there is none, or a question does not name its subject.
    """
    found: list[Record] = []
    for start in range(0, len(records), ROWS_AT_ONCE):
        part = records[start : start + ROWS_AT_ONCE]
        asked = _ask(model, encoder, part)
        at = asked.answers
        right = model.suffix(asked.state, at=at).argmax(-1) == at.target
        all_right = at.row_mean(right.float()) == 1
        found += [record for record, ok in zip(part, all_right.tolist(), strict=True) if ok]
        if len(found) >= wanted:
            return found[:wanted]
    if not found:
        raise DataError(
            f"the model predicts the answer of none of {len(records)} facts, so there is nothing "
            "to trace. Take data that it knows."
        )
    return found


def token_places(row: Encoded, subject: str) -> dict[str, list[int]]:
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


def _ask(model: EditableModel, encoder: PromptEncoder, records: Sequence[Record]) -> _Asked:
    texts = [RowText(r.knowledge_edit.question, r.knowledge_edit.answer_true) for r in records]
    encoded = [encoder.encode(text.question, text.answer) for text in texts]
    rows = encoder.rows(encoded, texts, edit_index=range(len(texts))).to(model.device)
    starts = encoder.row_starts(encoded).tolist()
    places = [token_places(e, r.subject) for e, r in zip(encoded, records, strict=True)]
    spans = [locate_phrase(e, r.subject) for e, r in zip(encoded, records, strict=True)]
    at = rows.answers()
    first = torch.cat([at.row.new_ones(1), at.row[1:] != at.row[:-1]]).bool()

    def flat(of_rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        pairs = [(r, p + starts[r]) for r, found in enumerate(of_rows) for p in found]
        table = torch.tensor(pairs, dtype=torch.int64, device=model.device).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    return _Asked(
        state=model.prefix(rows, 0),
        answers=at,
        at=Answers(at.row[first], at.position[first], at.target[first], len(rows)),
        subject=flat([range(one, other + 1) for one, other in spans]),
        tokens={name: flat([found[name] for found in places]) for name in TOKENS},
    )


def _clean(model: EditableModel, asked: _Asked) -> tuple[dict[Kind, list[Tensor]], Tensor]:
    """States after every layer and outputs of every MLP, and the answers' probabilities."""
    caught: dict[Kind, list[Tensor]] = {kind: [] for kind in KINDS}
    shape = (*asked.state.hidden.shape[:2], -1)

    def keep(kind: Kind) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            caught[kind].append(tensor.reshape(shape))

        return hook

    handles = [
        _module(model, kind, layer).register_forward_hook(keep(kind))
        for kind in KINDS
        for layer in range(model.n_layers)
    ]
    try:
        probability = _probability(model, asked.state, asked.at)
    finally:
        for handle in handles:
            handle.remove()
    return caught, probability


def _corrupt(asked: _Asked, deviation: float, generator: torch.Generator) -> PrefixState:
    hidden = asked.state.hidden
    row, position = asked.subject
    noise = torch.randn(len(row), hidden.shape[-1], generator=generator) * deviation
    moved = hidden[row, position] + noise.to(hidden)
    return replace(asked.state, hidden=hidden.index_put((row, position), moved))


def _restored(
    model: EditableModel, noisy: PrefixState, asked: _Asked, clean: Sequence[Tensor], kind: Kind
) -> Tensor:
    """Probabilities with one state put back: (tokens, layers, R), NaN without such a token."""
    found = noisy.hidden.new_full((len(TOKENS), model.n_layers, len(noisy.hidden)), torch.nan)
    for place, name in enumerate(TOKENS):
        row, position = asked.tokens[name]
        if not len(row):
            continue
        has = row.unique()
        for layer in range(model.n_layers):
            module = _module(model, kind, layer)
            vectors = clean[layer][row, position]
            with replaced(module, row, position, vectors, len(noisy.hidden)):
                found[place, layer, has] = _probability(model, noisy, asked.at)[has].to(found)
    return found


def _probability(model: EditableModel, state: PrefixState, at: Answers) -> Tensor:
    """Of the first answer token: (R,)."""
    logits = model.suffix(state)[at.row, at.position]
    return logits.softmax(-1).gather(1, at.target[:, None])[:, 0]


def _module(model: EditableModel, kind: Kind, layer: int) -> nn.Module:
    return model.decoder.layers[layer] if kind == "state" else model.linear(Site(layer, "mlp_out"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_intermixed_args(arguments)
    return exit_code(lambda: trace(options))


def trace(options: argparse.Namespace) -> None:
    """Traces the test records of a data set and writes heat map and numbers.

    Raises:
        ConfigError: an option is out of range, or the output is there already.
        DataError: the model knows none of the facts.
    """
    from analysis.trace_figure import trace_figure

    if options.facts < 1 or options.draws < 1 or options.noise <= 0:
        raise ConfigError("--facts and --draws should be at least 1, --noise above 0.")
    numbers = options.output / "trace.json"
    if numbers.exists() and not options.overwrite:
        raise ConfigError(f"--output {options.output} holds a trace; add --overwrite.")
    cfg, device = configured(options.words)
    records = list(cfg.data.read().records("test"))
    facts = list({(r.subject, r.knowledge_edit.question): r for r in records}.values())
    processor = assembly.open_processor(cfg.model)
    model = assembly.open_model(cfg.model, device)
    encoder = assembly.make_encoder(processor, cfg.data.prompt)
    facts = known(model, encoder, facts, options.facts)
    found = causal_trace(model, encoder, facts, noise=options.noise, draws=options.draws)
    options.output.mkdir(parents=True, exist_ok=True)
    numbers.write_text(json.dumps(found.as_dict(), indent=1), encoding="utf-8")
    effects = {str(kind): effect.numpy() for kind, effect in found.effect.items()}
    files = trace_figure(effects, TOKENS, options.output / "trace", model=cfg.model.name)
    print(
        f"{found.facts} facts, probability of the answer {found.clean:.3f}, with a corrupted "
        f"subject {found.corrupted:.3f}\nMLP output at the subject's last token: layer "
        f"{found.best_layer()} brings back most (editor.layer={found.best_layer()})\n"
        f"Written: {', '.join(str(file) for file in [numbers, *files])}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.causal_trace", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("words", nargs="*", metavar="model=NAME", help="configuration words")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--facts", type=int, default=100, help="at most so many (default: 100)")
    parser.add_argument("--draws", type=int, default=5, help="of the noise (default: 5)")
    parser.add_argument("--noise", type=float, default=NOISE, help=f"deviations ({NOISE})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
