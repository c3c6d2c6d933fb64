"""The batched engine against the obvious way: one edit at a time, dense weights, whole forwards.

The reference shares no code with the engine: it copies the transformers model, reads gradients with
full backward hooks, writes edited matrices into the copy, asks every question in a batch of one and
scores the answers with a few lines of Python.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.picture_file import read_image
from datamodules.prompt_encoder import Encoded, PictureLayout, PromptEncoder
from datamodules.prompts import Prompt
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from editors.base import Editor
from editors.mend.editor import Mend
from editors.none.editor import Unedited
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.scoring import Scoring
from metrics.collection import headline_metrics
from metrics.headlines import TEXT_SCENARIOS
from models.multimodal import MultimodalModel
from reporting.labels import PAPER_SCENARIOS
from tests.builders import PICTURED, trainer
from tests.editors import fine_tune
from tests.editors import mend as untrained_mend
from tests.tokenizers_small import opt_tokenizer
from tests.unit.datamodules.test_sources import other as tmke_record
from tests.unit.datamodules.test_sources import write

pytestmark = pytest.mark.parity
TOKENIZER = opt_tokenizer()
IMAGE_ID = TOKENIZER.convert_tokens_to_ids("<image>")
ANSWERS = ("Ford", "General Motors", "Tama Duva", "Lisburg", "the image", "Works")
# Every scenario on one family; the others differ in how they read and where pictures stand.
OTHERS = ("blip2", "minigpt4")
RUNS = [
    *(("llava", name) for name in (*PAPER_SCENARIOS, "joint")),
    *((other, "multimodal") for other in OTHERS),
    pytest.param(
        "llava", "reverse", marks=pytest.mark.odd
    ),  # edits of one row, questions of another
]
FT = {"steps": 40, "lr": 5e-3, "stop_loss": 0.3, "stop_when_argmax": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RecordSource:
    return five_records(tmp_path_factory.mktemp("tmke"))


def five_records(root: Path) -> RecordSource:
    """Five records whose answers have different lengths, with noise for pictures."""
    (root / "images").mkdir()
    draw = np.random.default_rng(0)
    for name in ("a_0.jpeg", "a_1.jpeg", "b.jpeg", "c.jpeg", "d.jpg"):
        noise = draw.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / name)
    records = []
    for number in range(5):
        record = tmke_record(f"Car {number}" + " Works" * (number % 3))
        answer = ANSWERS[number]
        record["knowledge_edit"]["answer_new"] = answer
        record["rephrase_question"]["answer_new"] = answer
        record["one_hop_question"]["answer_new"] = ANSWERS[number + 1]
        records.append(record)
    write(root / "test.json", *records)
    return read_tmke(root)


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> MultimodalModel:
    return PICTURED[request.param](vocabulary=len(TOKENIZER), image_token=IMAGE_ID)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def encoder(model: MultimodalModel, padding: Literal["right", "left"] = "right") -> PromptEncoder:
    layout = PictureLayout(4, IMAGE_ID, model.family == "blip2")
    return PromptEncoder(TOKENIZER, layout, padding_side=padding)


def mend(model: MultimodalModel, source: RecordSource) -> Mend:
    """A MEND editor that does something: its statistics are filled, its networks not identities."""
    torch.manual_seed(1)
    editor = untrained_mend(model, layers=2, rank=8, edit_lr=0.02, sign="descent")
    with torch.no_grad():
        for parameter in editor.transforms.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    data = datamodule(model, source, "multimodal", 5)
    (batch,) = list(data.test_dataloader())
    editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    return editor.eval()


def datamodule(
    model: MultimodalModel,
    source: RecordSource,
    scenario: str,
    batch_size: int,
    padding: Literal["right", "left"] = "right",
) -> EditDataModule:
    data = EditDataModule(source, {"test": SCENARIOS[scenario]}, eval_batch_size=batch_size)
    data.connect(encoder(model, padding), ImageStore(pixels))
    data.setup("test")
    return data


def engine(
    model: MultimodalModel,
    editor: Editor,
    source: RecordSource,
    scenario: str,
    batch_size: int,
    scoring: Scoring | None = None,
    padding: Literal["right", "left"] = "right",
) -> dict[str, float]:
    asks = encoder(model, padding)
    module = EvaluationModule(model, editor, SCENARIOS[scenario], asks, scoring)
    data = datamodule(model, source, scenario, batch_size, padding)
    trainer().test(module, datamodule=data, verbose=False)
    compared = scoring is not None and scoring.positions == "all"
    metrics = headline_metrics(
        module.outcome.scores,
        scenario,
        everywhere=compared,
        positional_image_locality=compared,
        generation=scoring is not None and scoring.generation,
        resamples=2,
    )
    return {name: value.mean for name, value in metrics.items() if value.n}


class Slow:
    """One question at a time on a whole transformers model."""

    def __init__(self, model: MultimodalModel, source: RecordSource) -> None:
        self.root = source.image_root
        self.encoder = encoder(model)

    def logits(self, hf: nn.Module, asked: Prompt) -> tuple[Tensor, Tensor]:
        """Logits that predict the answer's tokens, and these tokens."""
        row = self.encode(asked)
        answer = torch.tensor(row.answer)
        return self.everywhere(hf, asked, row.ids)[:-1][answer[1:]], torch.tensor(row.ids)[answer]

    def encode(self, asked: Prompt) -> Encoded:
        return self.encoder.encode(
            asked.question, asked.answer, picture=asked.image is not None, plain=asked.plain
        )

    def everywhere(self, hf: nn.Module, asked: Prompt, row: list[int]) -> Tensor:
        """Logits at every token of a row."""
        ids = torch.tensor([row])
        picture = (
            {}
            if asked.image is None
            else {"pixel_values": pixels(read_image(Path(self.root) / asked.image))[None]}
        )
        # BLIP-2's own forward asks for a picture, so text alone goes to its language model.
        blind = not picture and hf.config.model_type == "blip-2"
        called = hf.language_model if blind else hf
        logits: Tensor = called(
            input_ids=ids, attention_mask=torch.ones_like(ids), **picture
        ).logits[0]
        return logits


