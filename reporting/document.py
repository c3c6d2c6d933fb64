"""The report: result folders in, one description of it (`reporting.blocks`), written twice.

report.md             what was run, tables and figures of each scenario, costs, curves, provenance
report.html           the same as one page that holds its pictures, with the gallery of failures
tables/*.tex          the tables for a paper
figures/*.{png,pdf}   bars per scenario and model, heat maps, tables as pictures, loss curves

A block more is a line more in the section that it belongs to; all formats follow from it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from errors import DataError
from reporting.blocks import (
    FIGURES,
    Block,
    Figure,
    Items,
    Section,
    Span,
    Table,
    Text,
    code,
    spans,
    text,
)
from reporting.comparable import (
    SHARED_BY_TABLE,
    are_comparable,
    by_model,
    in_order,
    split_protocols,
)
from reporting.figures import (
    gap_bars,
    grouped_bars,
    read_curves,
    scenario_heat_map,
    sequential_curves,
    table_picture,
    training_curves,
)
from reporting.formats import ResultTable, to_latex
from reporting.gallery import CASES, read_gallery
from reporting.labels import SCENARIOS, editor_note, model_label
from reporting.markdown import markdown_page
from reporting.page import html_page
from reporting.pairs import paired_table
from reporting.sequential import sequential_table
from reporting.tables import cost_table, further_columns, scenario_table
from reporting.transitivity import gap_table, transitivity_gaps
from results.files import CURVES, SUMMARY, write_text
from results.folder import RunResult, read_run

REPORT, PAGE, TABLES = "report.md", "report.html", "tables"


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
        Path of report.html, for who wants to read it; report.md is written last.

    Raises:
        DataError: runs cannot share a table, or a file of a run cannot be read.
    """
    report = build_report(sources)
    for block in report.walk():
        if isinstance(block, Figure):
            block.draw(output / FIGURES / block.name)
        elif isinstance(block, Table) and block.name:
            write_text(output / TABLES / f"{block.name}.tex", to_latex(block.table))
    write_text(output / PAGE, html_page(report, output))
    write_text(output / REPORT, markdown_page(report))
    return output / PAGE


def build_report(sources: Sources) -> Section:
    """The whole report as a value. Nothing is written, so runs that do not fit leave no files.

    Returns:
        The sections in the order of the scenarios, then what is about all of them.

    Raises:
        DataError: runs cannot share a table, or a file of a run cannot be read.
    """
    runs = in_order(sources.runs)
    single, sequential = split_protocols(runs)
    sections = [
        *(_scenario_section(of_one) for of_one in _by_scenario(single)),
        *_transfer_section(single),
        *_sequence_sections(sequential),
        *_part("Cost", cost_table(single) if single else None, "cost"),
        *_training_section(sources.training),
        _provenance_section(runs),
        *_gallery_section(runs),
    ]
    return Section("Results", (_how_to_read(runs), *sections))


def _by_scenario(runs: Sequence[RunResult]) -> list[list[RunResult]]:
    return [list(of_one) for _, of_one in groupby(runs, key=lambda run: run.scenario)]


def _how_to_read(runs: Sequence[RunResult]) -> Text:
    return text(
        "Means in percent over n edits ± half the 95 % bootstrap interval over records. Per model "
        "the best editor is ",
        Span("bold", "bold"),
        ", the second ",
        Span("underlined", "underlined"),
        " (italic in the pictures); the unedited model is not ranked. A dash means that no record "
        "has the probe.",
        *(f" {note}" for note in editor_note(run.editor for run in runs)),
    )


def _scenario_section(runs: Sequence[RunResult]) -> Section:
    """Tables and bars of the runs of one scenario."""
    scenario = runs[0].scenario
    main = scenario_table(runs)
    blocks: list[Block] = [
        _shared_facts(runs[0]),
        Table(main, scenario),
        Figure(
            f"{scenario}_table",
            partial(table_picture, main),
            f"The table above as a picture: {main.title}",
            repeats_table=True,
        ),
        *_figures_by_model(
            runs, scenario, grouped_bars,
            "Bars: each metric of the table, one bar per editor",
            "percent, with 95 % intervals.",
        ),
    ]  # fmt: skip
    further = further_columns(runs)
    beside = scenario_table(runs, further) if further else None
    blocks += _part("Beside the paper's columns", beside, f"{scenario}_further")
    blocks += _part("Pair by pair", paired_table(runs), f"{scenario}_pairs")
    return Section(f"{scenario.capitalize()} scenario", tuple(blocks))


def _figures_by_model(
    runs: Sequence[RunResult],
    name: str,
    draw: Callable[[list[RunResult], Path], Sequence[Path]],
    alt: str,
    caption: str,
) -> list[Figure]:
    """A figure per model of one scenario."""
    figures = []
    for model, of_model in by_model(runs):
        title = f"{model_label(model)}, {runs[0].scenario} scenario"
        drawing = partial(draw, of_model)
        figures.append(
            Figure(f"{name}_{_slug(model)}", drawing, f"{alt}, {title}", f"{title}: {caption}")
        )
    return figures


