"""An edit kept in a folder answers as the one that was saved, and a damaged folder is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file

from datamodules.records import Record
from datamodules.source import RecordSource
from editing import load_edit, open_editor, open_model
from editing.card import CARD, DELTAS, PICTURES, read_card
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.model import OpenedModel
from editors.base import DeltaEdit
from errors import ConfigError, DataError, ModelError
from models.deltas import LowRankDelta, Site
from models.folder import sha256
from tests.edit_cases import teach, untrained_checkpoint

OPTIONS: dict[str, dict[str, Any]] = {
    "ft": {"steps": 3}, "ft_l": {"steps": 3}, "rome": {"steps": 2},
    "memit": {"steps": 2, "contexts": []},
    "lora": {"steps": 3, "matrices": ["value", "mlp_gate"]}, "ike": {"k": 2}, "mend": {},
    "grace": {"steps": 5}, "malmen": {}, "rledit": {}, "serac": {}, "ultraedit": {"warm_up": 4},
}  # fmt: skip


NOTHING_SHOWN = {"demonstrations": [], "statements": [], "questions": [], "stored": False}
NAMELESS: dict[str, Any] = {"label": "ft", "options": {}, "ckpt": None, "data": None}


@pytest.fixture(scope="module")
def opened(
    model: OpenedModel, record: Record, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], FactEditor]:
    """An editor of each kind; the trained ones from checkpoints of untrained networks."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def open_(name: str) -> FactEditor:
        trained = {}
        if name in ("mend", "malmen", "rledit", "serac"):
            path = folder / f"{name}.ckpt"
            trained["ckpt"] = (
                path if path.exists() else untrained_checkpoint(name, model, record, path)
            )
        return open_editor(name, model, **trained, **OPTIONS[name])

    return open_


@pytest.fixture
def saved(edit: FactEdit, tmp_path: Path) -> Path:
    return edit.save(tmp_path / "edit")


def same_answers(first: FactEdit, second: FactEdit, record: Record, picture: Path) -> None:
    """To the last bit: the probabilities are those of whole answers."""
    question = record.rephrase_question.rephrase_question
    assert first.ask(question) == second.ask(question)
    asked = str(record.knowledge_edit.image_question)
    assert first.ask(asked, picture) == second.ask(asked, picture)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_edit_answers_bit_for_bit_as_the_one_that_was_saved(
    name: str,
    opened: Callable[[str], FactEditor],
    model: OpenedModel,
    source: RecordSource,
    tmp_path: Path,
) -> None:
    editor, (first, second) = opened(name), (source.records("test")[n] for n in (0, 7))
    picture = source.pictures.path(str(first.image))
    one = teach(editor, first)
    both = one + teach(editor, second)
    for edit in (one, both):
        read = load_edit(edit.save(tmp_path / "edit", overwrite=True), model, ckpt=editor.ckpt)
        assert read.facts == edit.facts
        assert all(made.options == editor.options for made in read.editors)
        same_answers(edit, read, first, picture)
    again = load_edit(read.save(tmp_path / "again"), model, ckpt=editor.ckpt)
    same_answers(both, again, first, picture)


def test_factors_stay_factors_and_number_types_stay(
    opened: Callable[[str], FactEditor], record: Record, model: OpenedModel, tmp_path: Path
) -> None:
    edit = teach(opened("rome"), record)
    ((site, delta),) = edit.deltas.items()
    assert isinstance(delta, LowRankDelta)
    half = LowRankDelta(delta.inputs.bfloat16(), delta.outputs.half())
    changed = FactEdit(edit.facts, edit.editor, DeltaEdit({site: half}))
    tensors = load_file(changed.save(tmp_path / "edit") / DELTAS)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        f"{site.layer}.mlp_out.inputs": torch.bfloat16,
        f"{site.layer}.mlp_out.outputs": torch.float16,
    }
    read = load_edit(tmp_path / "edit", model).deltas[Site(site.layer, "mlp_out")]
    assert torch.equal(read.dense(), half.dense())


def test_a_sum_of_several_methods_names_them_all(
    opened: Callable[[str], FactEditor],
    edit: FactEdit,
    source: RecordSource,
    model: OpenedModel,
    tmp_path: Path,
) -> None:
    located = teach(opened("rome"), source.records("test")[7])
    both = located + edit
    card = read_card(both.save(tmp_path / "edit"))
    assert card.label == "rome + ft"
    assert [fact.method for fact in card.facts] == [0, 1]
    read = load_edit(tmp_path / "edit", model)
    assert [made.options.label for made in read.editors] == ["rome", "ft"]
    question = edit.facts[0].question
    assert read.ask(question) == both.ask(question)
    more = edit + read
    assert [made.options.label for made in more.editors] == ["ft", "rome", "ft"]


