"""`report.py --records`: token accuracies record by record, with the floor beside each figure."""

import json
from pathlib import Path

import numpy as np
import pytest

import report
from errors import DataError
from reporting.formats import NOT_SPECIFIC
from reporting.record_file import KEYS, accuracies_table, figures_of, read_accuracies

N = 1324
DIGITS = 1308
# Means that are planted, in percent: those of Table 2's row of ROME on LLaVA, and its floor.
PLANTED = {
    "inner_acc": 30.62, "image_acc": 30.7, "rephrase_acc": 31.0, "image_rephrase_acc": 31.1,
    "one_hop_acc": 26.4, "image_one_hop_acc": 26.5, "locality_acc": 99.0,
    "image_locality_acc": 93.0, "same_entity_acc": 43.9, "diff_entity_acc": 73.0,
    "same_entity_original_answer_acc": 30.26, "diff_entity_original_answer_acc": 31.8,
}  # fmt: skip


def planted() -> list[dict[str, object]]:
    """Records that nothing was carried to: no answer is whole, and others score as high."""
    rng = np.random.default_rng(0)
    columns = {}
    for key, mean in PLANTED.items():
        width = min(0.1, 1 - mean / 100)
        columns[key] = rng.uniform(-width, width, N)
    # About the same type the accuracy differs from the edited subject's by up to 20 points.
    columns["same_entity_original_answer_acc"] = columns["inner_acc"] - rng.uniform(-0.2, 0.2, N)
    for key, values in columns.items():
        columns[key] = np.clip(values - values.mean() + PLANTED[key] / 100, 0, 1)
    return [
        {
            "subject": f"S{n}",
            "original_question": "Who is the author of the book in the image?",
            "answer": "Methodism" if n % 8 == 0 else f"Answer {n}",
            "pred": f"{n % 10} word" if n < DIGITS else "word",
        }
        | {key: float(values[n]) for key, values in columns.items()}
        for n in range(N)
    ]


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def row(**changes: object) -> dict[str, object]:
    """A record of which the new answer is right about the subject and nobody else."""
    of_subject = dict.fromkeys(list(KEYS)[:10], 1.0)
    of_others = dict.fromkeys(list(KEYS)[10:], 0.0)
    return {"subject": "Middlemarch", "answer": "Jules Verne"} | of_subject | of_others | changes


def test_planted_means_come_with_the_floor_beside_them(tmp_path: Path) -> None:
    table = accuracies_table(read_accuracies(written(tmp_path / "rome.json", planted())))
    shown = {line.heads[0]: line.cells for line in table.rows}
    means = {name: line[0].text for name, line in shown.items()}
    assert means == {
        "Reliability_S": "30.6", "Reliability_U": "30.7", "Generality_S": "31.0",
        "Generality_U": "31.1", "Portability": "26.4", "Portability_U": "26.5",
        "Locality_T": "99.0", "Locality_I": "93.0", "Stability": "58.5", "Stability_same": "43.9",
        "Stability_diff": "73.0", "Leak": "31.0", "Leak_same": "30.3", "Leak_diff": "31.8",
    }  # fmt: skip
    new_answer = list(means)[:4]
    assert [shown[name][1].text for name in new_answer] == ["0.0"] * 4, "no answer is whole"
    assert (shown["Reliability_S"][2].text, shown["Reliability_S"][2].interval) == (
        "+0.4", "[-0.3, 1.0]",
    )  # fmt: skip
    assert shown["Reliability_S"][0].floor == NOT_SPECIFIC
    assert all(shown[name][2].text == "-" for name in means if name not in new_answer)
    assert not any(shown[name][0].floor for name in means if name not in new_answer)
    notes = "\n".join(table.notes)
    assert "begins with a digit in 1,308 of 1,324 records (98.8%)" in notes
    assert "there is no gain" in notes
    assert "1,324 subjects" in notes
    assert "12.5% of the records teach 'Methodism'" in notes


