"""The page of `make transitivity`: what part of a text edit reaches pictures, and why not.

Made of what reports are made of, from result folders alone: the answer in words, the matrix of what
is edited by how it is asked, where the chain from edit to picture breaks, what closes the gap and
its price, and what was run. What was not run is said.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from errors import DataError
from reporting.answer import answer_section
from reporting.blocks import Block, Figure, Items, Section, Table, code, spans, text
from reporting.chain import Split, chain_splits, chain_table
from reporting.chain_figure import chain_bars
from reporting.clusters import intervals_over
from reporting.comparable import by_model, check_comparable, in_order, split_protocols
from reporting.docs_page import run_facts, write_docs_page
from reporting.entries import Entry
from reporting.formats import EMPTY, Cell, Column, ResultTable, Row
from reporting.labels import SCENARIOS, editor_label, model_label
from reporting.matrix import Matrix, matrices, matrix_heat_maps, matrix_table
from reporting.overlap import marked_name
from reporting.reach import reach_table, reaches
from reporting.remedies import OBJECTIVE, is_transitive, remedied, remedy_table
from reporting.sources import Sources

TITLE = "What part of a text edit reaches pictures"
NAME = "transitivity"  # that the names of its figures begin with
MADE_BY = "make transitivity"
# What that command runs; the page says which of it is missing.
MODELS = (
    *("blip2_opt_tiny", "minigpt4_tiny", "llava_tiny"),
    *("smollm_llava", "smollm_llava_embedding"),
)
EDITORS = ("none", "ft", "ike", "mend", "serac", "rome")
TRAINED = ("mend", "serac")  # twice, with the text and the transitive objective
FROM_TEXT = {"rome": ("unimodal", "transitive")}  # editors that not all scenarios are defined for
SEEN = "seen"  # picture of the splits that it shows


def write_page(sources: Sources, file: Path) -> Path:
    """Write the page, and its figures into a folder `figures` beside it.

    Args:
        sources: of `reporting.sources.read_sources`.
        file: replaced where it is there (`reporting.docs_page.check_page`), as are its figures.

    Returns:
        The file, which is written last.

    Raises:
        DataError: nothing was judged about pictures, runs cannot share a table, or a file of a run
            cannot be read.
    """
    return write_docs_page(build_page(sources), file)


def build_page(sources: Sources) -> Section:
    """The whole page as a value; nothing is written.

    Raises:
        DataError: as `write_page`.
    """
    entries, _ = split_protocols(in_order(sources.entries))
    transitive = [entry for entry in entries if entry.scenario == "transitive"]
    if not transitive:
        raise DataError(
            "--transitivity: none of the results is of scenario=transitive, a text edit that is "
            f"asked about pictures. Give such folders of evaluate.py, or run {MADE_BY}."
        )
    for scenario in SCENARIOS:
        of_scenario = [entry for entry in entries if entry.scenario == scenario]
        for _, of_model in by_model(of_scenario):
            check_comparable(of_model)
    reached, changed = reaches(entries), remedied(entries)
    splits = [split for split in _splits(transitive) if split.picture == SEEN]
    sections = [
        answer_section(reached, splits, changed),
        *_section("From text to the picture", reach_table(reached), "reach"),
        *_matrix_section(matrices(entries)),
        *_chain_section(splits),
        *_section("What closes the gap", remedy_table(changed), "remedies"),
        _run_section(entries),
    ]
    how = text(
        "This page is written by ", code(MADE_BY), " from result folders alone; what stands behind "
        "it is said at its end. The measures are those of ", code("docs/metrics.md"), ".",
    )  # fmt: skip
    return Section(TITLE, (how, *sections))


def _splits(transitive: Sequence[Entry]) -> Iterator[Split]:
    for _, of_model in by_model(transitive):
        yield from chain_splits(of_model)


def _section(title: str, table: ResultTable | None, name: str) -> list[Section]:
    return [Section(title, (Table(table, name),))] if table else []


def _matrix_section(rows: Sequence[Matrix]) -> list[Section]:
    table = matrix_table(rows)
    if table is None:
        return []
    blocks: list[Block] = [Table(table, "matrix")]
    for model, group in groupby(rows, key=lambda matrix: matrix.first.model):
        blocks.append(
            Figure(
                f"{NAME}_matrix_{model}",
                partial(matrix_heat_maps, list(group)),
                f"Heat maps: Reliability by what is edited and how it is asked, and its gain, "
                f"{model_label(model)}",
            )
        )
    return [Section("What is edited by how it is asked", tuple(blocks))]


def _chain_section(splits: Sequence[Split]) -> list[Section]:
    """A table and bars per model: models may have been asked about other data."""
    sections = []
    for model, _ in by_model([split.entry for split in splits]):
        of_model = [split for split in splits if split.entry.model == model]
        table = chain_table(of_model)
        figure = Figure(
            f"{NAME}_chain_{model}",
            partial(chain_bars, of_model),
            "Stacked bars: where the chain from the text edit to the seen picture breaks, "
            f"{model_label(model)}",
        )
        blocks: list[Block] = [Table(table, f"chain_{model}"), figure] if table else [figure]
        sections.append(Section(model_label(model), tuple(blocks)))
    return [Section("Where the chain breaks", tuple(sections))] if sections else []


def _run_section(entries: Sequence[Entry]) -> Section:
    """What stands behind the page, and what does not."""
    items = [
        run_facts(entries, verb=NAME),
        spans(*_limits(entries)),
        spans(*_not_run(entries)),
    ]
    return Section("What was run", (Items(tuple(items)), Table(_run_table(entries), "runs")))


def _limits(entries: Sequence[Entry]) -> Iterator[str]:
    tiny = [model_label(model) for model, _ in by_model(entries) if model.endswith("_tiny")]
    yield f"Intervals are over {intervals_over(entries)}: what another seed of a training or of "
    yield "the data changes is not in those of one seed. "
    if tiny:
        yield f"What holds for tiny models ({', '.join(tiny)}), which learned a drawn world by "
        yield "heart, need not hold for a model of billions of parameters."


def _not_run(entries: Sequence[Entry]) -> Iterator[str]:
    shown = [model for model, _ in by_model(entries)]
    missing = [model_label(model) for model in MODELS if model not in shown]
    for model in shown:
        missing += _missing_rows(entries, model)
    yield f"Not run: {'; '.join(missing)}." if missing else f"All that {MADE_BY} runs is there."


def _missing_rows(entries: Sequence[Entry], model: str) -> Iterator[str]:
    """Editors, and scenarios of editors, that no result is there of."""
    of_model = [entry for entry in entries if entry.model == model]
    wanted = [(editor, False) for editor in EDITORS] + [(editor, True) for editor in TRAINED]
    for editor, so_trained in wanted:
        there = {
            entry.scenario
            for entry in of_model
            if entry.editor == editor and is_transitive(entry) == so_trained
        }
        objective = f" ({OBJECTIVE})" if so_trained else ""
        name = f"{editor_label(editor)}{objective} on {model_label(model)}"
        scenarios = [one for one in FROM_TEXT.get(editor, SCENARIOS) if one not in there]
        if scenarios:
            yield f"{name}: {', '.join(scenarios)}" if there else name


def _run_table(entries: Sequence[Entry]) -> ResultTable:
    """Edits behind each row by scenario."""
    rows = []
    for model, of_model in by_model(entries):
        by_name: dict[str, dict[str, Entry]] = {}
        for entry in of_model:
            by_name.setdefault(marked_name(entry), {})[entry.scenario] = entry
        for name, asked in by_name.items():
            cells = tuple(
                Cell(str(asked[scenario].n_edits) if scenario in asked else EMPTY)
                for scenario in SCENARIOS
            )
            runs = str(sum(len(entry.runs) for entry in asked.values()))
            rows.append(Row((model_label(model), name), runs, cells))
    notes = (
        f"Edits of each run by scenario; n counts the runs. {EMPTY}: not run, or not defined: ROME "
        "needs the subject's name in the edit's question.",
    )
    columns = tuple(Column(scenario) for scenario in SCENARIOS)
    return ResultTable("What was run", ("Model", "Editor"), columns, tuple(rows), notes)
