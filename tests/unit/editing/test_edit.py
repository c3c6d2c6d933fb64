"""The public Python interface: one edit at a time, on the engine of the evaluation."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from configs.check import load_config
from configs.schema import EvaluateConfig
from datamodules.picture_file import read_image
from datamodules.records import Record
from datamodules.source import RecordSource
from editing import load_edit, open_editor, open_model
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.model import OpenedModel
from editors.ultraedit.editor import LifelongEdit
from errors import ConfigError, DataError, ModelError
from models.offloaded import is_spread
from tests.edit_cases import teach
from tests.spread import room_for


def test_an_edit_changes_the_answer_and_the_base_model_stays(
    edit: FactEdit, record: Record
) -> None:
    fact = record.knowledge_edit
    answer = edit.ask(record.rephrase_question.rephrase_question)
    assert (answer.text, answer.unedited) == (fact.answer_new, fact.answer_true)
    old, new = answer.probabilities
    assert (old.answer, new.answer) == (fact.answer_true, fact.answer_new)
    assert old.before > 0.5 > old.after
    assert new.before < 0.5 < new.after


def test_probabilities_are_those_of_whole_forward_passes(edit: FactEdit, record: Record) -> None:
    """The product over the answer's tokens, of a slow pass of the model of transformers."""
    model, question = edit.model, record.knowledge_edit.question
    answer = edit.ask(question)
    for probability in answer.probabilities:
        row = model.encoder.encode(question, probability.answer)
        ids, targets = torch.tensor([row.ids]), [i for i, told in enumerate(row.answer) if told]
        with torch.no_grad():
            before = model.hf(input_ids=ids).logits[0].log_softmax(-1)
            with edit.applied():
                after = model.hf(input_ids=ids).logits[0].log_softmax(-1)
        for logits, value in ((before, probability.before), (after, probability.after)):
            product = sum(logits[i - 1, row.ids[i]] for i in targets).exp()
            assert value == pytest.approx(float(product), rel=1e-3, abs=1e-9)


def test_applied_is_for_any_use_of_transformers(edit: FactEdit, record: Record) -> None:
    model, fact = edit.model, record.knowledge_edit
    prompt = model.tokenizer(model.encoder.prompt(fact.question), return_tensors="pt")

    def said() -> str:
        ids = model.hf.generate(**prompt, max_new_tokens=8, do_sample=False)
        return model.tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :]).split("\n")[0]

    with edit.applied():
        assert fact.answer_new in said()
    assert fact.answer_true in said()


def test_pictures_are_files_or_in_memory(
    edit: FactEdit, record: Record, source: RecordSource
) -> None:
    path = source.pictures.path(str(record.image))
    question = str(record.knowledge_edit.image_question)
    with Image.open(path) as image:
        in_memory = edit.ask(question, image.convert("RGB"))
    assert edit.ask(question, path).probabilities == in_memory.probabilities
    assert edit.ask(question, str(path)).unedited == record.knowledge_edit.answer_true


def test_several_edits_stay_in_place_together(
    fine_tuning: FactEditor, edit: FactEdit, source: RecordSource
) -> None:
    other = source.records("test")[7]
    second = teach(fine_tuning, other)
    both = sum([edit, second])
    assert both.facts == (*edit.facts, *second.facts)
    for site, delta in both.deltas.items():
        parts = edit.deltas[site].dense() + second.deltas[site].dense()
        torch.testing.assert_close(delta.dense(), parts)
    answer = both.ask(edit.facts[0].question)
    assert {p.answer for p in answer.probabilities} >= {fact.answer for fact in both.facts}


def test_an_edit_on_top_is_made_on_the_edited_model(
    fine_tuning: FactEditor, edit: FactEdit, source: RecordSource
) -> None:
    """As the sequential protocol does: theta_i = theta_{i-1} + D_i(theta_{i-1})."""
    fact = source.records("test")[7].knowledge_edit
    on_top = fine_tuning.edit(fact.question, fact.answer_new, on=edit)
    edited = copy.deepcopy(edit.model.editable)
    for site, delta in edit.deltas.items():
        edited.linear(site).get_parameter("weight").data += delta.dense()[0]
    on_copy = replace(fine_tuning, model=replace(edit.model, editable=edited))
    then = on_copy.edit(fact.question, fact.answer_new)
    alone = fine_tuning.edit(fact.question, fact.answer_new)
    for site, delta in on_top.deltas.items():
        added = delta.dense() - edit.deltas[site].dense()
        torch.testing.assert_close(added, then.deltas[site].dense(), rtol=1e-3, atol=1e-5)
        assert not torch.allclose(added, alone.deltas[site].dense(), rtol=1e-3, atol=1e-5)
    assert [answer.text for answer in map(on_top.ask, [f.question for f in on_top.facts])] == [
        f.answer for f in on_top.facts
    ]  # fmt: skip