def matrices(hf: PreTrainedModel, layers: int) -> list[nn.Linear]:
    if hf.config.model_type == "blip-2":
        blocks = list(hf.language_model.model.decoder.layers)[-layers:]
        return [matrix for block in blocks for matrix in (block.fc2, block.fc1)]
    llama = hf.model.language_model if hf.config.model_type == "llava" else hf.language_model.model
    blocks = list(llama.layers)[-layers:]
    return [matrix for block in blocks for matrix in (block.mlp.down_proj, block.mlp.up_proj)]


def slow_ft(slow: Slow, hf: PreTrainedModel, edit: Sequence[Prompt]) -> None:
    weights = [matrix.weight.requires_grad_(True) for matrix in matrices(hf, 1)]
    optimizer = torch.optim.Adam(weights, lr=FT["lr"])
    for _ in range(int(FT["steps"])):
        answered = [slow.logits(hf, prompt) for prompt in edit]
        losses = torch.stack([nn.functional.cross_entropy(*one) for one in answered])
        known = all(bool((logits.argmax(-1) == target).all()) for logits, target in answered)
        if known and bool((losses < FT["stop_loss"]).all()):
            break
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()


def slow_mend(editor: Mend) -> Callable[[Slow, PreTrainedModel, Sequence[Prompt]], None]:
    def edit_copy(slow: Slow, hf: PreTrainedModel, edit: Sequence[Prompt]) -> None:
        edited = matrices(hf, 2)
        inputs: dict[nn.Module, list[Tensor]] = {matrix: [] for matrix in edited}
        deltas: dict[nn.Module, list[Tensor]] = {matrix: [] for matrix in edited}
        handles = []
        for matrix in edited:
            matrix.weight.requires_grad_(True)
            handles += [
                matrix.register_forward_hook(
                    lambda m, x, _y: inputs[m].append(x[0].detach().flatten(0, -2))
                ),
                matrix.register_full_backward_hook(
                    lambda m, _x, y: deltas[m].append(y[0].flatten(0, -2))
                ),
            ]
        for prompt in edit:  # one after the other: no token is shared
            (nn.functional.cross_entropy(*slow.logits(hf, prompt)) / len(edit)).backward()
        for handle in handles:
            handle.remove()
        shapes: list[tuple[int, int]] = []
        for matrix, site, step in zip(edited, editor.sites, editor.edit_lr, strict=True):
            shape = (matrix.in_features, matrix.out_features)
            x, delta = torch.cat(inputs[matrix]), torch.cat(deltas[matrix])
            alive = (x != 0).any(-1) & (delta != 0).any(-1)
            network = editor.transforms["{}x{}".format(*shape)]
            assert site.layer in (1, 2)
            x, delta = network(x[alive], delta[alive], shapes.count(shape))
            shapes.append(shape)
            with torch.no_grad():
                matrix.weight -= step * sum(
                    torch.outer(d, v) for d, v in zip(delta, x, strict=True)
                )

    return edit_copy


