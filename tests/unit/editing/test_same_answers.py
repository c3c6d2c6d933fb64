"""Answers through the public interface are the generated answers of an evaluation.

The evaluation makes and asks many edits at once, the interface one question of one edit. Trained
editors have weights that move what they get, and come from a checkpoint of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from configs.check import load_config
from configs.schema import EvaluateConfig, TrainConfig
from datamodules.datamodule import EditDataModule
from datamodules.scenarios import SCENARIOS, Scenario
from editing import open_editor, open_model
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.model import OpenedModel
from editors.base import EditorInputs
from editors.checkpoint import CONFIG, SUBJECTS, stamp
from editors.registry import build_editor
from editors.ultraedit.editor import UltraEdit
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.scoring import Scoring
from metrics.headlines import GENERATION_MATCH
from reporting.labels import PAPER_SCENARIOS
from runner.assembly import open_editor as open_judged
from runner.assembly import open_parts
from tests.builders import trainer

TWINS = ("llava_tiny", "blip2_opt_tiny", "minigpt4_tiny")
SCENARIOS_OF = {  # of others: all
    "rome": ("unimodal", "transitive"),
    "ultraedit": ("unimodal", "transitive"),  # edit.py warms up on edits in text
}
# What is asked: the edit's own question and a paraphrase; of pictures, the edit's and another one.
PROBES = {"reliability", "generality", "reliability_s", "generality_u"}
NOISE = {
    "mend": 0.02,
    "malmen": 0.02,
    "rledit": 0.02,
    "serac": 0.3,
}  # of trained editors: what makes weights of those they begin with
# Of all records, served and looked at: an editor's warm-up is of those that the filter leaves.
UNFILTERED = "data.filter_known=none"
Answers = dict[tuple[int, str], str]  # edit, probe -> text


@pytest.fixture(scope="module")
def opened() -> Callable[[str], OpenedModel]:
    return cache(lambda name: open_model(name, device="cpu"))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, opened: Callable[[str], OpenedModel]
) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("trained")
    return cache(
        lambda name, editor: checkpoint(opened(name), editor, folder / f"{name}_{editor}.ckpt")
    )


def checkpoint(model: OpenedModel, name: str, path: Path) -> Path:
    """A checkpoint of an editor with drawn weights, as a training would have written it."""
    words = ["experiment=demo", f"editor={name}", f"model={model.options.name}"]
    cfg = cast("TrainConfig", load_config("train", words))
    torch.manual_seed(4)
    editor = build_editor(cfg.editor, model.editable, EditorInputs(model.encoder))
    assert isinstance(editor, nn.Module)
    draw, size = torch.Generator().manual_seed(5), NOISE[name]
    with torch.no_grad():
        for key, parameter in editor.named_parameters():
            # Longer steps would end in numbers that are none.
            if key not in ("edit_lr", "log_ridge"):
                parameter.add_(size * torch.randn(parameter.shape, generator=draw))
            if key.endswith("log_scale"):  # of SERAC's scope: questions far from the edit are in it
                parameter.fill_(-8)
    if name in ("mend", "malmen", "rledit"):  # and the statistics of what its networks read
        editor.train()
        taught = FactEditor(cfg.editor, model, editor)  # type: ignore[arg-type]
        for record in cfg.data.read().records("train")[:32]:
            taught.edit(record.knowledge_edit.question, record.knowledge_edit.answer_new)
    weights = {f"editor.{key}": value for key, value in editor.state_dict().items()}
    content: dict[str, Any] = {CONFIG: cfg.plain(), SUBJECTS: [], "state_dict": weights}
    stamp(content, cfg.editor.model_dump(mode="json"), model.editable)
    torch.save(content, path)
    return path


def evaluated(
    model: OpenedModel, words: list[str], scenarios: Sequence[str], n: int
) -> Iterator[tuple[str, Answers, EditDataModule]]:
    """What evaluations of the first records generate, and what they have served.

    Base model, editor and records are opened once for all scenarios.
    """
    words = [
        "experiment=demo", f"model={model.options.name}", *words, f"scenario={scenarios[0]}",
        f"data.limit={n}", UNFILTERED, "metrics.generation=true",
    ]  # fmt: skip
    cfg = cast("EvaluateConfig", load_config("evaluate", words))
    parts = open_parts(cfg, {"test": narrow(scenarios[0])}, torch.device("cpu"))
    editor = open_judged(cfg, parts)
    scoring = Scoring(generation=True, max_new_tokens=cfg.metrics.max_new_tokens)
    for scenario in scenarios:
        data = EditDataModule(parts.data.source, {"test": narrow(scenario)}, limit=n)
        data.connect(parts.inputs.encoder, model.images)
        module = EvaluationModule(
            parts.model, editor, narrow(scenario), parts.inputs.encoder, scoring
        )
        trainer().test(module, datamodule=data, verbose=False)
        lines = [line for line in module.outcome.lines if line["metric"] == GENERATION_MATCH]
        yield (
            scenario,
            {(line["edit_id"], line["probe"]): line["post_text"] for line in lines},
            data,
        )


def narrow(scenario: str) -> Scenario:
    """A scenario that asks little."""
    probes = {name: p for name, p in SCENARIOS[scenario].probes.items() if name in PROBES}
    return replace(SCENARIOS[scenario], probes=probes)


def asked(editor: FactEditor, scenario: str, data: EditDataModule) -> tuple[Answers, Answers]:
    """The same edits and questions one by one: what the edited and the unedited model say."""
    edits: dict[int, FactEdit] = {}
    edited: Answers = {}
    unedited: Answers = {}

    def picture(name: str | None) -> Path | None:
        path = None if name is None else data.source.pictures.path(name)
        assert path is None or isinstance(path, Path)
        return path

    for number, record in enumerate(data.records("test")):
        (taught,) = SCENARIOS[scenario].edit(record)
        edits[number] = editor.edit(
            taught.question, taught.answer, image=picture(taught.image), subject=record.subject
        )
    for number, probe, prompt, _ in data.probe_prompts("test"):
        answer = edits[number].ask(prompt.question, picture(prompt.image))
        edited[number, probe], unedited[number, probe] = answer.text, answer.unedited
    return edited, unedited


def compare(editor: FactEditor, scenarios: Sequence[str], n: int) -> tuple[int, int]:
    """Edits and asks both ways; how many answers there are, and how many an edit has changed."""
    words = [f"ckpt={editor.ckpt}"] if editor.ckpt else [f"editor={editor.options.label}"]
    answers = changed = 0
    for scenario, expected, data in evaluated(editor.model, words, scenarios, n):
        edited, unedited = asked(editor, scenario, data)
        assert edited == expected, scenario
        assert len(edited) == 2 * n
        answers += len(edited)
        changed += sum(edited[at] != unedited[at] for at in edited)
    return answers, changed


@pytest.mark.parametrize("name", ["ft", "grace", "mend"])
def test_answers_are_those_of_an_evaluation(
    name: str, opened: Callable[[str], OpenedModel], trained: Callable[[str, str], Path]
) -> None:
    ckpt = trained("llava_tiny", name) if name in NOISE else None
    editor = open_editor(name, opened("llava_tiny"), UNFILTERED, ckpt=ckpt)
    answers, changed = compare(editor, ["transitive"], 2)
    assert (answers, changed > 0) == (4, True)


def test_a_warm_up_is_of_the_edits_of_an_evaluation(
    opened: Callable[[str], OpenedModel],
) -> None:
    """Of a model that does not know all of the first facts, those that `data.filter_known` says."""
    model = opened("blip2_opt_tiny")
    words = ["experiment=demo", "model=blip2_opt_tiny", "editor=ultraedit", "data.limit=1"]
    cfg = cast("EvaluateConfig", load_config("evaluate", [*words, UNFILTERED]))
    parts = open_parts(cfg, {"test": narrow("unimodal")}, torch.device("cpu"))
    expected = cast("UltraEdit", open_judged(cfg, parts)).warm
    unfiltered, filtered = (
        cast("UltraEdit", open_editor("ultraedit", model, *word).editor).warm
        for word in ([UNFILTERED], [])
    )
    for site, of_site in expected.items():
        ours, theirs = unfiltered[site].keys, of_site.keys
        assert int(ours.count) == int(theirs.count)
        torch.testing.assert_close(ours.mean, theirs.mean, rtol=1e-5, atol=1e-5)
        assert int(filtered[site].keys.count) != int(of_site.keys.count)


@pytest.mark.parametrize(
    "records",
    [pytest.param(9, marks=pytest.mark.quality), pytest.param(50, marks=pytest.mark.odd)],
)
@pytest.mark.parametrize(
    "name", ["ft", "lora", "rome", "ultraedit", "grace", "ike", "mend", "malmen", "rledit", "serac"]
)
def test_answers_are_those_of_evaluations(
    name: str,
    records: int,
    opened: Callable[[str], OpenedModel],
    trained: Callable[[str, str], Path],
) -> None:
    """On three twins: text edits asked in text and about pictures, and edits of pictures."""
    scenarios = SCENARIOS_OF.get(name, PAPER_SCENARIOS)
    n = -(-records // (len(TWINS) * len(scenarios)))
    answers = changed = 0
    for twin in TWINS:
        ckpt = trained(twin, name) if name in NOISE else None
        editor = open_editor(name, opened(twin), UNFILTERED, ckpt=ckpt)
        of_twin = compare(editor, scenarios, n)
        answers, changed = answers + of_twin[0], changed + of_twin[1]
    print(f"{name}: {answers} answers of {answers // 2} records are the same, {changed} changed")
    assert answers >= 2 * records
    assert changed > answers / 4, "the edits move too little for a test"