def test_edits_of_weights_go_on_each_other_and_take_along_what_their_method_knows(
    edit: FactEdit, source: RecordSource
) -> None:
    ultraedit = open_editor("ultraedit", edit.model, warm_up=4)
    first, second = (source.records("test")[number].knowledge_edit for number in (0, 7))
    made = ultraedit.edit(first.question, first.answer_new, on=edit)
    then = ultraedit.edit(second.question, second.answer_new, on=made)
    known, parts = cast(LifelongEdit, then.value), cast(LifelongEdit, made.value)
    site = min(parts.seen)
    assert known.seen[site].keys.count > parts.seen[site].keys.count > 0
    beside = made + ultraedit.edit(second.question, second.answer_new)
    added, alone = (one.deltas[site].dense() - made.deltas[site].dense() for one in (then, beside))
    assert not torch.allclose(added, alone, rtol=1e-3)


def test_while_an_edit_is_in_place_the_unedited_model_is_not_there(
    fine_tuning: FactEditor, edit: FactEdit
) -> None:
    with edit.applied() as model:
        with pytest.raises(ModelError, match="outside of the block"):
            model.ask("Who?")
        with pytest.raises(ModelError, match="outside of the block"):
            edit.ask("Who?")
        with pytest.raises(ModelError, match="on="):
            fine_tuning.edit("Who?", "me")
    assert edit.ask(edit.facts[0].question).text == edit.facts[0].answer


def test_demonstrations_of_two_settings_do_not_meet(model: OpenedModel) -> None:
    edits = [
        open_editor("ike", model, k=0, picture=where).edit("Who?", "me")
        for where in ("question", "front")
    ]
    with pytest.raises(ModelError, match="two trainings or settings"):
        edits[0] + edits[1]


def test_edits_of_two_models_do_not_meet(fine_tuning: FactEditor, edit: FactEdit) -> None:
    other = replace(fine_tuning, model=replace(edit.model))
    with pytest.raises(ModelError, match="two models"):
        other.edit("Who?", "me", on=edit)


def test_edits_of_two_layers_meet(edit: FactEdit, record: Record) -> None:
    """ROME's layer lies below that of FT."""
    located = teach(open_editor("rome", edit.model, layer=0, steps=3), record)
    both = located + edit
    lowest = min(site.layer for site in both.deltas)
    assert lowest == 0
    assert both.ask(record.knowledge_edit.question).text == record.knowledge_edit.answer_new


def test_demonstrations_are_an_edit_without_weights(model: OpenedModel, record: Record) -> None:
    shown = teach(open_editor("ike", model, k=2), record)
    answer = shown.ask(record.knowledge_edit.question)
    assert answer.text == record.knowledge_edit.answer_new
    with pytest.raises(ModelError, match="changes no weight"), shown.applied():
        pass


