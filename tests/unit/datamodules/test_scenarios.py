"""Tests of the scenario table: what teaches an edit, and what is asked after it."""

from pathlib import Path

from datamodules.scenarios import IMAGE_PROBES, TEXT_BESIDE_PICTURES, TEXT_PROBES
from datamodules.sources.tmke import read_tmke
from tests.unit.datamodules.test_sources import RECORD, write


def test_text_probes_beside_pictures_ask_what_they_ask_alone(tmp_path: Path) -> None:
    write(tmp_path / "t.json", RECORD)
    record = read_tmke(tmp_path).records("test")[0]
    assert set(TEXT_BESIDE_PICTURES) == {
        "reliability_t", "generality_t", "portability_t", "stability_same_t", "stability_diff_t",
        "leak_same_t", "leak_diff_t",
    }  # fmt: skip
    assert not set(TEXT_BESIDE_PICTURES) & set(IMAGE_PROBES)
    for name, make_prompt in TEXT_BESIDE_PICTURES.items():
        prompt = make_prompt(record)
        assert prompt is not None
        assert prompt.image is None
        assert prompt == TEXT_PROBES[name.removesuffix("_t")](record)
