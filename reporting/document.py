"""The report: result folders in, one Markdown page with its tables and figures out.

report.md             what was run, the tables of each scenario, costs, curves, provenance
tables/*.tex          the same tables for a paper
figures/*.{png,pdf}   bars per scenario and model, heat maps, tables as pictures, loss curves
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from errors import DataError
from reporting.comparable import SHARED_BY_TABLE, share_facts
from reporting.figures import (
    grouped_bars,
    read_curves,
    scenario_heat_map,
    table_picture,
    training_curves,
)
from reporting.labels import (
    SCENARIOS,
    editor_label,
    editor_rank,
    model_label,
    model_rank,
    scenario_rank,
)
from reporting.results import CURVES, SUMMARY, RunResult, read_run, write_text
from reporting.tables import (
    EMPTY,
    ResultTable,
    further_columns,
    scenario_table,
    to_latex,
    to_markdown,
)

REPORT = "report.md"


@dataclass(frozen=True)
class Sources:
    """What the folders hold: evaluations, and training runs by their folder."""

    runs: tuple[RunResult, ...]
    training: tuple[Path, ...]


def read_sources(folders: Sequence[Path]) -> Sources:
    """Sort folders into evaluations (summary.json) and training runs (metrics.csv), or both.

    Args:
        folders: written by evaluate.py or train.py.

    Returns:
        The runs, read and checked, and the training folders.

    Raises:
        DataError: a folder does not exist, holds neither file, or its summary is not valid; or
            there is nothing but training runs; or a scenario is unknown.
    """
    runs: list[RunResult] = []
    training: list[Path] = []
    for folder in folders:
        has_curves = (folder / CURVES).is_file()
        if has_curves:
            read_curves(folder / CURVES)  # a broken file is told before anything is written
            training.append(folder)
        if (folder / SUMMARY).is_file() or not has_curves:
            runs.append(read_run(folder))
    unknown = [f"{run.scenario!r} in {run.folder}" for run in runs if run.scenario not in SCENARIOS]
    if unknown:
        raise DataError(
            f"Unknown scenario {'; '.join(unknown)}: expected is one of {', '.join(SCENARIOS)}; "
            "leave the folder out or evaluate again with evaluate.py into a new one."
        )
    if not runs:
        raise DataError(
            f"None of {', '.join(map(str, folders))} holds a {SUMMARY}; give at least one folder "
            "that evaluate.py wrote."
        )
    return Sources(tuple(runs), tuple(training))


def write_report(sources: Sources, output: Path) -> Path:
    """Write the report, its tables and figures.

    Args:
        sources: of `read_sources`.
        output: folder of the report; files of the same names are replaced.

    Returns:
        Path of report.md, which is written last.

    Raises:
        DataError: runs cannot share a table, or a log of a training run cannot be read.
    """
    ordered = sorted(
        sources.runs,
        key=lambda run: (
            scenario_rank(run.scenario),
            model_rank(run.model),
            editor_rank(run.editor),
        ),
    )
    by_scenario = [list(members) for _, members in groupby(ordered, key=lambda run: run.scenario)]
    # All tables come before any file, so that runs that do not fit leave nothing half written.
    tables = [(runs, *_tables(runs)) for runs in by_scenario]
    parts = ["# Results\n\n" + _how_to_read()]
    parts += [_scenario_part(runs, main, beside, output) for runs, main, beside in tables]
    parts += _transfer_parts(ordered, output)
    parts.append(_cost_part(ordered))
    parts += _curve_parts(sources.training, output)
    parts.append(_provenance_part(ordered))
    write_text(output / REPORT, "\n".join(parts))
    return output / REPORT


def _how_to_read() -> str:
    return (
        "Means in percent over n edits ± half the 95 % bootstrap interval over records. Per model "
        "the best editor is **bold**, the second <u>underlined</u> (italic in the pictures); the "
        "unedited model is not ranked. A dash means that no record has the probe.\n"
    )


def _tables(runs: Sequence[RunResult]) -> tuple[ResultTable, ResultTable | None]:
    further = further_columns(runs)
    return scenario_table(runs), scenario_table(runs, further) if further else None


def _scenario_part(
    runs: Sequence[RunResult], main: ResultTable, beside: ResultTable | None, output: Path
) -> str:
    scenario = runs[0].scenario
    write_text(output / "tables" / f"{scenario}.tex", to_latex(main))
    lines = [f"## {scenario.capitalize()} scenario\n", _shared_facts(runs[0]), to_markdown(main)]
    lines.append(_picture(table_picture(main, output / "figures" / f"{scenario}_table"), output))
    for model, members in groupby(runs, key=lambda run: run.model):
        figure = grouped_bars(list(members), output / "figures" / f"{scenario}_{_slug(model)}")
        lines.append(_picture(figure, output))
    if beside:
        write_text(output / "tables" / f"{scenario}_further.tex", to_latex(beside))
        lines.append(f"### Beside the paper's columns\n\n{to_markdown(beside)}")
    return "\n".join(lines)


def _shared_facts(run: RunResult) -> str:
    facts = {"data": run.data, "seed": run.seed} | {
        key: run.settings[key]
        for key in SHARED_BY_TABLE
        if key in run.settings and key not in ("data", "seed")
    }
    return ", ".join(f"{key.replace('_', ' ')} `{value}`" for key, value in facts.items()) + "\n"


def _transfer_parts(runs: Sequence[RunResult], output: Path) -> list[str]:
    """A heat map per model that was run in more than one scenario."""
    lines: list[str] = []
    for model, members in groupby(sorted(runs, key=lambda r: model_rank(r.model)), _model):
        of_model = list(members)
        if len({run.scenario for run in of_model}) < 2:
            continue
        if share_facts(of_model):
            figure = scenario_heat_map(of_model, output / "figures" / f"scenarios_{_slug(model)}")
            lines.append(_picture(figure, output))
        else:
            lines.append(
                f"No heat map for {model_label(model)}: its runs differ between scenarios in the "
                "data, the seed, the prompt, the scoring or the model's weights.\n"
            )
    return ["## From text to pictures\n", *lines] if lines else []


def _cost_part(runs: Sequence[RunResult]) -> str:
    lines = [
        "## Cost\n",
        "Seconds to make an edit, and to answer all its probes under it.\n",
        "| Scenario | Model | Editor | s / edit | s / its answers | Peak memory (GiB) |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for run in runs:
        memory = EMPTY if run.peak_memory_bytes is None else f"{run.peak_memory_bytes / 2**30:.2f}"
        lines.append(
            f"| {run.scenario} | {model_label(run.model)} | {editor_label(run.editor)} "
            f"| {_seconds(run.seconds_per_edit)} | {_seconds(run.answer_seconds_per_edit)} "
            f"| {memory} |"
        )
    return "\n".join(lines) + "\n"


def _seconds(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.2g}"


def _curve_parts(folders: Sequence[Path], output: Path) -> list[str]:
    lines = []
    for number, folder in enumerate(folders):
        base = output / "figures" / f"training_{number}_{_slug(folder.name)}"
        lines.append(f"`{folder}`\n\n" + _picture(training_curves(folder, base), output))
    return ["## Training\n", *lines] if lines else []


def _provenance_part(runs: Sequence[RunResult]) -> str:
    lines = ["## Provenance\n"]
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        lines.append(
            f"- {run.scenario}, {run.model}, {run.editor}: `{run.folder}`, model "
            f"`{run.settings.get('model_digest', 'unknown')}` ({versions})"
        )
    return "\n".join(lines) + "\n"


def _picture(paths: Sequence[Path], output: Path) -> str:
    shown = next(path for path in paths if path.suffix == ".png")
    return f"![{shown.stem.replace('_', ' ')}]({shown.relative_to(output).as_posix()})\n"


def _slug(name: str) -> str:
    """A name that is safe as a file name."""
    return "".join(character if character.isalnum() else "-" for character in name) or "run"


def _model(run: RunResult) -> str:
    return run.model