def _part(title: str, table: ResultTable | None, name: str) -> list[Section]:
    """A table under its own heading; nothing where there is none."""
    return [Section(title, (Table(table, name),))] if table else []


def _shared_facts(run: RunResult) -> Text:
    facts = {"data": run.data, "seed": run.seed} | {
        key: run.settings[key]
        for key in SHARED_BY_TABLE
        if key in run.settings and key not in ("data", "seed")
    }
    parts: list[str | Span] = []
    for key, value in facts.items():
        parts += [f"{', ' if parts else ''}{key.replace('_', ' ')} ", code(value)]
    return text(*parts)


def _transfer_section(runs: Sequence[RunResult]) -> list[Section]:
    """What text edits lose on the way to pictures; a heat map per model of several scenarios."""
    gaps = transitivity_gaps(runs)
    table = gap_table(gaps)
    blocks: list[Block] = [Table(table, "transitivity_gap")] if table else []
    for model, of_model in by_model(runs):
        label = model_label(model)
        model_gaps = [gap for gap in gaps if gap.model == model]
        if model_gaps:
            blocks.append(
                Figure(
                    f"gap_{_slug(model)}",
                    partial(gap_bars, model_gaps),
                    f"Bars: the gaps of the table, two bars per editor, {label}",
                    f"{label}: text minus seen picture, with the intervals of the table.",
                )
            )
        if len({run.scenario for run in of_model}) > 1:
            blocks.append(_heat_map(model, of_model))
    return [Section("From text to pictures", tuple(blocks))] if blocks else []


def _heat_map(model: str, runs: Sequence[RunResult]) -> Block:
    label = model_label(model)
    if not are_comparable(runs):
        return text(
            f"No heat map for {label}: its runs differ between scenarios in the data, the seed, "
            "the prompt, the scoring or the model's weights."
        )
    return Figure(
        f"scenarios_{_slug(model)}",
        partial(scenario_heat_map, runs),
        f"Heat map: editors by scenarios, a panel per property, {label}",
        f"{label}: percent in each scenario; with pictures, the one that belongs to the edit.",
    )


def _sequence_sections(runs: Sequence[RunResult]) -> list[Section]:
    """Runs whose edits stay in place, a section per scenario."""
    sections = []
    for of_one in _by_scenario(runs):
        name = f"{of_one[0].scenario}_sequence"
        blocks: list[Block] = [
            _shared_facts(of_one[0]),
            Table(sequential_table(of_one), name),
            *_figures_by_model(
                of_one, name, sequential_curves,
                "Curves: each metric over the number of edits in place",
                "percent over the number of edits in place, with 95 % intervals.",
            ),
            Table(cost_table(of_one), f"{name}_cost"),
        ]  # fmt: skip
        title = f"Edits in sequence, {of_one[0].scenario} scenario"
        sections.append(Section(title, tuple(blocks)))
    return sections


def _training_section(folders: Sequence[Path]) -> list[Section]:
    blocks: list[Block] = []
    for number, folder in enumerate(folders):
        blocks += [
            text(code(folder)),
            Figure(
                f"training_{number}_{_slug(folder.name)}",
                partial(training_curves, folder),
                f"Loss curves by step of the training in {folder}",
                "Losses by step, of training and validation.",
            ),
        ]
    return [Section("Training", tuple(blocks))] if blocks else []


def _provenance_section(runs: Sequence[RunResult]) -> Section:
    items = []
    for run in runs:
        versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
        items.append(
            spans(
                f"{run.scenario}, {run.model}, {run.editor}: ",
                code(run.folder),
                ", model ",
                code(run.settings.get("model_digest", "unknown")),
                f" ({versions})",
            )
        )
    return Section("Provenance", (Items(tuple(items)),))


def _gallery_section(runs: Sequence[RunResult]) -> list[Section]:
    """Single edits with all that was asked and answered; none where no editor was run."""
    gallery = read_gallery(runs)
    if not gallery.groups:
        return []
    how = text(
        f"Of each editor the {CASES} edits that went worst, if so many went wrong, and {CASES} "
        "drawn at random, the same for all editors of one data set. Worst is the lowest mean over "
        "the probes that should have changed (reliability, generality: ",
        Span("edited", "bold"),
        "); among equals the lowest mean over those that should not (locality, stability: ",
        Span("kept", "bold"),
        "), then the smaller number of the edit. Answers are teacher forced: the likeliest token "
        "at each position of the target. For locality the target only fills the context, and the "
        "score says whether the answer stayed as it was; of a leak, 0 % is good.",
    )
    return [Section("Failure gallery", (how, gallery))]


def _slug(name: str) -> str:
    """A name that is safe as a file name."""
    return "".join(character if character.isalnum() else "-" for character in name) or "run"