def reference(
    model: MultimodalModel,
    apply: Callable[[Slow, PreTrainedModel, Sequence[Prompt]], None],
    source: RecordSource,
    scenario: str,
) -> dict[str, float]:
    slow, table = Slow(model, source), SCENARIOS[scenario]
    scores: dict[str, list[float]] = {}
    for record in source.records("test"):
        edited = copy.deepcopy(model.hf)
        apply(slow, edited, table.edit(record))
        for name, value in score(slow, model.hf, edited, record, scenario).items():
            scores.setdefault(name, []).append(value)
    return {name: 100 * fmean(values) for name, values in scores.items()}


@torch.no_grad()
def score(
    slow: Slow, before: nn.Module, after: nn.Module, record: Record, scenario: str
) -> dict[str, float]:
    """The headline metrics of one record, spelled out."""
    probes = {name: ask(record) for name, ask in SCENARIOS[scenario].probes.items()}
    right, same, first = {}, {}, {}
    for name, asked in probes.items():
        if asked is None:
            continue
        old, new = slow.logits(before, asked), slow.logits(after, asked)
        right[name] = (new[0].argmax(-1) == new[1]).float().mean().item()
        same[name] = (new[0].argmax(-1) == old[0].argmax(-1)).float().mean().item()
        first[name] = float(new[0][0].argmax() == new[1][0])
    stable = fmean([right["stability_same"], right["stability_diff"]])
    found = {
        "Stability": stable,
        "Leak": fmean([right["leak_same"], right["leak_diff"]]),
        "Portability": right["portability"],
    }
    if scenario in TEXT_SCENARIOS:
        return found | {
            "Reliability": right["reliability"],
            "Reliability_EM": float(right["reliability"] == 1),
            "Reliability_first": first["reliability"],
            "Specificity": right["reliability"] - right["leak_same"],
            "Specificity_diff_EM": float(right["reliability"] == 1) - (right["leak_diff"] == 1),
            "Generality": right["generality"],
            "Locality": same["locality_far"],
        }
    if scenario == "joint":
        found |= {
            "Reliability_T": right["reliability_t"],
            "Generality_T": right["generality_t"],
            "Portability_T_EM": float(right["portability_t"] == 1),
            "Stability_T": fmean([right["stability_same_t"], right["stability_diff_t"]]),
            "Leak_T": fmean([right["leak_same_t"], right["leak_diff_t"]]),
        }
    return found | {
        "Reliability_S": right["reliability_s"],
        "Reliability_U": right["reliability_u"],
        "Specificity_S": right["reliability_s"] - right["leak_same"],
        "Specificity_U_first": first["reliability_u"] - first["leak_same"],
        "Generality_S": right["generality_s"],
        "Generality_S_first": first["generality_s"],
        "Generality_U_EM": float(right["generality_u"] == 1),
        "Locality_T": same["locality_t_far"],
        "Locality_I": same["locality_i_far"],
    }


