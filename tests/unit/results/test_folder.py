"""The files of a result folder: what is written is read back, what is broken is named."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from errors import DataError
from metrics.bootstrap import Estimate
from results.files import replacing
from results.folder import EDIT_SCHEMA, PROBE_SCHEMA, read_edits, read_rows, read_run
from results.writing import write_summary
from tests.result_folders import edit_row, make_folder, make_run, summary, write_edits


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = make_run(tmp_path, "ft", means={"Reliability": 97.25, "Portability": None})
    run = read_run(tmp_path)
    assert run.metrics["Reliability"] == Estimate(97.25, 95.25, 101.25, 10)
    assert run.metrics["Portability"].n == 0
    assert math.isnan(run.metrics["Portability"].mean)
    assert list(run.metrics) == list(written.metrics)
    assert (run.editor, run.n_edits, run.settings["prompt"]) == ("ft", 10, "default")
    assert run.fact("seed") == 0
    assert run.fact("data_digest") == "d0"
    assert run.fact("unheard_of") is None


def test_summary_json_has_the_form_of_the_contract(tmp_path: Path) -> None:
    make_run(tmp_path, means={"Portability": None})
    raw = json.loads((tmp_path / "summary.json").read_text())
    assert raw["metrics"]["Reliability"] == {"mean": 50.0, "ci95": [48.0, 54.0], "n": 10}
    assert raw["metrics"]["Portability"] == {"mean": None, "ci95": [None, None], "n": 0}
    assert set(raw) == set(summary())


def test_edits_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [edit_row(), edit_row(edit_id=4, value=None, pre_text=None, seconds=None)]
    write_edits(tmp_path, rows)
    frame = read_edits(tmp_path)
    assert list(frame.columns) == EDIT_SCHEMA.names
    assert frame["edit_id"].tolist() == [3, 4]
    assert frame["subject"].tolist() == ["Łódź", "Łódź"]
    assert frame["value"].isna().tolist() == [False, True]
    assert read_edits(make_folder(tmp_path / "run"))["value"].tolist() == [0.5]


def test_no_edits_still_give_a_table(tmp_path: Path) -> None:
    write_edits(tmp_path, [])
    assert list(read_edits(tmp_path).columns) == EDIT_SCHEMA.names


def test_rows_with_other_columns_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    row = edit_row()
    del row["target"]
    with pytest.raises(ValueError, match="expected rows with edit_id"):
        write_edits(tmp_path, [edit_row(), row])
    with pytest.raises((ValueError, TypeError)):
        write_edits(tmp_path, [edit_row(edit_id="three")])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/summary\.json does not exist"):
        read_run(tmp_path / "nowhere")


def test_a_sweep_is_told_from_a_result(tmp_path: Path) -> None:
    make_folder(tmp_path / "0")
    with pytest.raises(DataError, match=r"holds the runs of a sweep: give .*/\[0-9\]\*"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'editor': 1}"])
def test_a_summary_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(DataError, match=r"summary\.json cannot be read as JSON"):
        read_run(tmp_path)


def test_a_summary_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(DataError, match=r"summary\.json must hold a JSON object"):
        read_run(tmp_path)


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    make_run(tmp_path)
    path = tmp_path / "summary.json"
    raw = json.loads(path.read_text())
    del raw["editor"]
    raw |= {"seed": "0", "n_edits": True}
    raw["metrics"]["Locality"] = {"mean": 50.0, "ci95": [48.0], "n": 10}
    raw["metrics"]["Stability"]["mean"] = None
    path.write_text(json.dumps(raw))
    with pytest.raises(DataError) as caught:
        read_run(tmp_path)
    message = str(caught.value)
    for part in (
        "editor is missing",
        "seed is '0'",
        "n_edits is True",
        "metrics.Locality",
        "metrics.Stability",
        str(path),
        "evaluate.py",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "change", [{"metrics": {"Reliability": {"mean": 5}}}, {"scenario": None}, {"settings": []}]
)
def test_a_summary_that_could_not_be_read_is_not_written(
    tmp_path: Path, change: dict[str, object]
) -> None:
    with pytest.raises(DataError, match="not a valid summary"):
        write_summary(tmp_path, summary() | change)
    assert list(tmp_path.iterdir()) == []


def test_an_interval_that_does_not_exist_is_null(tmp_path: Path) -> None:
    """All records of a metric are of one cluster: there is a mean, and nothing about its spread."""
    alone = Estimate(50.0, math.nan, math.nan, 3)
    metrics = {"Reliability": alone}
    write_summary(tmp_path, summary(cluster="target") | {"metrics": metrics})
    stored = json.loads((tmp_path / "summary.json").read_text())["metrics"]["Reliability"]
    assert stored == {"mean": 50.0, "ci95": [None, None], "n": 3}
    read = read_run(tmp_path)
    assert read.cluster == "target"
    assert str(read.metrics["Reliability"]) == str(alone)  # nan is not equal to nan
    of_before = {"Reliability": stored | {"ci95": [50.0, 50.0], "n": 1}}
    write_summary(tmp_path / "before", summary() | {"metrics": of_before})
    assert not read_run(tmp_path / "before").metrics["Reliability"].has_interval  # of one record
    for broken in ({"mean": None}, {"ci95": [None, 60.0]}):
        with pytest.raises(DataError, match=r"metrics\.Reliability"):
            write_summary(tmp_path, summary() | {"metrics": {"Reliability": stored | broken}})
    source = {"source": "s", "origin": "o", "licence": "l"}
    with pytest.raises(DataError, match=r"records\.targets is \{'edits': '3'\}"):
        write_summary(tmp_path, summary(records=source | {"targets": {"edits": "3"}}))


def test_nan_does_not_get_into_a_summary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="seconds_per_edit is nan"):
        write_summary(tmp_path, summary(seconds_per_edit=math.nan))
    with pytest.raises(DataError, match=r"metrics\.Reliability"):
        write_summary(
            tmp_path, summary() | {"metrics": {"Reliability": Estimate(math.nan, 0, 1, 3)}}
        )
    with pytest.raises(ValueError, match="JSON"):
        write_summary(tmp_path, summary(prompt=math.nan))
    assert list(tmp_path.iterdir()) == []


def test_broken_edits_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"edits\.parquet does not exist"):
        read_edits(tmp_path)
    (tmp_path / "edits.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match=r"edits\.parquet cannot be read as parquet"):
        read_edits(tmp_path)
    pq.write_table(pa.table({"edit_id": [1], "subject": ["a"]}), tmp_path / "edits.parquet")
    with pytest.raises(DataError, match="lacks the columns probe, metric"):
        read_edits(tmp_path)


def test_what_an_earlier_result_does_not_say_is_missing_in_every_line() -> None:
    """tests/before holds one of a version without what the unedited model scored and read."""
    before = Path(__file__).parents[2] / "before" / "result"
    edits = read_edits(before)
    assert list(edits.columns) == EDIT_SCHEMA.names
    assert edits[["pre_value", "named_before", "fact_before"]].isna().all(axis=None)
    assert edits["value"].notna().all()
    probes = read_rows(before / "probes.parquet", PROBE_SCHEMA, ("edit_id", "mark", "probe"))
    assert list(probes.columns) == ["edit_id", "mark", "probe"]
    assert probes["mark"].isna().all()
    assert read_run(before).variants == {}


def test_a_curve_is_read_in_the_order_of_its_points(tmp_path: Path) -> None:
    curve = {
        "10": {"Reliability": Estimate(60, 59, 62, 10).as_dict()},
        "1": {"Portability": Estimate(0, 0, 0, 0).as_dict()},
    }
    make_run(tmp_path, protocol={"name": "sequential", "n": [1, 10]}, curve=curve)
    run = read_run(tmp_path)
    assert run.protocol_name == "sequential"
    assert run.curve is not None
    assert list(run.curve) == [1, 10]
    assert run.curve[10]["Reliability"] == Estimate(60, 59, 62, 10)
    assert run.curve[1]["Portability"].n == 0


def test_results_that_do_not_say_are_of_single_edits(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert (run.protocol, run.curve, run.protocol_name) == (None, None, "single")
    single = make_run(tmp_path, protocol={"name": "single"}, curve=None)
    assert (single.protocol_name, single.fact("protocol")) == ("single", "single")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"protocol": "sequential"}, "protocol is 'sequential'"),
        ({"protocol": {"name": "twice"}}, "protocol.name is 'twice'"),
        ({"protocol": {}}, "protocol.name is None"),
        ({"curve": [1]}, r"curve is \[1\]"),
        ({"curve": {"one": {}}}, "curve.one is {}"),
        ({"curve": {"0": {}}}, "curve.0 is {}"),
        ({"curve": {"1": 3}}, "curve.1 is 3"),
        ({"curve": {"1": {"Reliability": {"mean": 1}}}}, "curve.1.Reliability is {'mean': 1}"),
    ],
)
def test_broken_curves_and_protocols_are_named(
    tmp_path: Path, change: Mapping[str, object], complaint: str
) -> None:
    fields = summary() | change
    fields["metrics"] = {}
    (tmp_path / "summary.json").write_text(json.dumps(fields))
    with pytest.raises(DataError, match=complaint):
        read_run(tmp_path)


def test_an_unfinished_run_is_told_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "config.yaml").touch()
    with pytest.raises(DataError, match="was not finished") as caught:
        read_run(tmp_path)
    message = str(caught.value)
    assert f"output_dir={tmp_path} resume=true" in message
    assert "\n" not in message
