"""The results of one trained editor as its model card shows them: tables, and numbers by name."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from reporting.comparable import in_order, split_protocols
from reporting.curves import curve_table
from reporting.formats import markdown_text, to_markdown
from reporting.labels import together_label
from reporting.naming import entries
from reporting.paper import paper_columns
from reporting.tables import scenario_table
from results.folder import RunResult


def card_tables(runs: Sequence[RunResult]) -> str:
    """A table per scenario, as a report has it; of many edits in place one of all their points.

    Raises:
        DataError: two of the runs cannot share a table, or are one run given twice.
    """
    single, of_many = split_protocols(in_order(entries(runs)))
    titled = [
        (f"{about}{table.title}", to_markdown(table))
        for about, make, of_protocol in (
            ("", scenario_table, single),
            *(
                (f"Edits{together_label(protocol)}: ", curve_table, rows)
                for protocol, rows in of_many.items()
            ),
        )
        for _, rows in groupby(of_protocol, key=lambda entry: entry.scenario)
        for table in (make(list(rows)),)
    ]
    return "\n".join(f"### {markdown_text(title)}\n\n{table}" for title, table in titled)


def headline_numbers(run: RunResult) -> Iterator[tuple[str, float]]:
    """The metrics that the paper's table of the run's scenario has: name, mean in percent."""
    for name in paper_columns(run.scenario):
        value = run.metrics.get(name)
        if value is not None and value.n:
            yield name, round(value.mean, 2)
