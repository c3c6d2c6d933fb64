"""The report: result folders in, one description of it (`reporting.blocks`), written twice.

report.md             what was run, tables and figures of each scenario, costs, curves, provenance
report.html           the same as one page that holds its pictures, with the gallery of failures
tables/*.{tex,csv}    the tables for a paper, and for programs
figures/*.{png,pdf}   bars per scenario and model, heat maps, tables as pictures, loss curves

A block more is a line more in the section that it belongs to; all formats follow from it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from reporting.blocks import (
    FIGURES,
    Block,
    Figure,
    Section,
    Span,
    Table,
    Text,
    code,
    text,
)
from reporting.chain import chain_splits, chain_table
from reporting.chain_figure import chain_bars
from reporting.clusters import drawn_over
from reporting.comparable import (
    are_comparable,
    by_model,
    in_order,
    split_protocols,
)
from reporting.curves import curve_table
from reporting.entries import Entry
from reporting.figures import (
    edit_curves,
    gap_bars,
    grouped_bars,
    scenario_heat_map,
    table_picture,
    training_curves,
)
from reporting.formats import ResultTable, to_csv, to_latex
from reporting.gallery import CASES, OF_A_CLASS, read_gallery
from reporting.group_figure import group_points
from reporting.groups import DRAWN_BY, GROUPED_BY, group_table, grouped
from reporting.labels import editor_note, model_label, together_label
from reporting.markdown import markdown_page
from reporting.matrix import matrices, matrix_heat_maps, matrix_table
from reporting.name_first import name_first_table
from reporting.page import html_page
from reporting.pairs import paired_table
from reporting.provenance import provenance_section, shared_facts
from reporting.reading import gain_table, reading_table
from reporting.sources import Sources
from reporting.tables import cost_table, further_columns, scenario_table, seed_notes
from reporting.transitivity import READ_GAPS, gap_table, transitivity_gaps
from results.files import write_text

OF_CLASSES = (
    f" Of each class of where the chain breaks {OF_A_CLASS} edits are shown too, drawn at random, "
    "of either picture; each case says its classes."
)
REPORT, PAGE, TABLES = "report.md", "report.html", "tables"


def write_report(sources: Sources, output: Path) -> Path:
    """Write the report, its tables and figures.

    Args:
        sources: of `reporting.sources.read_sources`.
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
            write_text(output / TABLES / f"{block.name}.csv", to_csv(block.table))
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
    entries = in_order(sources.entries)
    single, of_many = split_protocols(entries)
    sections = [
        *(_scenario_section(of_one) for of_one in _by_scenario(single)),
        *_transfer_section(single),
        *_matrix_section(single),
        *_reading_section(single),
        *_chain_section(single),
        *_name_first_section(single),
        *(section for rows in of_many.values() for section in _curve_sections(rows)),
        *_part("Cost", cost_table(single) if single else None, "cost"),
        *_training_section(sources),
        provenance_section(entries),
        *_gallery_section(entries),
    ]
    return Section("Results", (_how_to_read(entries), *sections))


def _by_scenario(entries: Sequence[Entry]) -> list[list[Entry]]:
    return [list(of_one) for _, of_one in groupby(entries, key=lambda entry: entry.scenario)]


def _how_to_read(entries: Sequence[Entry]) -> Text:
    runs = [run for entry in entries for run in entry.runs]
    return text(
        "Means in percent over n edits ± half the 95 % bootstrap interval over "
        f"{drawn_over(runs)}. Per model the best editor is ",
        Span("bold", "bold"),
        ", the second ",
        Span("underlined", "underlined"),
        " (italic in the pictures); the unedited model is not ranked. A dash means that no record "
        "has the probe.",
        *(f" {note}" for note in seed_notes(entries)),
        *(f" {note}" for note in editor_note(entry.editor for entry in entries)),
    )


def _scenario_section(entries: Sequence[Entry]) -> Section:
    """Tables and bars of the rows of one scenario."""
    scenario = entries[0].scenario
    main = scenario_table(entries)
    blocks: list[Block] = [
        shared_facts(entries),
        Table(main, scenario),
        Figure(
            f"{scenario}_table",
            partial(table_picture, main),
            f"The table above as a picture: {main.title}",
            repeats_table=True,
        ),
        *_figures_by_model(
            entries, scenario, grouped_bars,
            "Bars: each metric of the table, one bar per row",
            f"percent, {_error_bars(entries)}.",
        ),
    ]  # fmt: skip
    for title, name, columns in further_columns(entries):
        blocks += _part(title, scenario_table(entries, columns), f"{scenario}_{name}")
    blocks += _part("Gain over the unedited model", gain_table(entries), f"{scenario}_gains")
    blocks += _part("Pair by pair", paired_table(entries), f"{scenario}_pairs")
    blocks += _group_sections(entries)
    return Section(f"{scenario.capitalize()} scenario", tuple(blocks))