def test_pictures_go_along(
    fine_tuning: FactEditor,
    record: Record,
    source: RecordSource,
    model: OpenedModel,
    tmp_path: Path,
) -> None:
    fact, path = record.knowledge_edit, source.pictures.path(str(record.image))
    with Image.open(path) as image:
        edit = fine_tuning.edit(str(fact.image_question), fact.answer_new, image=image.copy())
    read = load_edit((edit + edit).save(tmp_path / "edit"), model)
    pictures = list((tmp_path / "edit" / PICTURES).iterdir())
    assert len(pictures) == 1  # each once
    assert [one.image for one in read.facts] == pictures * 2
    question = str(fact.image_question)
    assert (
        read.ask(question, pictures[0]).probabilities
        == (edit + edit).ask(question, path).probabilities
    )
    gone = FactEdit((edit.facts[0], type(edit.facts[0])("q", "a", tmp_path / "a.png")), edit.editor,
                    edit.value, edit.editors)  # fmt: skip
    with pytest.raises(DataError, match=r"a\.png"):
        gone.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_a_camera_notes_does_not_go_along(
    fine_tuning: FactEditor, record: Record, source: RecordSource, model: OpenedModel,
    tmp_path: Path,
) -> None:  # fmt: skip
    """A folder may be shared: a picture's pixels are in it, and nothing else of its file."""
    fact, turned = record.knowledge_edit, Image.Exif()
    turned[ExifTags.Base.Orientation], turned[ExifTags.Base.Artist] = 6, "Alice of Lyon"
    photograph = tmp_path / "photograph.jpg"
    with Image.open(source.pictures.path(str(record.image))) as image:
        image.convert("RGB").save(photograph, exif=turned)
    edit = fine_tuning.edit(str(fact.image_question), fact.answer_new, image=photograph)
    read = load_edit(edit.save(tmp_path / "edit"), model)
    stored = read.facts[0].image
    assert stored is not None
    assert b"Alice" in photograph.read_bytes()
    assert b"Alice" not in stored.read_bytes()
    question = str(fact.image_question)
    assert read.ask(question, stored).probabilities == edit.ask(question, photograph).probabilities


def test_the_card_says_what_it_is_and_names_no_place_of_this_machine(
    opened: Callable[[str], FactEditor], record: Record, root: Path, tmp_path: Path
) -> None:
    editor = opened("serac")
    folder = teach(editor, record).save(tmp_path / "edit")
    card, text = read_card(folder), (folder / CARD).read_text()
    assert (card.base.name, card.base.hub, card.prompt) == ("llava_tiny", None, "default")
    assert card.base.fingerprint == editor.model.fingerprint()
    (method,) = card.methods
    assert method.ckpt is not None
    assert (method.ckpt.name, method.ckpt.sha256) == ("serac.ckpt", sha256(Path(str(editor.ckpt))))
    assert method.options["scope"]["threshold"] == editor.options.model_dump()["scope"]["threshold"]
    assert [(one.what, one.licence.split()[0]) for one in card.data] == [
        ("facts", "unknown"), ("training of the editor", "MIT"),
    ]  # fmt: skip
    assert card.data[1].source == "data=world (drawn by this project (docs/data.md))"
    assert {"torch", "transformers", "tmke"} <= card.versions.keys()
    assert str(tmp_path.parent) not in text
    assert str(root) not in text


