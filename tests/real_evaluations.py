"""Whole evaluations of TMKE's records under released vocabularies, with tiny random models.

To the benchmark's records come some whose answers and questions a tokenizer finds hard: numbers,
letters beyond ASCII, blanks in front, line breaks. Their pictures are noise.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from datamodules.sources.tmke import read_tmke
from editors.base import Editor, EditorInputs
from editors.mend.editor import build as build_mend
from editors.none.editor import Unedited
from editors.rome.editor import build as build_rome
from editors.serac.editor import build as build_serac
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.scoring import Scoring
from models.editable import EditableModel
from results.outcome import Outcome
from tests.builders import trainer
from tests.editors import editor_options, fine_tune, ike, lora
from tests.real_tokenizers import SIDE, tmke_file

# subject, new answer, what stands around the edit's question
HARD = (
    ("Holden 350", "350lbs", "{}"),
    ("Łódź Motors", "1,200", "  {}"),
    ("東京タワー", "東京都", "{}"),
    ("Café Zoë", "naïve façade 🚀", "Line one.\n{}"),
    ("O'Neill & Co.", "3.14", "{} "),
    ("Wild Boar", " 0", "{}\nIn one word:"),
    ("Kim", "two\nlines", "{}"),
    ("Model 7", "2007", "In 2008: {}"),
)
EVERYTHING = Scoring("all", generation=True, max_new_tokens=4)
ANSWERS = Scoring("answer", generation=True, max_new_tokens=2)
Padding = Literal["right", "left"]
Values = Mapping[tuple[str, str], Mapping[int, float]]


def write_records(root: Path, n: int) -> Path:
    """A folder with `n` records of TMKE's and the hard ones, 16 to train on, and pictures."""
    records = json.loads(tmke_file().read_text(encoding="utf-8"))
    hard = [_about(records[number], *of) for number, of in enumerate(HARD)]
    other = [_about(record, f"{record['subject']} Beta", None, "{}") for record in records[:16]]
    (root / "images").mkdir(parents=True)
    for file, part in (("test.json", [*hard, *records[:n]]), ("train.json", other)):
        (root / file).write_text(json.dumps(part), encoding="utf-8")
        for record in part:
            for name in {v for key, v in record.items() if "image" in key and isinstance(v, str)}:
                _draw(root / "images" / name)
    return root


def _about(record: dict[str, Any], subject: str, answer: str | None, around: str) -> dict[str, Any]:
    """A record about another subject, with another answer and another wording of its edit."""
    old, new = (json.dumps(name)[1:-1] for name in (record["subject"], subject))
    changed: dict[str, Any] = json.loads(json.dumps(record).replace(old, new))
    pictures = {k: v for k, v in record.items() if "image" in k and isinstance(v, str)}
    changed |= pictures  # they keep their names
    edit = changed["knowledge_edit"]
    edit["question"] = around.format(edit["question"])
    for part in ("knowledge_edit", "rephrase_question", "one_hop_question"):
        if answer is not None:
            changed[part]["answer_new"] = answer
    return {key: changed[key] for key in changed if "hops" not in key}


def _draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draw = np.random.default_rng(list(path.name.encode()))
        noise = draw.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


class FirstRecords:
    """Finds the first training records, whatever the edit is."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)

    def nearest(self, facts: Sequence[str], k: int) -> list[list[Record]]:
        return [self.records[:k] for _ in facts]


def _mend(model: EditableModel, inputs: EditorInputs, data: EditDataModule) -> Editor:
    torch.manual_seed(4)
    options = editor_options("mend", layers=2, rank=8, sign="descent", edit_lr=0.05, v_init_std=0.1)
    editor = build_mend(options, model, inputs)
    with torch.no_grad():
        for parameter in editor.transforms.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    batch = next(iter(data.batches("test", [[0, 1, 2]])))
    editor.train()
    editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    return editor.eval()  # type: ignore[return-value]


def _serac(model: EditableModel, inputs: EditorInputs, combine: str) -> Editor:
    torch.manual_seed(5)
    sizes = {"layers": 1, "heads": 2, "mlp_width": 24, "init_std": 0.2}
    options = editor_options(
        "serac", combine=combine,
        scope={"encoder": "fresh", "pooling": "mean", "scale": 0.05, "sizes": sizes},
        counterfactual={"path": "fresh", "sizes": sizes},
    )  # fmt: skip
    editor = build_serac(options, model, inputs)
    with torch.no_grad():
        for linear in (editor.scope.pictures, editor.counterfactual.pictures):
            if linear is not None:
                linear.weight.normal_(std=0.5)
    return editor  # type: ignore[return-value]


def _rome(model: EditableModel, inputs: EditorInputs) -> Editor:
    options = editor_options("rome", layer=0, steps=3, contexts=[[4, 2]], lr=0.1)
    return build_rome(options, model, inputs)


# name -> (model, its inputs, data that is set up) -> editor
EDITORS: dict[str, Callable[[EditableModel, EditorInputs, EditDataModule], Editor]] = {
    "none": lambda *_: Unedited(),
    "ft": lambda *_: fine_tune(layers=1, steps=3, lr=2e-2),
    "lora": lambda *_: lora(layers=2, rank=2, alpha=4, steps=3, lr=2e-2),
    "rome": lambda model, inputs, _: _rome(model, inputs),
    "mend": _mend,
    "ike": lambda _, inputs, __: ike(inputs.encoder, FirstRecords(inputs.training), k=3),
    "ike_front": lambda _, inputs, __: ike(
        inputs.encoder, FirstRecords(inputs.training), k=3, picture="front"
    ),
    "serac": lambda model, inputs, _: _serac(model, inputs, "soft"),
    "serac_hard": lambda model, inputs, _: _serac(model, inputs, "hard"),
}


def served(
    source: RecordSource, scenario: str, encoder: PromptEncoder, size: int
) -> EditDataModule:
    """The records as batches of edits."""
    data = EditDataModule(source, {"test": SCENARIOS[scenario]}, eval_batch_size=size)
    data.connect(encoder, ImageStore(pixels))
    data.setup("test")
    return data


def evaluated(
    model: EditableModel,
    name: str,
    source: RecordSource,
    scenario: str,
    encoder: PromptEncoder,
    size: int,
    scoring: Scoring = EVERYTHING,
) -> Outcome:
    """A whole evaluation in batches of a size."""
    data = served(source, scenario, encoder, size)
    editor = EDITORS[name](model, EditorInputs(encoder, source.training_records), data)
    module = EvaluationModule(model, editor, SCENARIOS[scenario], encoder, scoring)
    trainer().test(module, datamodule=data, verbose=False)
    return copy.deepcopy(module.outcome)


def records_source(root: Path) -> RecordSource:
    return read_tmke(root, files=["test.json"], train_files=["train.json"])