def test_differences_are_paired_by_record(tmp_path: Path) -> None:
    rows = [
        row(inner_acc=n / 40, same_entity_original_answer_acc=n / 40 - 0.01) for n in range(1, 40)
    ]
    (figure, *_) = figures_of(read_accuracies(written(tmp_path / "a.json", rows)))
    same = figure.above["Same type"]
    assert (same.mean, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))
    assert figure.accuracy.half_width > 5


def test_an_edit_that_arrived_is_not_marked_and_one_for_everybody_is(tmp_path: Path) -> None:
    everybody = dict.fromkeys(list(KEYS)[10:], 1.0)
    for name, rows, mark, exact in (
        ("arrived", [row()] * 9, "", "100.0"),
        ("everybody", [row(**everybody)] * 9, NOT_SPECIFIC, "100.0"),
    ):
        table = accuracies_table(read_accuracies(written(tmp_path / f"{name}.json", rows)))
        (line,) = (line for line in table.rows if line.heads == ("Generality_U",))
        assert (line.cells[0].floor, line.cells[1].text) == (mark, exact)
        assert any("everybody gets" in note for note in table.notes) == bool(mark)


def test_what_records_do_not_have_is_a_dash(tmp_path: Path) -> None:
    rows = [
        {"subject": "a", "inner_acc": 1, "same_entity_original_answer_acc": None, "inner_ac": 0}
    ]
    table = accuracies_table(read_accuracies(written(tmp_path / "a.json", rows * 3)))
    shown = {line.heads[0]: [cell.text for cell in line.cells] for line in table.rows}
    assert shown["Reliability_S"] == ["100.0", "100.0", "-", "-"]
    assert shown["Leak_same"][0] == shown["Stability"][0] == "-"
    assert not any(cell.floor for line in table.rows for cell in line.cells)
    assert any("not read, with the records that have them: inner_ac (3)" in n for n in table.notes)
    assert not any("digit" in note for note in table.notes)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            [row(), row(inner_acc=30.6)],
            r"record 1 \('Middlemarch'\): inner_acc is 30\.6 .*not percent",
        ),
        ([row(rephrase_acc="0.5")], r"record 0 \('Middlemarch'\): rephrase_acc is '0\.5'"),
        ([row(image_acc=True)], "image_acc is True"),
        ([row(locality_acc=float("nan"))], "locality_acc is nan"),
        ([row(), {"subject": "x"}], r"record 1 \('x'\) has no inner_acc"),
        ([{"inner_acc": 0.5}], "record 0 has no subject"),
        ([row(), 3], "record 1 is int, expected an object"),
        ([row(inner_acc=2)] * 5, "; and 2 more"),
        ([row(subject="a\nb" * 99, inner_acc=2)], r"record 0 \('a\\nba.*…\): inner_acc"),
        ([], "an empty list"),
        ({"records": []}, "holds dict; expected is a JSON list"),
    ],
)
def test_errors_name_record_and_key(tmp_path: Path, content: object, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        read_accuracies(written(tmp_path / "a.json", content))


def test_a_file_that_is_not_there_or_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json does not exist"):
        read_accuracies(tmp_path / "nowhere.json")
    broken = tmp_path / "broken.json"
    broken.write_text("[{", encoding="utf-8")
    with pytest.raises(DataError, match=r"broken\.json cannot be read as JSON"):
        read_accuracies(broken)
    broken.write_text('[{"subject": "a", "inner_acc": 1, "inner_acc": 0}]', encoding="utf-8")
    with pytest.raises(DataError, match="has the key 'inner_acc' twice"):
        read_accuracies(broken)


def test_a_byte_order_mark_is_no_part_of_the_records(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps([row()]), encoding="utf-8-sig")
    assert len(read_accuracies(file).records) == 1


def test_the_command_prints_it_without_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    file = written(tmp_path / "rome.json", planted())
    assert report.main(["--records", str(file)]) == 0
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if "Reliability_S" in line)
    assert " ".join(line.split()).startswith("Reliability_S 30.6 ± 0.3 § 0.0 +0.4 [-0.3, 1.0] -")
    assert report.main(["--records", str(tmp_path / "no.json")]) == 2
    assert report.main(["--records", str(file), "--output", str(tmp_path / "out")]) == 2
    assert "RESULT_DIR is required" in capsys.readouterr().err
