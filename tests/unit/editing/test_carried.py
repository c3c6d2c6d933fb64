"""What an edit of weights carries for later turns comes back from its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datamodules.source import RecordSource
from editing import load_edit, open_editor
from editing.card import CARD, CODEBOOK, DELTAS, KEYS, MEMORY, PICTURES, STATISTICS, read_card
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.model import OpenedModel
from editors.base import DeltaEdit
from editors.hub import EDIT_FILES
from editors.memit.editor import KeyedEdit, Memit
from editors.ultraedit.editor import LifelongEdit
from errors import ModelError
from models.deltas import linear_shape
from models.folder import sha256
from models.tensor_file import TensorFile
from tests.edit_cases import teach

Tensors = dict[str, Tensor]


def alphaedit(model: OpenedModel) -> FactEditor:
    """Updates of two layers in the null space of second moments that are drawn."""
    editor = open_editor("memit", model, steps=2, contexts=[], layers=[1, 2])
    options = editor.options.model_copy(update={"null_space": True, "threshold": 0.3})
    known = Memit(options, model.encoder)  # type: ignore[arg-type]
    draw, moments = torch.Generator().manual_seed(3), {}
    for site in known.coordinates:
        width = linear_shape(model.editable.linear(site))[0]
        keys = torch.randn(width // 2, width, generator=draw)
        moments[site.layer] = keys.mT @ keys / len(keys)
    method = Memit(options, model.encoder, (), moments)  # type: ignore[arg-type]
    return replace(editor, options=options, editor=method)


EDITORS: dict[str, Callable[[OpenedModel], FactEditor]] = {
    "alphaedit": alphaedit,
    "ultraedit": lambda model: open_editor("ultraedit", model, warm_up=4),
    "whitened": lambda model: open_editor("ultraedit", model, warm_up=4, whitening=True),
}
FILES = {"alphaedit": KEYS, "ultraedit": STATISTICS, "whitened": STATISTICS}


@pytest.fixture(scope="module")
def opened(model: OpenedModel) -> Callable[[str], FactEditor]:
    made: dict[str, FactEditor] = {}

    def open_(name: str) -> FactEditor:
        if name not in made:
            made[name] = EDITORS[name](model)
        return made[name]

    return open_


def dense(edit: FactEdit) -> Tensors:
    return {site.key: delta.dense() for site, delta in edit.deltas.items()}


@pytest.mark.parametrize("name", EDITORS)
def test_the_next_turn_goes_on_from_an_edit_that_was_read(
    name: str,
    opened: Callable[[str], FactEditor],
    model: OpenedModel,
    source: RecordSource,
    tmp_path: Path,
) -> None:
    editor, records = opened(name), source.records("test")
    first = teach(editor, records[0]) + teach(editor, records[5])
    read = load_edit(first.save(tmp_path / "edit"), model)
    assert FILES[name] in read_card(tmp_path / "edit").sha256
    assert type(read.value) is type(first.value)
    deltas_alone = replace(first, value=DeltaEdit(first.deltas))
    fact = records[7].knowledge_edit

    def on_top(of: FactEdit) -> FactEdit:
        subject = records[7].subject
        return editor.edit(fact.question, fact.answer_new, subject=subject, on=of)

    expected, forgetful = on_top(first), dense(on_top(deltas_alone))
    again = load_edit(on_top(read).save(tmp_path / "again"), model)
    for key, delta in dense(expected).items():
        assert torch.equal(dense(again)[key], delta)
        assert (forgetful[key] - delta).abs().max() > 1e-3 * delta.abs().max()
    if isinstance(expected.value, KeyedEdit):
        assert isinstance(again.value, KeyedEdit)
        for site, keys in expected.value.keys.items():
            assert keys.shape[:2] == (1, 3)
            assert torch.equal(again.value.keys[site], keys)
    else:
        assert isinstance(expected.value, LifelongEdit)
        assert isinstance(again.value, LifelongEdit)
        for site, seen in expected.value.seen.items():
            assert torch.equal(again.value.seen[site].gradients.scatter, seen.gradients.scatter)
            assert torch.equal(again.value.seen[site].keys.count, seen.keys.count)


def test_other_edits_of_weights_carry_nothing(
    edit: FactEdit, opened: Callable[[str], FactEditor], source: RecordSource, tmp_path: Path
) -> None:
    keyed = teach(opened("alphaedit"), source.records("test")[0])
    for number, value in enumerate((edit, keyed + edit)):  # the last method goes on
        folder = value.save(tmp_path / str(number))
        assert sorted(read_card(folder).sha256) == [DELTAS]
    folder = (edit + keyed).save(tmp_path / "keyed")
    assert sorted(read_card(folder).sha256) == [DELTAS, KEYS]
    edit.save(folder, overwrite=True)
    assert not (folder / KEYS).exists()


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t for name, t in tensors.items() if not name.endswith(part)}


def alone(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: next(iter(tensors.values()))}


def narrower(part: str) -> Callable[[Tensors], Tensors]:
    return lambda ts: {name: t[:, 1:] if name.endswith(part) else t for name, t in ts.items()}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("alphaedit", narrower("mlp_out"), r"\(any, \d+\) is expected"),
        ("alphaedit", alone("1.up_proj"), r"holds 1\.up_proj; linear maps named <layer>\.<"),
        ("alphaedit", alone("9.mlp_out"), "layer 9 was asked for"),
        ("ultraedit", without("gradients.mean"), r"has no 2\.mlp_out\.gradients\.mean"),
        ("ultraedit", alone("mean"), "holds mean; linear maps"),
        ("ultraedit", narrower("mean"), "keys.mean of shape"),
    ],
)
def test_other_contents_are_refused(
    name: str,
    change: Callable[[Tensors], Tensors],
    message: str,
    opened: Callable[[str], FactEditor],
    model: OpenedModel,
    source: RecordSource,
    tmp_path: Path,
) -> None:
    folder = teach(opened(name), source.records("test")[0]).save(tmp_path / "edit")
    path = folder / FILES[name]
    facts = dict(TensorFile.of(path, remedy="").facts)
    content = {n: t.contiguous() for n, t in change(load_file(path)).items()}
    save_file(content, path, facts)
    card: dict[str, Any] = json.loads((folder / CARD).read_text())
    card["sha256"][path.name] = sha256(path)
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=message):
        load_edit(folder, model)
    path.unlink()
    with pytest.raises(ModelError, match=rf"{path.name} is not there"):
        load_edit(folder, model)


def test_a_hub_hands_out_every_file_of_an_edit() -> None:
    files = {DELTAS, KEYS, STATISTICS, CODEBOOK, f"{MEMORY}/*", f"{PICTURES}/*"}
    assert set(EDIT_FILES) == files