@pytest.mark.parametrize(("model", "scenario"), RUNS, indirect=["model"])
@pytest.mark.parametrize("kind", ["mend", "ft"])
def test_engine_equals_the_slow_reference(
    model: MultimodalModel, source: RecordSource, scenario: str, kind: str
) -> None:
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    if kind == "mend":
        trained = mend(model, source)
        editor, apply = trained, slow_mend(trained)
    else:
        editor, apply = fine_tune(**FT), slow_ft  # type: ignore[assignment]
    expected = reference(model, apply, source, scenario)
    for batch_size in (1, 2, 5) if scenario in PAPER_SCENARIOS else (2,):
        found = engine(model, editor, source, scenario, batch_size)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-6), (name, batch_size)
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    moved = "Locality" if scenario in TEXT_SCENARIOS else "Locality_T"
    assert found[moved] < 100, "the edit changed nothing, so this test shows nothing"


@pytest.mark.parametrize(("model", "scenario"), RUNS, indirect=["model"])
def test_the_unedited_model_keeps_all_its_answers(
    model: MultimodalModel, source: RecordSource, scenario: str
) -> None:
    found = engine(model, Unedited(), source, scenario, 2)
    assert all(value == 100 for name, value in found.items() if name.startswith("Locality"))


@torch.no_grad()
def published(
    slow: Slow, before: nn.Module, after: nn.Module, record: Record, longest: int
) -> dict[str, float]:
    """Locality at every token, and what the edited model says freely, spelled out."""
    probes = {name: ask(record) for name, ask in SCENARIOS["multimodal"].probes.items()}
    found = {}
    for name, k in (("locality_t_far", 1), ("locality_i_far", 10)):
        asked = probes[name]
        assert asked is not None
        ids = slow.encode(asked).ids
        old, new = (slow.everywhere(hf, asked, ids).topk(k).indices for hf in (before, after))
        found[name] = (old == new).float().mean().item()
    for name in ("reliability_s", "stability_same"):
        asked = probes[name]
        assert asked is not None
        row = slow.encode(asked)
        ids, said = row.ids[: row.answer.index(True)], list[int]()
        while len(said) < max(longest, sum(row.answer)):
            said.append(int(slow.everywhere(after, asked, ids + said)[-1].argmax()))
            if said[-1] == TOKENIZER.eos_token_id or "\n" in TOKENIZER.decode(said):
                break
        text = TOKENIZER.decode([i for i in said if i != TOKENIZER.eos_token_id])
        first = text.lstrip(" ").split("\n")[0]
        compared = [
            [word for word in words.lower().split() if word not in ("a", "an", "the")]
            for words in (first, asked.answer)
        ]
        found[name] = float(compared[0] == compared[1])
    return found


@pytest.mark.parametrize("model", [*OTHERS, "llava"], indirect=True)
def test_the_published_locality_and_generated_answers_equal_the_slow_reference(
    model: MultimodalModel, source: RecordSource
) -> None:
    editor = fine_tune(**FT)
    slow, scores = Slow(model, source), dict[str, list[float]]()
    for record in source.records("test"):
        edited = copy.deepcopy(model.hf)
        slow_ft(slow, edited, SCENARIOS["multimodal"].edit(record))
        for name, value in published(slow, model.hf, edited, record, 3).items():
            scores.setdefault(name, []).append(value)
    expected = {name: 100 * fmean(values) for name, values in scores.items()}
    scoring = Scoring("all", generation=True, max_new_tokens=3)
    for size, padding in ((1, "right"), (2, "left"), (5, "right")):
        found = engine(model, editor, source, "multimodal", size, scoring, padding)
        assert found["Locality_T"] == pytest.approx(expected["locality_t_far"], abs=1e-4)
        assert found["Locality_I"] == pytest.approx(expected["locality_i_far"], abs=1e-4)
        assert found["Reliability_S_GM"] == expected["reliability_s"]
        assert found["Stability_same_GM"] == expected["stability_same"]
    assert found["Locality_I"] < 100
