"""The files of knowledge neurons, their figure and table, and the command that writes them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from analysis import commands
from analysis.__main__ import main
from analysis.figures import PAIRS, neuron_figure
from analysis.knowledge_neurons import QUESTIONS, WHEN
from analysis.neuron_report import MOVED
from analysis.neuron_tables import TABLES, neuron_table, write_neurons
from datamodules.world import generate_world
from errors import ConfigError


def estimate(mean: float | None) -> dict[str, object]:
    if mean is None:
        return {"mean": None, "ci95": [None, None], "n": 0}
    return {"mean": mean, "ci95": [mean - 1, mean + 1], "n": 9}


def judged(mean: float | None) -> dict[str, Any]:
    levels = {"chance": 1.0, "unrelated": 4.0, "above_unrelated": 5.0}
    return {"value": estimate(mean)} | {
        name: estimate(None if mean is None else level) for name, level in levels.items()
    }


def content(*, after: float | None = 30.0, edited: bool = True) -> dict[str, Any]:
    """What neurons.json holds, with made-up numbers."""
    both = {"before": 50.0, "after": after}
    measures = {w: dict.fromkeys(("jaccard", "share"), judged(both[w])) for w in WHEN}
    overlaps = {w: dict.fromkeys(PAIRS, measures[w]) for w in WHEN}
    moved = dict.fromkeys(("jaccard", "share"), judged(after))
    layers = {w: dict.fromkeys(QUESTIONS, None if both[w] is None else [60, 40]) for w in WHEN}
    landing = {w: dict.fromkeys(QUESTIONS, judged(both[w])) for w in WHEN}
    return {
        "editor": "ft", "model": "llava_tiny", "scenario": "transitive", "data": "world",
        "n_edits": 9, "settings": {"steps": 20, "threshold": 0.2}, "layers": 2,
        "edited": {"mlp_in": [1], "mlp_out": [1]} if edited else {},
        "by_layer": layers,
        "overlaps": overlaps | {MOVED: dict.fromkeys(QUESTIONS, moved)},
        "transfer": {"reached": judged(after), "not_reached": judged(None)},
        "landing": {"mlp_in": landing, "mlp_out": landing} if edited else {},
    }  # fmt: skip


def lines(name: str) -> list[dict[str, object]]:
    kinds = {"int64": 1, "string": "text", "double": None, "bool": True}
    return [{field.name: kinds[str(field.type)] for field in TABLES[name]}]


@pytest.mark.parametrize("found", [content(), content(after=None, edited=False)])
def test_the_figure_is_drawn_as_png_and_pdf(found: dict[str, Any], tmp_path: Path) -> None:
    files = neuron_figure(found, tmp_path / "neurons")
    assert [file.name for file in files] == ["neurons.png", "neurons.pdf"]
    with Image.open(files[0]) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert colours is not None
    assert len(colours) > 100
    assert files[1].read_bytes().startswith(b"%PDF")


def test_an_interval_that_does_not_exist_is_a_dash_and_no_bar(tmp_path: Path) -> None:
    """All edits are of one cluster (`metrics.cluster`): null in the file."""
    text = json.dumps(content())
    without = json.loads(text.replace("[29.0, 31.0]", "[null, null]"))
    assert without != content()
    assert neuron_figure(without, tmp_path / "neurons")[0].stat().st_size > 1000
    cells = list(neuron_table(without).columns[2].cells)
    assert "-" in cells
    assert "49.0 to 51.0" in cells


def test_equal_numbers_give_equal_bytes(tmp_path: Path) -> None:
    one, other = (neuron_figure(content(), tmp_path / name) for name in ("one", "other"))
    assert [f.read_bytes() for f in one] == [f.read_bytes() for f in other]


def test_numbers_that_differ_are_seen_in_the_figure(tmp_path: Path) -> None:
    plain = neuron_figure(content(), tmp_path / "plain")[0].read_bytes()
    for name, change in (("overlaps", "after"), ("landing", "mlp_in"), ("by_layer", "after")):
        changed = json.loads(json.dumps(content()))
        changed[name][change] = json.loads(json.dumps(changed[name][change]).replace("30", "77"))
        changed[name][change] = json.loads(json.dumps(changed[name][change]).replace("60", "90"))
        changed[name][change] = json.loads(json.dumps(changed[name][change]).replace("50", "20"))
        assert neuron_figure(changed, tmp_path / name)[0].read_bytes() != plain, name


def test_the_table_leaves_out_what_has_no_value() -> None:
    assert neuron_table(content()).row_count == 2 * 3 + 3 + 1 + 2 * 2 * 3
    assert neuron_table(content(after=None, edited=False)).row_count == 3


def test_files_keep_nulls(tmp_path: Path) -> None:
    files = write_neurons(tmp_path / "out", content(), {name: lines(name) for name in TABLES})
    assert sorted(file.name for file in files) == [
        "landing.parquet", "neurons.json", "neurons.parquet", "neurons.pdf", "neurons.png",
        "overlaps.parquet", "shortcuts.parquet",
    ]  # fmt: skip
    overlaps = pd.read_parquet(tmp_path / "out" / "overlaps.parquet")
    assert overlaps["jaccard"].isna().all()
    assert json.loads((tmp_path / "out" / "neurons.json").read_text()) == content()
    with pytest.raises(ValueError, match="Out of range float"):
        write_neurons(
            tmp_path / "nan", content() | {"seed": float("nan")},
            {name: lines(name) for name in TABLES},
        )  # fmt: skip
    assert not (tmp_path / "nan" / "neurons.json").exists()


def options(tmp_path: Path, **changes: object) -> argparse.Namespace:
    given: dict[str, object] = {
        "words": ["editor=ft"], "output": tmp_path / "new", "overwrite": False, "steps": 20,
        "threshold": 0.2, "edits": None,
    }  # fmt: skip
    return argparse.Namespace(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"threshold": 1.0}, "--threshold 1.0"),
        ({"threshold": -0.1}, "--threshold -0.1"),
        ({"threshold": float("nan")}, "--threshold nan"),
        ({"edits": 0}, "--edits 0"),
        ({"edits": 3, "words": ["editor=ft", "data.limit=5"]}, "give one of them"),
    ],
)
def test_options_out_of_range(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        commands.check_neuron_flags(options(tmp_path, **changes))


def test_an_output_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "neurons.json").write_text("{}")
    with pytest.raises(ConfigError, match="--overwrite"):
        commands.check_neuron_flags(options(tmp_path, output=tmp_path))
    taken = options(tmp_path, output=tmp_path, overwrite=True, edits=4)
    assert commands.check_neuron_flags(taken) == ["editor=ft", "data.limit=4"]
    with pytest.raises(ConfigError, match="is a file"):
        commands.check_neuron_flags(options(tmp_path, output=tmp_path / "neurons.json"))


def test_the_command_from_edits_to_figure(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    world = generate_world(tmp_path / "world", seed=0, size=50, seen_views=1, unseen_views=1)
    output = tmp_path / "out"
    words = ["knowledge_neurons", "editor=ft", "model=llava_tiny", "scenario=transitive",
             "experiment=demo", "--output", str(output), "data=folder",
             f"data.root={world}"]  # fmt: skip
    ours = ["--edits", "6", "--steps", "5", "--shortcut", "metrics.cluster=target"]
    assert main([*words, *ours]) == 0
    printed = capsys.readouterr().out
    assert "Jaccard, before: text-image" in printed
    assert "Shortcut share, after, all three answers given" in printed
    found = json.loads((output / "neurons.json").read_text())
    assert (found["editor"], found["n_edits"], found["layers"]) == ("ft", 6, 4)
    assert found["settings"]["steps"] == 5
    assert found["settings"]["model_digest"]
    assert found["edited"] == {"mlp_in": [3], "mlp_out": [3]}
    assert found["answered"]["before"] == {"text": 6, "image": 6, "same_type": 6}
    judged = found["overlaps"]["before"]["text-image"]["jaccard"]
    assert judged["value"]["mean"] > 5 * judged["unrelated"]["mean"] > 0
    table = pd.read_parquet(output / "neurons.parquet")
    assert set(table["when"]) == {"before", "after"}
    assert table["layer"].between(0, 3).all()
    largest = table.groupby(["edit_id", "when", "question"])["attribution"].transform("max")
    assert (table["attribution"] > 0.2 * largest).all()
    shortcuts = pd.read_parquet(output / "shortcuts.parquet")
    assert shortcuts.groupby("when").size().to_dict() == {"after": 6, "before": 6}
    after = found["shortcut"]["after"]["all"]
    measured = shortcuts[shortcuts["when"] == "after"]["share"]
    assert after["value"]["mean"] == pytest.approx(100 * measured.mean())
    assert sum(share["mean"] for share in after["verdicts"].values()) == pytest.approx(100)
    assert found["settings"]["shortcut"]["threshold"] == 0.15
    assert found["settings"]["cluster"] == "target"
    assert (output / "neurons.png").stat().st_size > 1000
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    refused = [word.replace("editor=ft", "editor=serac") for word in words]
    assert main([*refused, "--overwrite"]) == 2
    assert "no weight of the base changes" in capsys.readouterr().err
