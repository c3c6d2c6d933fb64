"""The end token behind the target of an edit: a row of its own, which no probe is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from configs.check import load_config, load_edit_config
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.row_length import check_length
from datamodules.scenarios import SCENARIOS, Scenario, with_end
from datamodules.sources.tmke import read_tmke
from editors.registry import with_current_names
from errors import DataError, ModelError
from models.row_keys import row_keys
from models.rows import EditBatch, RowText
from runner import assembly
from runner.assembly import asked_scenario, check_base
from runner.training import make_objective, scenario_of
from tests.editors import FOLDER, editor_options
from tests.tokenizers_small import llama_tokenizer, opt_tokenizer
from tests.unit.datamodules.test_datamodule import pixels, root  # noqa: F401  (a fixture)

TOKENIZERS = {"opt": opt_tokenizer(), "llama": llama_tokenizer()}
QUESTION, ANSWER = "Who founded Gofin Works?", "Tama Duva"
SCENARIO_NAMES = sorted(SCENARIOS)


def encoder(tokenizer: PreTrainedTokenizerFast, **options: Any) -> PromptEncoder:
    layout = PictureLayout(4, tokenizer.convert_tokens_to_ids("<image>"))
    return PromptEncoder(tokenizer, layout, **options)


def batch_of(root: Path, scenario: Scenario, **options: Any) -> EditBatch:  # noqa: F811
    data = EditDataModule(read_tmke(root), {"test": scenario}, **options)
    data.connect(encoder(TOKENIZERS["opt"]), ImageStore(pixels, in_threads=True))
    data.setup("test")
    return next(iter(data.test_dataloader()))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(TOKENIZERS)),
    answer=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
    picture=st.booleans(),
    plain=st.booleans(),
    before=st.sampled_from(["", "Some words. "]),
)
def test_a_target_has_one_token_more_and_it_is_the_end_token(
    kind: str, answer: str, picture: bool, plain: bool, before: str
) -> None:
    enc = encoder(TOKENIZERS[kind])
    form: Any = {"picture": picture, "plain": plain, "before": before}
    row, ended = (enc.encode(QUESTION, answer, **form, ended=end) for end in (False, True))
    assert ended.ids == [*row.ids, enc.tokenizer.eos_token_id]
    assert ended.answer == [*row.answer, True]
    assert ended.slots == [*row.slots, False]
    assert len(ended.offsets) == len(ended.ids)
    assert enc.encode(QUESTION, answer, **form) == row, "a row that is remembered stays as it was"


def test_an_end_token_that_a_tokenizer_puts_there_itself_becomes_part_of_the_target() -> None:
    tokenizer = llama_tokenizer()
    specials = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=specials
    )
    enc = encoder(tokenizer)
    row, ended = enc.encode(QUESTION, ANSWER), enc.encode(QUESTION, ANSWER, ended=True)
    assert row.ids[-1] == tokenizer.eos_token_id
    assert not row.answer[-1]
    assert ended.ids == row.ids
    assert ended.answer == [*row.answer[:-1], True]


def test_an_answer_that_is_being_generated_is_not_ended_for_it() -> None:
    enc = encoder(TOKENIZERS["llama"])
    begun = RowText(QUESTION, ANSWER, generated=(7, 8), ended=True)
    assert enc.encode(**begun.tokens).ids[-2:] == [7, 8]


def test_a_tokenizer_without_an_end_token_is_refused_where_one_is_taught(root: Path) -> None:  # noqa: F811
    tokenizer = opt_tokenizer()
    tokenizer.eos_token = None
    enc = encoder(tokenizer)
    enc.encode(QUESTION, ANSWER)
    data = EditDataModule(read_tmke(root), {"test": with_end(SCENARIOS["unimodal"])})
    data.connect(enc, ImageStore(pixels, in_threads=True))
    with pytest.raises(
        ModelError, match=r"teach_end=true: .* names no end token .* editor\.teach_end=false"
    ):
        data.check()  # which comes before any weights


def test_a_target_for_whose_end_there_is_no_room_is_too_long() -> None:
    enc = encoder(TOKENIZERS["opt"])
    row, ended = (enc.encode(QUESTION, ANSWER, ended=end) for end in (False, True))
    check_length(row, len(row.ids), QUESTION, ANSWER)
    with pytest.raises(DataError, match=f"takes {len(row.ids) + 1} tokens"):
        check_length(ended, len(row.ids), QUESTION, ANSWER)


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_probes_stay_as_they_are_and_the_rows_that_teach_are_others(
    name: str,
    root: Path,  # noqa: F811
) -> None:
    before = batch_of(root, SCENARIOS[name])
    batch = batch_of(root, with_end(SCENARIOS[name]))
    assert batch.probes.keys() == before.probes.keys()
    for probe, rows in batch.probes.items():
        of_before, of_batch = (
            contents(b, r) for b, r in ((before, before.probes[probe]), (batch, rows))
        )
        assert of_batch == of_before, probe
    asked = torch.cat(list(batch.probes.values()))
    assert not torch.isin(batch.edit_rows, asked).any()
    plain, taught = contents(before, before.edit_rows), contents(batch, batch.edit_rows)
    end = TOKENIZERS["opt"].eos_token_id
    for (ids, answer, edit), (longer, its_answer, its_edit) in zip(plain, taught, strict=True):
        assert (longer, its_answer, its_edit) == ([*ids, end], [*answer, True], edit)
    assert len(taught) == (6 if name == "joint" else 3)


def contents(batch: EditBatch, rows: Tensor) -> list[tuple[list[int], list[bool], int]]:
    """Of each row its tokens, which of them are the answer, and its edit."""
    table, lines = batch.rows, []
    for row in rows.tolist():
        real = table.attention_mask[row]
        ids, answer = table.input_ids[row][real], table.answer_mask[row][real]
        lines.append((ids.tolist(), answer.tolist(), int(table.edit_index[row])))
    return lines


def test_the_row_that_teaches_and_the_probe_have_two_keys_in_a_cache(root: Path) -> None:  # noqa: F811
    batch = batch_of(root, with_end(SCENARIOS["unimodal"]))
    keys = row_keys(batch.rows)
    taught = {keys[row] for row in batch.edit_rows.tolist()}
    assert not taught & {keys[row] for row in batch.probes["reliability"].tolist()}


@pytest.mark.parametrize("questions", ["text", "image_text", "transitive"])
def test_an_outer_loss_asks_for_the_end_where_it_asks_for_the_new_answer(
    questions: str,
    root: Path,  # noqa: F811
) -> None:
    scenario = "multimodal" if questions == "image_text" else "unimodal"
    words = [
        "editor=mend",
        "experiment=demo",
        f"scenario={scenario}",
        "editor.weights.reliability=1",
    ]
    cfg: Any = load_config(
        "train", [*words, f"editor.questions={questions}", "editor.teach_end=true"]
    )
    taught = make_objective(cfg).taught
    batch = batch_of(root, scenario_of(cfg))
    texts = batch.rows.texts
    for probe, rows in batch.probes.items():
        assert {texts[row].ended for row in rows.tolist()} == {probe in taught}, probe
    assert {"reliability", "reliability_s", "reliability_t"} & taught
    assert not any(probe.startswith(("locality", "stability")) for probe in taught)
    # The edit's own question is one row, whether it teaches or is asked.
    own = {"text": "reliability", "image_text": "reliability_s", "transitive": "reliability_t"}
    assert torch.equal(batch.edit_rows, batch.probes[own[questions]])


FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
NO_TARGET = {"none", "ike"}


@pytest.mark.parametrize("file", [name for name in FILES if name not in NO_TARGET])
def test_every_editor_that_is_fitted_or_trained_has_the_option(file: str) -> None:
    """It is off but for the method whose paper has it."""
    options = editor_options(file)
    assert options.ends_target is (file == "ft_bf")
    changed = {"loss_at": "answer"} if options.name == "ft" else {}
    assert editor_options(file, teach_end=True, **changed).ends_target is True
    assert with_current_names({"name": options.name})["teach_end"] is False


def test_an_evaluation_teaches_as_the_editor_says(root: Path) -> None:  # noqa: F811
    record = read_tmke(root).records("test")[0]
    for value in (False, True):
        words = ["editor=ft", "scenario=joint", f"editor.teach_end={str(value).lower()}"]
        cfg: Any = load_config("evaluate", ["experiment=demo", *words])
        assert {prompt.ended for prompt in asked_scenario(cfg).edit(record)} == {value}


def test_an_edit_by_the_command_is_refused_as_early(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["editor=ft", "model=llava_tiny", "question=a", "answer=b"]
    taught, plain = (load_edit_config([*words, f"editor.teach_end={v}"]) for v in ("true", "false"))
    processor = assembly.open_processor(taught.model)
    check_base(taught.editor, taught.model)
    processor.tokenizer.eos_token = None
    monkeypatch.setattr(assembly, "open_processor", lambda model: processor)
    check_base(plain.editor, plain.model)
    with pytest.raises(ModelError, match="names no end token"):
        check_base(taught.editor, taught.model)