def test_an_answer_does_not_depend_on_what_was_asked_before(
    model: OpenedModel,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A long question has no room for all demonstrations, and the next one has them again."""
    shown, question = teach(open_editor("ike", model, k=2), record), record.knowledge_edit.question
    first, long = shown.ask(question), f"{'Tell me please. ' * 40}{question}"
    needed = len(model.encoder.encode(long, record.knowledge_edit.answer_new).ids)
    config = model.hf.config.get_text_config()
    monkeypatch.setattr(config, "max_position_embeddings", needed + 60)
    shown.ask(long)
    assert "demonstrations fit" in caplog.text
    assert shown.ask(question) == first


def test_pictures_in_memory_are_what_they_show(model: OpenedModel) -> None:
    """Colours of a palette, four inks, turned by EXIF: as the one reader of files shows them."""
    palettes = [Image.new("P", (4, 2)) for _ in range(2)]
    for picture, colour in zip(palettes, ((200, 0, 0), (0, 0, 200)), strict=True):
        picture.putpalette(colour * 256)
        assert read_image(model.picture_file(picture)).getpixel((0, 0)) == colour
    inks = Image.new("CMYK", (4, 2), (0, 255, 255, 0))
    assert read_image(model.picture_file(inks)).getpixel((0, 0)) == (255, 0, 0)
    inks.getexif()[ExifTags.Base.Orientation] = 6
    assert read_image(model.picture_file(inks)).size == (2, 4)


def test_pictures_that_are_none_are_refused(model: OpenedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ndarray.*fromarray"):
        model.picture_file(np.zeros((2, 2, 3)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"x\.png cannot be read"):
        model.picture_file("~nobody/x.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as closed:
        pass
    with pytest.raises(DataError, match="in memory cannot be read"):
        model.picture_file(closed)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"question": " "}, "question=' '"),
        ({"answer": ""}, "answer=''"),
        ({"subject": 7}, "subject=7"),
        ({"subject": "Atlantis"}, "does not occur in the question"),
    ],
)
def test_texts_that_teach_nothing_are_refused(
    fine_tuning: FactEditor, record: Record, texts: dict[str, str], message: str
) -> None:
    fact = record.knowledge_edit
    given = {"question": fact.question, "answer": fact.answer_new, "subject": record.subject}
    with pytest.raises(DataError, match=message):
        fine_tuning.edit(**(given | texts))  # type: ignore[arg-type]


@pytest.mark.parametrize("question", [" ", "\u200b", "\ud800?", None])
def test_questions_that_ask_nothing_are_refused(edit: FactEdit, question: str) -> None:
    for answering in (edit, edit.model):
        with pytest.raises(DataError, match=r"question=.*can be seen"):
            answering.ask(question)


def test_a_picture_that_cannot_be_read_is_refused(
    fine_tuning: FactEditor, edit: FactEdit, tmp_path: Path
) -> None:
    broken = tmp_path / "a.png"
    broken.write_text("no picture")
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        fine_tuning.edit("What is it?", "a cat", image=broken)
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        edit.ask("What is it?", tmp_path / "b.png")


def test_rome_needs_a_subject_and_a_text(
    model: OpenedModel, record: Record, source: RecordSource
) -> None:
    rome, fact = open_editor("rome", model), record.knowledge_edit
    with pytest.raises(DataError, match="give subject="):
        rome.edit(fact.question, fact.answer_new)
    picture = source.pictures.path(str(record.image))
    with pytest.raises(DataError, match="question about a picture"):
        rome.edit(str(fact.image_question), fact.answer_new, image=picture)


def test_names_and_options_that_do_not_exist_are_told(model: OpenedModel) -> None:
    with pytest.raises(ModelError, match=r"no model 'llava_tny'.*did you mean llava_tiny"):
        open_model("llava_tny")
    with pytest.raises(ConfigError, match=r"there is no key editor\.lrr; did you mean editor.lr"):
        open_editor("ft", model, lrr=1)
    with pytest.raises(ConfigError, match="editor=mend is a trained editor"):
        open_editor("mend", model)
    with pytest.raises(ConfigError, match="device='gpu': torch has no such device"):
        open_model("llava_tiny", device="gpu")
    with pytest.raises(ConfigError, match="prompt='plain': default, published, native"):
        open_model("llava_tiny", prompt="plain")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"model\.device_map=balanced: .*'auto'"):
        open_model("llava_tiny", device_map="balanced")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"max_memory=\{'cpu': '1GB'\}.*add device_map"):
        open_model("llava_tiny", max_memory={"cpu": "1GB"})
    with pytest.raises(ConfigError, match=r"max_memory\.cuda:0=1GB: cpu, or the number of a card"):
        open_model("llava_tiny", device_map="auto", max_memory={"cuda:0": "1GB"})


def test_a_spread_model_is_edited_and_asked_as_the_whole_one(
    model: OpenedModel, record: Record, tmp_path: Path
) -> None:
    """Three layers of four stay on the disk, where FT edits the highest of them."""
    room = f"{room_for(model.editable, 1) / 1e6:.6f}MB"
    spread = open_model("llava_tiny", device="cpu", device_map="auto", max_memory={"cpu": room})
    assert is_spread(spread.hf)
    edits = [teach(open_editor("ft", each, layers=2, steps=3), record) for each in (model, spread)]
    asked = [edit.ask(record.knowledge_edit.question) for edit in edits]
    assert asked[0].text == asked[1].text
    for one, other in zip(asked[0].probabilities, asked[1].probabilities, strict=True):
        assert other.after == pytest.approx(one.after, abs=1e-6)
    saved = edits[1].save(tmp_path / "edit")
    assert load_edit(saved, spread).ask(record.knowledge_edit.question).text == asked[1].text


def test_settings_fit_the_model(model: OpenedModel) -> None:
    demo = cast("EvaluateConfig", load_config("evaluate", ["experiment=demo", "editor=ft"]))
    assert open_editor("ft", model).options == demo.editor
    assert open_editor("ft", model, steps=7).options.model_dump()["steps"] == 7


def test_a_folder_is_opened_by_what_its_config_says(root: Path) -> None:
    folder = root / "models" / "pretrained" / "blip2_opt_tiny"
    opened = open_model(folder, device="cpu")
    assert (opened.options.family, opened.options.name) == ("blip2", "blip2_opt_tiny")
