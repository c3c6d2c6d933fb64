"""What the benchmarks time is of equal work: the reference has the engine's numbers."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from benchmarks import cases, mid_size
from benchmarks.cases import Setting
from benchmarks.reference import mend_loss
from errors import DataError


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    try:
        shared = mid_size.shared_folder()
    except DataError as error:
        pytest.skip(str(error))
    return Setting.open(shared, tmp_path_factory.mktemp("pictures"), batch_size=2)


@pytest.mark.parametrize(
    "name",
    [
        "mend_text",
        *(pytest.param(n, marks=pytest.mark.odd) for n in cases.CASES if n != "mend_text"),
    ],
)
def test_engine_and_reference_agree(setting: Setting, name: str) -> None:
    case = cases.CASES[name](setting)
    case.check()
    assert case.floor > 0


def test_a_number_that_differs_is_told(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "mend_loss", lambda *inputs: (1 + 1e-5) * mend_loss(*inputs))
    with pytest.raises(AssertionError, match="not close"):
        cases.CASES["mend_text"](setting).check()


def test_the_cut_tokenizer_splits_as_the_whole_one_does_into_smaller_pieces() -> None:
    try:
        folder = mid_size.shared_folder() / "tokenizers/llama"
    except DataError as error:
        pytest.skip(str(error))
    whole, cut = AutoTokenizer.from_pretrained(folder), mid_size.read_tokenizer(folder)
    text = "Question: Who is the author of Middlemarch? Short answer: George Eliot, 1871"
    ids = cut(text).input_ids
    assert len(cut) == mid_size.VOCABULARY
    assert max(ids) < mid_size.VOCABULARY
    assert cut.decode(ids, skip_special_tokens=True).strip() == text
    assert len(whole(text).input_ids) <= len(ids) <= 1.5 * len(whole(text).input_ids)
