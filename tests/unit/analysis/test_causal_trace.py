"""The causal trace against whole forward passes of one fact at a time, and its command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from analysis import causal_trace
from analysis.__main__ import main
from analysis.causal_trace import (
    STATE_KINDS,
    TOKENS,
    StateKind,
    Trace,
    records_to_trace,
    token_positions,
)
from analysis.figures import trace_figure
from configs.check import load_config
from configs.schema import EvaluateConfig
from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from datamodules.world import World, generate_world, world_records
from errors import DataError
from models.deltas import Site
from models.editable import EditableModel
from runner import assembly
from tests.rome_cases import FACTS, model_and_encoder

NOISE, SEED, DRAWS = 2.0, 4, 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default world, which the shipped model knows, with fewer pictures."""
    folder = tmp_path_factory.mktemp("worlds") / "default"
    return generate_world(folder, seed=0, size=50, seen_views=1, unseen_views=1)


@pytest.fixture(scope="module")
def records(world: Path) -> list[Record]:
    return world_records(World.load(world), "test", seed=0)


@pytest.fixture(scope="module")
def shipped(root: Path) -> tuple[EditableModel, PromptEncoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        cfg = load_config("evaluate", ["editor=none", "model=llava_tiny"])
        assert isinstance(cfg, EvaluateConfig)
        processor = assembly.open_processor(cfg.model)
        return assembly.open_model(cfg.model), assembly.make_encoder(processor, cfg.data.prompt)


def asked_about(records: list[Record], numbers: range) -> list[Record]:
    """Records that ask the small tokenizers' questions."""
    found = []
    for number in numbers:
        question, answer, subject = FACTS[number]
        record = records[number]
        edit = record.knowledge_edit.model_copy(
            update={"question": question, "answer_true": answer}
        )
        found.append(record.model_copy(update={"subject": subject, "knowledge_edit": edit}))
    return found


@contextmanager
def hook(module: nn.Module, change: object) -> Iterator[None]:
    handle = module.register_forward_hook(change)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


class Slow:
    """One unpadded fact through transformers' own model."""

    def __init__(self, model: EditableModel, encoder: PromptEncoder, record: Record) -> None:
        edit = record.knowledge_edit
        self.model = model
        self.row = encoder.encode(edit.question, edit.answer_true)
        self.places = token_positions(self.row, record.subject)
        spans = [p for name in TOKENS[:3] for p in self.places[name]]
        self.subject = sorted(spans)

    def module(self, kind: str, layer: int) -> nn.Module:
        if kind == "state":
            return self.model.decoder.layers[layer]
        return self.model.linear(Site(layer, "mlp_out"))

    @torch.no_grad()
    def probability(self) -> float:
        first = self.row.answer.index(True)
        logits = self.model.hf(input_ids=torch.tensor([self.row.ids])).logits[0, first - 1]
        return float(logits.softmax(-1)[self.row.ids[first]])

    def clean(self, kind: str, layer: int) -> Tensor:
        caught: list[Tensor] = []

        def keep(_module: nn.Module, _args: object, output: object) -> None:
            tensor = output[0] if isinstance(output, tuple) else output
            caught.append(tensor.reshape(len(self.row.ids), -1).clone())

        with hook(self.module(kind, layer), keep):
            self.probability()
        return caught[0]

    def corrupted(self, noise: Tensor) -> AbstractContextManager[None]:
        def disturb(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
            moved = output.clone()
            moved[0, self.subject] += noise
            return moved

        return hook(self.model.hf.get_input_embeddings(), disturb)

    def restored(self, kind: str, layer: int, places: list[int], noise: Tensor) -> float:
        clean = self.clean(kind, layer)

        def put(_module: nn.Module, _args: object, output: object) -> object:
            tensor = output[0] if isinstance(output, tuple) else output
            moved = tensor.clone()
            moved.reshape(len(self.row.ids), -1)[places] = clean[places]
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        with hook(self.module(kind, layer), put), self.corrupted(noise):
            return self.probability()


def slow_trace(model: EditableModel, encoder: PromptEncoder, records: list[Record]) -> Trace:
    facts = [Slow(model, encoder, record) for record in records]
    width = model.hf.get_input_embeddings().weight.shape[1]
    deviation = NOISE * float(model.hf.get_input_embeddings().weight.float().std())
    draw = torch.Generator().manual_seed(SEED)
    clean, corrupted = [fact.probability() for fact in facts], []
    effects: dict[StateKind, list[Tensor]] = {kind: [] for kind in STATE_KINDS}
    for _ in range(DRAWS):
        sizes = [len(fact.subject) for fact in facts]
        noise = torch.randn(sum(sizes), width, generator=draw) * deviation
        for fact, part in zip(facts, noise.split(sizes), strict=True):
            with fact.corrupted(part):
                base = fact.probability()
            corrupted.append(base)
            for kind in STATE_KINDS:
                found = torch.full((len(TOKENS), model.n_layers), torch.nan).double()
                for place, name in enumerate(TOKENS):
                    for layer in range(model.n_layers) if fact.places[name] else ():
                        back = fact.restored(kind, layer, fact.places[name], part)
                        found[place, layer] = back - base
                effects[kind].append(found)
    return Trace(
        clean=float(np.mean(clean)),
        corrupted=float(np.mean(corrupted)),
        effect={kind: torch.stack(parts).nanmean(0) for kind, parts in effects.items()},
        facts=len(records),
    )


@pytest.mark.parametrize("kind", ["llava", "llama", "opt", "gpt2"])
def test_equals_the_slow_reference(kind: str, records: list[Record]) -> None:
    model, encoder = model_and_encoder(kind)
    model.double()  # effects are differences of small probabilities
    facts = asked_about(records, range(3))
    found = causal_trace.causal_trace(model, encoder, facts, noise=NOISE, draws=DRAWS, seed=SEED)
    slow = slow_trace(model, encoder, facts)
    assert found.facts == 3
    assert found.clean == pytest.approx(slow.clean, rel=1e-6)
    assert found.corrupted == pytest.approx(slow.corrupted, rel=1e-6)
    for each in STATE_KINDS:
        largest = float(slow.effect[each].nan_to_num().abs().max())
        torch.testing.assert_close(
            found.effect[each], slow.effect[each], rtol=0, atol=1e-6 * largest, equal_nan=True
        )
        assert largest > 1e-3 * slow.clean


def test_the_last_token_s_last_state_brings_everything_back(records: list[Record]) -> None:
    model, encoder = model_and_encoder("llama")
    model.double()
    found = causal_trace.causal_trace(model, encoder, asked_about(records, range(4)), seed=SEED)
    state = found.effect["state"]
    assert float(state[TOKENS.index("last"), -1]) == pytest.approx(
        found.clean - found.corrupted, rel=1e-6
    )
    for name in ("subject_first", "subject_last", "first_after"):  # nothing reads them any more
        assert abs(float(state[TOKENS.index(name), -1])) <= 1e-12


def test_facts_in_parts_are_the_same_facts(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoder = model_and_encoder("llama")
    model.double()
    facts = asked_about(records, range(5))
    whole = causal_trace.causal_trace(model, encoder, facts, draws=1, seed=SEED)
    monkeypatch.setattr(causal_trace, "ROWS_AT_ONCE", 2)
    parts = causal_trace.causal_trace(model, encoder, facts, draws=1, seed=SEED)
    for kind in STATE_KINDS:
        torch.testing.assert_close(
            parts.effect[kind], whole.effect[kind], rtol=1e-6, atol=1e-12, equal_nan=True
        )


def test_every_prompt_token_has_one_kind() -> None:
    _, encoder = model_and_encoder("opt")
    for question, answer, subject in FACTS:
        row = encoder.encode(question, answer)
        places = token_positions(row, subject)
        assert list(places) == list(TOKENS)
        flat = [place for name in TOKENS for place in places[name]]
        assert flat == list(range(flat[0], row.answer.index(True)))
        spoken = [p for name in TOKENS[:3] for p in places[name]]
        assert subject in encoder.tokenizer.decode([row.ids[p] for p in spoken])


def test_only_what_the_model_knows_is_traced(
    shipped: tuple[EditableModel, PromptEncoder], records: list[Record]
) -> None:
    model, encoder = shipped
    edit = records[1].knowledge_edit
    wrong = edit.model_copy(update={"answer_true": edit.answer_new})
    mixed = [records[0], records[1].model_copy(update={"knowledge_edit": wrong}), *records[2:5]]
    assert records_to_trace(model, encoder, mixed, 10) == [records[0], *records[2:5]]
    assert records_to_trace(model, encoder, mixed, 2) == [records[0], records[2]]
    with pytest.raises(DataError, match="none of 1 facts"):
        records_to_trace(model, encoder, mixed[1:2], 10)


def test_a_question_that_is_too_long_is_named(records: list[Record]) -> None:
    model, encoder = model_and_encoder("llama")
    model.hf.config.max_position_embeddings = 12
    asked = asked_about(records, range(1))
    with pytest.raises(DataError, match=r"'Who founded Gofin.* tokens, and the model reads 12"):
        causal_trace.causal_trace(model, encoder, asked)


def test_the_command_finds_where_the_shipped_model_keeps_its_facts(
    world: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(root)
    words = ["causal_trace", "model=llava_tiny", "data=folder", f"data.root={world}",
             "--facts", "24", "--draws", "1", "--output", str(tmp_path / "trace")]  # fmt: skip
    assert main(words) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "trace" / "trace.json").read_text())
    assert "editor.layer=0" in printed
    assert found["best_layer"] == 0
    assert found["facts"] == 24
    assert found["clean"] > 0.9 > 0.5 > found["corrupted"]
    effect = found["effect"]["mlp"]["subject_last"]
    assert len(effect) == 4
    assert max(effect) == effect[0] > 0.1
    for name in ("trace.png", "trace.pdf"):
        assert (tmp_path / "trace" / name).stat().st_size > 1000
    assert main(words) == 2
    assert "add --overwrite" in capsys.readouterr().err
    for flag, value in (("--facts", "0"), ("--noise", "nan"), ("--noise", "inf")):
        assert main([*words, "--overwrite", flag, value]) == 2
        assert "--facts and --draws" in capsys.readouterr().err


def test_numbers_and_best_layer() -> None:
    mlp = torch.full((len(TOKENS), 3), torch.nan)
    mlp[TOKENS.index("subject_last")] = torch.tensor([0.1, 0.5, 0.2])
    found = Trace(0.9, 0.1, {"state": mlp + 1, "mlp": mlp}, 7)
    assert found.best_layer() == 1
    content = json.loads(json.dumps(found.as_dict()))
    assert content["effect"]["mlp"]["subject_first"] == [None, None, None]
    assert content["effect"]["mlp"]["subject_last"] == pytest.approx([0.1, 0.5, 0.2])


def test_the_heat_map_shows_both_kinds(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    effects = {kind: draw.random((len(TOKENS), 12)) for kind in STATE_KINDS}
    effects["state"][1] = np.nan
    files = trace_figure(effects, TOKENS, tmp_path / "map", model="some model")
    assert [file.name for file in files] == ["map.png", "map.pdf"]
    with Image.open(files[0]) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 100