def _group_sections(entries: Sequence[Entry]) -> list[Section]:
    """Results by relation and by target; none of results that do not say them."""
    sections: list[Section] = []
    for by in GROUPED_BY:
        groups = grouped(entries, by)
        if (table := group_table(groups, by)) is None:
            continue
        scenario = entries[0].scenario
        blocks: list[Block] = [Table(table, f"{scenario}_by_{by}")]
        drawn = groups if by == DRAWN_BY else []
        for model, of_model in groupby(drawn, key=lambda group: group.entry.model):
            title = f"{model_label(model)}, {scenario} scenario"
            blocks.append(
                Figure(
                    f"{scenario}_by_{by}_{_slug(model)}",
                    partial(group_points, list(of_model)),
                    f"Small multiples: a panel per {by}, a point per row and metric, {title}",
                    f"{title}: percent by {by}, {_error_bars(entries)}.",
                )
            )
        sections.append(Section(f"By {by}", tuple(blocks)))
    return sections


def _error_bars(entries: Sequence[Entry]) -> str:
    """What bars and bands around a mean are."""
    several = [len(entry.runs) > 1 for entry in entries]
    over_seeds = "one standard deviation over seeds to each side"
    if all(several):
        return f"with {over_seeds}"
    return "with 95 % intervals" + (f", of several seeds {over_seeds}" if any(several) else "")


def _figures_by_model(
    entries: Sequence[Entry],
    name: str,
    draw: Callable[[list[Entry], Path], Sequence[Path]],
    alt: str,
    caption: str,
) -> list[Figure]:
    """A figure per model of one scenario."""
    figures = []
    for model, of_model in by_model(entries):
        title = f"{model_label(model)}, {entries[0].scenario} scenario"
        drawing = partial(draw, of_model)
        figures.append(
            Figure(f"{name}_{_slug(model)}", drawing, f"{alt}, {title}", f"{title}: {caption}")
        )
    return figures


def _part(title: str, table: ResultTable | None, name: str) -> list[Section]:
    """A table under its own heading; nothing where there is none."""
    return [Section(title, (Table(table, name),))] if table else []


def _transfer_section(entries: Sequence[Entry]) -> list[Section]:
    """What text edits lose on the way to pictures; a heat map per model of several scenarios."""
    gaps = transitivity_gaps(entries)
    table = gap_table(gaps)
    blocks: list[Block] = [Table(table, "transitivity_gap")] if table else []
    for model, of_model in by_model(entries):
        label = model_label(model)
        model_gaps = [gap for gap in gaps if gap.model == model]
        if model_gaps:
            blocks.append(
                Figure(
                    f"gap_{_slug(model)}",
                    partial(gap_bars, model_gaps),
                    f"Bars: the gaps of the table, two bars per row, {label}",
                    f"{label}: text minus seen picture, with the intervals of the table.",
                )
            )
        if len({entry.scenario for entry in of_model}) > 1:
            blocks.append(_heat_map(model, of_model))
    return [Section("From text to pictures", tuple(blocks))] if blocks else []


def _matrix_section(entries: Sequence[Entry]) -> list[Section]:
    """What text edits, picture edits and edits in both come to, in text and about pictures."""
    rows = matrices(entries)
    table = matrix_table(rows)
    if table is None:
        return []
    blocks: list[Block] = [Table(table, "matrix")]
    for model, group in groupby(rows, key=lambda matrix: matrix.first.model):
        label = model_label(model)
        blocks.append(
            Figure(
                f"matrix_{_slug(model)}",
                partial(matrix_heat_maps, list(group)),
                f"Heat maps: Reliability by what is edited and how it is asked, {label}",
                f"{label}: Reliability in percent, and below it its gain over the unedited model.",
            )
        )
    return [Section("The whole matrix", tuple(blocks))]


def _reading_section(entries: Sequence[Entry]) -> list[Section]:
    """Pictures split by what the unedited model made of them; none where no result says."""
    of_scenarios = {of_one[0].scenario: of_one for of_one in _by_scenario(entries)}
    in_text = of_scenarios.pop("unimodal", [])
    blocks: list[Block] = []
    for scenario, of_one in of_scenarios.items():
        if (table := reading_table(of_one, in_text)) is not None:
            blocks.append(Table(table, f"{scenario}_read"))
    falls = gap_table(transitivity_gaps(entries, READ_GAPS), READ_GAPS) if blocks else None
    blocks += [Table(falls, "transitivity_gap_read")] if falls else []
    return [Section("Pictures that were read", tuple(blocks))] if blocks else []


