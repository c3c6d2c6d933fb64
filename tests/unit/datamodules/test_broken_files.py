"""Bad input of every source: named with its place, or left out, counted and listed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from datamodules.source import RecordSource, look_alike, source_names, source_options
from errors import DataError
from tests.benchmark_files import (
    CAPTION,
    CCKEB,
    CCKEB_PICTURES,
    MCMKE,
    MEND,
    MMEDIT,
    MMKE,
    NESTED,
    VLKEB,
    Json,
    options,
    read,
    vlkeb_of,
    write_json,
    write_mcmke,
)
from tests.unit.datamodules.test_sources import RECORD
from tests.unit.datamodules.test_text_benchmarks import COUNTERFACT, ZSRE

SAMPLES: Mapping[str, tuple[Json, ...]] = {
    "tmke": (RECORD,),
    "zsre": (ZSRE, MEND),
    "counterfact": (COUNTERFACT, NESTED),
    "vlkeb": (VLKEB,),
    "cckeb": (CCKEB[0],),
    "mmedit": (MMEDIT, CAPTION),
    "mmke": (MMKE,),
    "mcmke": (MCMKE[0]["sro_edit"], MCMKE[0]["iro_edit"]),
    "folder": ({"id": "A", "name": "Arden", "facts": {}, "images": {}},),
}
READ = ("tmke", "zsre", "counterfact", "vlkeb", "cckeb", "mmedit", "mmke")


def read_one(name: str, root: Path, *records: object, **changed: object) -> RecordSource:
    """The records of a file read as a source."""
    if name == "cckeb":
        write_json(root / "vlkeb" / "eval.json", CCKEB_PICTURES)
        changed = {**changed, "vlkeb_root": str(root / "vlkeb")}
    return read(name, root, *records, **changed)


def test_every_source_with_files_says_how_its_records_look() -> None:
    looking = {name for name in source_names() if source_options(name).looks}
    assert looking == SAMPLES.keys()
    for name, samples in SAMPLES.items():
        assert [look_alike(sample) for sample in samples] == [name] * len(samples)
    assert look_alike({"a": 1}) is None
    assert look_alike([1]) is None


@pytest.mark.parametrize("name", READ)
def test_a_source_in_another_sources_format_is_told(tmp_path: Path, name: str) -> None:
    for other, samples in SAMPLES.items():
        if other == name:
            continue
        said = (
            rf"record 0 of .*test\.json breaks the .* this looks like a record of data={other}, so"
        )
        with pytest.raises(DataError, match=said):
            read_one(name, tmp_path, samples[0])
    source = read_one(name, tmp_path, SAMPLES[name][0], *SAMPLES["folder"], on_error="skip")
    (left_out,) = source.left_out["test"]
    assert left_out.reason.startswith("it breaks the ")
    assert left_out.reason.endswith("use data=folder for its file")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("vlkeb", "alt"), ("vlkeb", "image_rephrase"), ("vlkeb", "pred"), ("mmedit", "m_loc_q"),
        ("mmke", "m_rel_1"), ("mmke", "loc_ans"), ("cckeb", "m_loc_a"), ("zsre", "loc_ans"),
        ("counterfact", "rephrase_prompt"),
    ],
)  # fmt: skip
def test_a_missing_or_renamed_field_is_named(tmp_path: Path, name: str, field: str) -> None:
    sample = SAMPLES[name][0]
    renamed = {key if key != field else f"{key}s": value for key, value in sample.items()}
    said = (
        rf"record 1 of .*test\.json breaks the \S+ schema: {field}.*: Field required "
        rf"\(the record has '{field}s': rename it if that is meant\)\. Correct"
    )
    with pytest.raises(DataError, match=said):
        read_one(name, tmp_path, sample, renamed)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../m.0a1/a.jpg", "a path inside the folder of the pictures is needed, without .."),
        ("/home/someone/m.0a1/a.jpg", "holds on one machine alone: write what stands below"),
        ("/home/someone/m.0a1/a.jpg", "such as 'a.jpg' (it is '/home/someone/m.0a1/a.jpg')"),
        ("C:/pictures/a.jpg", "a path relative to the folder of the pictures is needed"),
        (r"C:\pictures\a.jpg", "such as 'a.jpg'"),
        ("https://example.org/m.0a1/a.jpg", "this is an address: fetch it, and name the file"),
        ("file:///m.0a1/a.jpg", "this is an address"),
        ("m.0a1\\a.jpg", "a path has / between its folders"),
        ("", "image_rephrase: "),
    ],
)
@pytest.mark.parametrize("name", ["vlkeb", "mmedit", "mmke"])
def test_a_picture_outside_its_folder_is_refused(
    tmp_path: Path, name: str, path: str, said: str
) -> None:
    sample = SAMPLES[name][0]
    broken = {**sample, "image": sample["image"] + "x", "image_rephrase": path}
    with pytest.raises(DataError, match=r"breaks the .* schema: image_rephrase: ") as error:
        read_one(name, tmp_path, sample, broken)
    assert said in str(error.value)
    source = read_one(name, tmp_path, sample, broken, on_error="skip")
    assert len(source.records("test")) == len(source.left_out["test"]) == 1
    with pytest.raises(DataError, match=r"breaks the .* schema: image: "):
        read_one(name, tmp_path, {**sample, "image": path.replace("m.0a1", "a")})


@pytest.mark.parametrize("folder", ["/home/someone/", "C:\\pictures\\", "../", "https://a.org/"])
def test_a_wrong_path_does_not_hide_whose_record_it_is(folder: str) -> None:
    for name in ("vlkeb", "mmedit"):
        for sample in SAMPLES[name]:
            assert look_alike({**sample, "image": folder + sample["image"]}) == name


def test_paths_of_the_authors_machine_are_files_of_the_pictures_folder(tmp_path: Path) -> None:
    write_mcmke(tmp_path, MCMKE)
    record = options("mcmke", tmp_path).open().records("test")[0]
    assert record.image == "p0_u0.jpg"
    broken = json.loads(json.dumps(MCMKE[0]))
    broken["iro_edit"]["images"] = ["/home/someone/.."]
    write_mcmke(tmp_path, [broken])
    with pytest.raises(DataError, match=r"iro_edit\.images\.0: .* without \.\."):
        options("mcmke", tmp_path).open()


def write_lines(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_broken_line_amid_json_lines_is_an_error_or_left_out(tmp_path: Path) -> None:
    good = [json.dumps({**VLKEB, "pred": name}) for name in ("Holm", "Moor", "Vell")]
    write_lines(
        tmp_path / "a.jsonl", good[0], good[1][:-20], good[1], '{"a": 1, "a": 2}', "oops", good[2]
    )
    with pytest.raises(DataError, match=r"a\.jsonl is not valid JSON: at line 2, column \d+ "):
        options("vlkeb", tmp_path).open()
    source = options("vlkeb", tmp_path, on_error="skip").open()
    assert [record.subject for record in source.records("test")] == ["Holm", "Moor", "Vell"]
    left_out = source.left_out["test"]
    assert [record.record.split(" of ")[0] for record in left_out] == [
        f"record {number} (line {number + 1})" for number in (1, 3, 4)
    ]
    assert "the key 'a' stands twice" in left_out[1].reason
    assert all(record.reason.startswith("it is no JSON: ") for record in left_out)


def test_a_broken_line_of_mcmke_is_an_error_or_left_out(tmp_path: Path) -> None:
    write_mcmke(tmp_path, MCMKE)
    (edits,) = (tmp_path / "edit_inputs" / "sro_edit").glob("final_new_sro*")
    lines = edits.read_text(encoding="utf-8").splitlines()
    write_lines(edits, lines[0], lines[1][:-9], *lines[2:])
    with pytest.raises(DataError, match="is not valid JSON: at line 2"):
        options("mcmke", tmp_path).open()
    for side in (tmp_path / "edit_inputs" / "sro_edit").glob("final_sro_text*"):
        side.write_text("{\n", encoding="utf-8")  # of the paraphrases no line is left
    source = options("mcmke", tmp_path, on_error="skip").open()
    assert len(source.records("test")) == len(MCMKE) - 1
    assert len(source.left_out["test"]) == 1
    rephrased = source.records("test")[0].rephrase_question
    assert rephrased is not None
    assert rephrased.rephrase_question is None


def test_two_records_with_one_id(tmp_path: Path) -> None:
    other = {**COUNTERFACT, "subject": "Arun", "prompt": "The profession of Arun is"}
    with pytest.raises(DataError, match=r"record 1 of .* has the case_id of record 0 of .*, 42\."):
        read("counterfact", tmp_path, COUNTERFACT, other)
    source = read("counterfact", tmp_path, COUNTERFACT, other, on_error="skip")
    assert [record.subject for record in source.left_out["test"]] == ["Arun"]
    write_mcmke(tmp_path, [MCMKE[0], MCMKE[0]])
    with pytest.raises(DataError, match=r"line 2 of .* has the \w+_edit_input_idx of an earlier"):
        options("mcmke", tmp_path).open()


@pytest.mark.parametrize(
    ("part", "field"), [("sro_edit", "new_o_alias"), ("iro_edit", "new_o_alias")]
)
def test_aliases_that_are_no_list(tmp_path: Path, part: str, field: str) -> None:
    broken: dict[str, Any] = json.loads(json.dumps(MCMKE[1]))
    broken[part][field] = "N. capital"
    write_mcmke(tmp_path, [MCMKE[0], broken])
    with pytest.raises(
        DataError, match=rf"{part}\.{field}: a list is needed \(it is 'N\. capital'"
    ):
        options("mcmke", tmp_path).open()
    source = options("mcmke", tmp_path, on_error="skip").open()
    assert (len(source.records("test")), len(source.left_out["test"])) == (1, 1)


def test_two_forms_that_are_not_one_fact(tmp_path: Path) -> None:
    broken = {**MCMKE[0], "iro_edit": {**MCMKE[0]["iro_edit"], "new_o": "Vell"}}
    write_mcmke(tmp_path, [MCMKE[1], broken])
    with pytest.raises(DataError, match="of a picture, which are not one fact"):
        options("mcmke", tmp_path).open()


def test_files_that_are_missing(tmp_path: Path) -> None:
    write_mcmke(tmp_path, MCMKE)
    for path in (tmp_path / "edit_inputs").rglob("final_iro_image*"):
        path.unlink()
    with pytest.raises(DataError, match=r"final_iro_image_generality\.jsonl cannot be read"):
        options("mcmke", tmp_path).open()
    (tmp_path / "empty").mkdir()
    write_json(tmp_path / "c" / "t.json", CCKEB)
    with pytest.raises(DataError, match=r"data\.vlkeb_root .*empty holds no \*\.json file"):
        options("cckeb", tmp_path / "c", vlkeb_root=str(tmp_path / "empty")).open()


def test_train_and_test_of_vlkeb_share_pictured_entities(tmp_path: Path) -> None:
    write_json(tmp_path / "eval.json", [VLKEB])
    write_json(tmp_path / "train.json", [{**VLKEB, "alt": "Moor"}, vlkeb_of("Vell", "m.0z")])
    with pytest.raises(DataError, match=r"1 of 1 subjects \(Holm, Arden\), .*picture folders"):
        options("vlkeb", tmp_path, train_files=["train.json"]).open()
    write_json(tmp_path / "train.json", [vlkeb_of("Vell", "m.0z")])
    assert options("vlkeb", tmp_path, train_files=["train.json"]).open().records("test")