def test_its_licence_is_that_of_what_its_editor_was_trained_on(
    opened: Callable[[str], FactEditor], record: Record, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The records it is judged on, or those of the command line, are others."""
    terms = {"source": "hub", "origin": "https://example.org/set", "licence": "CC-BY-4.0"}
    monkeypatch.setattr("editing.editor.terms_of_training", lambda _: terms)
    known = opened("serac")
    editor = open_editor("serac", known.model, "data=world", ckpt=known.ckpt)
    folder = teach(editor, record).save(tmp_path / "edit")
    card = read_card(folder)
    assert card.methods[0].data == card.data[1].data == "hub"
    assert card.data[1].source == "data=hub (https://example.org/set)"
    assert card.data[1].licence == "CC-BY-4.0"
    read = load_edit(folder, known.model, ckpt=known.ckpt)
    assert read_card(read.save(tmp_path / "again")).data == card.data


def test_nothing_is_overwritten_silently(edit: FactEdit, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"already holds an edit.*overwrite=True"):
        edit.save(saved)
    before = (saved / DELTAS).stat().st_ino
    edit.save(saved, overwrite=True)
    assert (saved / DELTAS).stat().st_ino != before
    (saved / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds no edit, or more than one"):
        edit.save(saved, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        edit.save(tmp_path / "file")


def test_an_edit_of_another_base_model_is_refused(
    saved: Path, model: OpenedModel, tmp_path: Path
) -> None:
    other = open_model("minigpt4_tiny", device="cpu")
    with pytest.raises(ModelError, match=f"{model.fingerprint()}.*{other.fingerprint()}.*again"):
        load_edit(saved, other)


def cut(folder: Path) -> None:
    (folder / DELTAS).write_bytes((folder / DELTAS).read_bytes()[:-100])


def changed_card(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / CARD).read_text()) | values
        (folder / CARD).write_text(json.dumps(content))

    return change


def changed_deltas(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Other deltas, whose hash is right."""
    save_file(change(load_file(folder / DELTAS)), folder / DELTAS)
    changed_card(sha256={DELTAS: sha256(folder / DELTAS)})(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / CARD).unlink(), "holds no edit.json"),
        (lambda folder: (folder / CARD).write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / CARD).write_text("{}"), "is not the card of an edit"),
        (changed_card(version=2), "has version 2, and version 1 is read"),
        (changed_card(colour="red"), "colour: Extra inputs"),
        (changed_card(facts=[]), "facts: List should have at least 1"),
        (changed_card(sha256={"../a": "0"}), "outside the folder"),
        (changed_card(kind="demonstrations", shown=NOTHING_SHOWN), "not one entry for each fact"),
        (changed_card(methods=[NAMELESS]), "options of editor=ft are not those of an editor"),
        (lambda folder: (folder / DELTAS).unlink(), "deltas.safetensors is not there"),
        (cut, "deltas.safetensors is not what was written"),
        (lambda folder: shutil.rmtree(folder), "there is no such folder"),
    ],
)
def test_a_damaged_folder_is_refused(
    saved: Path, model: OpenedModel, damage: Callable[[Path], None], message: str
) -> None:
    damage(saved)
    with pytest.raises(ModelError, match=message):
        load_edit(saved, model)


def test_deltas_that_do_not_fit_are_refused(saved: Path, model: OpenedModel) -> None:
    changed_deltas(saved, lambda tensors: {n: t[:, :-1].contiguous() for n, t in tensors.items()})
    with pytest.raises(ModelError, match="it belongs to another model"):
        load_edit(saved, model)
    changed_deltas(saved, lambda tensors: {n.replace("3.", "9."): t for n, t in tensors.items()})
    with pytest.raises(ModelError, match="layer 9 was asked for"):
        load_edit(saved, model)
    changed_deltas(saved, lambda tensors: {"weight": torch.zeros(2, 2)})
    with pytest.raises(ModelError, match=r"LAYER|<layer>"):
        load_edit(saved, model)


def test_serac_asks_for_its_own_checkpoint(
    opened: Callable[[str], FactEditor], record: Record, model: OpenedModel, tmp_path: Path
) -> None:
    editor = opened("serac")
    folder = teach(editor, record).save(tmp_path / "edit")
    with pytest.raises(ModelError, match=r"serac\.ckpt.*ckpt=FILE"):
        load_edit(folder, model)
    other = untrained_checkpoint("mend", model, record, tmp_path / "other.ckpt")
    with pytest.raises(ModelError, match=r"other\.ckpt has sha256 .*made with serac\.ckpt"):
        load_edit(folder, model, ckpt=other)
    with pytest.raises(ModelError, match="there is no such file"):
        load_edit(folder, model, ckpt=tmp_path / "none.ckpt")


def test_the_checkpoint_that_a_card_names_is_the_one_that_made_the_edit(
    opened: Callable[[str], FactEditor], record: Record, model: OpenedModel, tmp_path: Path
) -> None:
    """Another training may have written to that place meanwhile."""
    editor = opened("serac")
    edit = teach(editor, record)
    folder, path = edit.save(tmp_path / "edit"), tmp_path / "best.ckpt"
    shutil.copyfile(str(editor.ckpt), path)
    methods = read_card(folder).model_dump()["methods"]
    methods[0]["ckpt"]["name"] = str(path)
    changed_card(methods=methods)(folder)
    read = load_edit(folder, model)
    assert len((read + edit).facts) == 2  # of two openings, and of one training
    content = torch.load(path)
    next(w for name, w in content["state_dict"].items() if "scope" in name).add_(1)
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"best\.ckpt has sha256"):
        load_edit(folder, model)
    again = teach(open_editor("serac", model, ckpt=path), record)
    with pytest.raises(ModelError, match="two trainings"):
        edit + again


def test_an_edit_that_was_read_makes_no_others(
    saved: Path, model: OpenedModel, fine_tuning: FactEditor, record: Record
) -> None:
    read = load_edit(saved, model)
    with pytest.raises(ModelError, match=r"open_editor\('ft', model\)"):
        read.editor.edit("Who?", "Me")
    assert len((read + teach(fine_tuning, record)).facts) == 2