def _chain_section(entries: Sequence[Entry]) -> list[Section]:
    """Where the chain from the edit to a picture breaks; none where no result says."""
    blocks: list[Block] = []
    for of_one in _by_scenario(entries):
        scenario, splits = of_one[0].scenario, chain_splits(of_one)
        if (table := chain_table(splits)) is not None:
            blocks.append(Table(table, f"{scenario}_chain"))
        for model, _ in by_model([split.entry for split in splits]):
            title = f"{model_label(model)}, {scenario} scenario"
            blocks.append(
                Figure(
                    f"{scenario}_chain_{_slug(model)}",
                    partial(chain_bars, [s for s in splits if s.entry.model == model]),
                    f"Stacked bars: shares of the table, one bar per row and picture, {title}",
                    f"{title}: where the chain from the edit to a picture breaks, in percent.",
                )
            )
    return [Section("Where the chain breaks", tuple(blocks))] if blocks else []


def _name_first_section(entries: Sequence[Entry]) -> list[Section]:
    """What letting the model name the picture first changes; none where no run asked so."""
    tables = [(of_one[0].scenario, name_first_table(of_one)) for of_one in _by_scenario(entries)]
    blocks = [Table(table, f"{scenario}_name_first") for scenario, table in tables if table]
    return [Section("Name first, then ask", tuple(blocks))] if blocks else []


def _heat_map(model: str, entries: Sequence[Entry]) -> Block:
    label = model_label(model)
    if not are_comparable(entries):
        return text(
            f"No heat map for {label}: its rows differ in the data, the prompt, the scoring or "
            "the model's weights."
        )
    return Figure(
        f"scenarios_{_slug(model)}",
        partial(scenario_heat_map, entries),
        f"Heat map: rows of the tables by scenarios, a panel per property, {label}",
        f"{label}: percent in each scenario; with pictures, the one that belongs to the edit.",
    )


def _curve_sections(entries: Sequence[Entry]) -> list[Section]:
    """Runs of one protocol with many edits in place, a section per scenario."""
    sections = []
    for of_one in _by_scenario(entries):
        protocol = together_label(of_one[0].protocol_name)
        name = f"{of_one[0].scenario}_{protocol.rpartition(' ')[2]}"
        blocks: list[Block] = [
            shared_facts(of_one),
            Table(curve_table(of_one), name),
            *_figures_by_model(
                of_one, name, edit_curves,
                "Curves: each metric over the number of edits in place",
                f"percent over the number of edits in place, {_error_bars(of_one)}.",
            ),
            Table(cost_table(of_one), f"{name}_cost"),
        ]  # fmt: skip
        title = f"Edits{protocol}, {of_one[0].scenario} scenario"
        sections.append(Section(title, tuple(blocks)))
    return sections


def _training_section(sources: Sources) -> list[Section]:
    blocks: list[Block] = []
    for number, folder in enumerate(sources.training):
        blocks += [
            text(*_label(sources, folder), code(folder)),
            Figure(
                f"training_{number}_{_slug(folder.name)}",
                partial(training_curves, folder),
                f"Loss curves by step of the training in {folder}",
                "Losses by step, of training and validation.",
            ),
        ]
    return [Section("Training", tuple(blocks))] if blocks else []


def _label(sources: Sources, folder: Path) -> list[str]:
    """What stands before the folder of a training that has a label."""
    return [f"{sources.labels[folder]}: "] if folder in sources.labels else []


def _gallery_section(entries: Sequence[Entry]) -> list[Section]:
    """Single edits with all that was asked and answered; none where no editor was run."""
    gallery = read_gallery(entries)
    if not gallery.groups:
        return []
    how = text(
        f"Of each row the {CASES} edits that went worst, if so many went wrong, and {CASES} "
        "drawn at random, the same for all rows of one data set. Worst is the lowest mean over "
        "the probes that should have changed (reliability, generality: ",
        Span("edited", "bold"),
        "); among equals the lowest mean over those that should not (locality, stability: ",
        Span("kept", "bold"),
        "), then the smaller number of the edit. Answers are teacher forced: the likeliest token "
        "at each position of the target. For locality the target only fills the context, and the "
        "score says whether the answer stayed as it was; of a leak, 0 % is good.",
        *([OF_CLASSES] if any(case.chain for g in gallery.groups for case in g.cases) else []),
    )
    return [Section("Failure gallery", (how, gallery))]


def _slug(name: str) -> str:
    """A name that is safe as a file name."""
    return "".join(character if character.isalnum() else "-" for character in name) or "run"
