"""Turn result folders into a report: tables beside the paper's, figures, costs.

    python report.py runs/ft runs/mend --output runs/report            any result folders
    python report.py runs/sweep/[0-9]* runs/train-mend --output runs/report    a sweep, a training
    python report.py runs/ft runs/mend --output runs/report --overwrite    the same report again
    python report.py --label slow=runs/a --label fast=runs/b --output runs/report    two settings
    python report.py --check runs/tmke/text/0                         a run beside the paper's row
    python report.py --check runs/tmke/*/[0-9]* --output runs/report  both
    python report.py --records llava_rome.json                        published token accuracies
    python report.py runs/transitivity/*/*/* --transitivity FILE      the page of make transitivity
    python report.py runs/editors/*/*/* --which-editor FILE           the page of make editors

Runs that differ in nothing but their seeds are one row: their mean, and its spread over the seeds.
Runs of one editor that differ in other settings are rows that say in what, or that --label names.

Folders come from evaluate.py (results) and train.py (loss curves). Only files are read: no model is
loaded and no metric is computed anew. With --check each result is held against the paper's figure;
the exit code is 0 if all are within the tolerance, 1 if any is not, 2 after an error. It also says
which of the paper's own figures can be told from an answer that everybody gets. --records prints
the means of token accuracies that are published record by record, with the floor beside each.
--transitivity and --which-editor write the pages that `make transitivity` and `make editors` are
for.
"""

import argparse
import sys
from collections.abc import Sequence

from errors import ConfigError, exit_status
from reporting import transitivity_page, which_editor
from reporting.arguments import report_parser
from reporting.check import check_entry, checked_as_text
from reporting.console import rich_table
from reporting.docs_page import check_page
from reporting.document import REPORT, write_report
from reporting.paper_floor import paper_floor_tables
from reporting.record_file import accuracies_table, read_accuracies
from reporting.sources import Sources, read_sources
from results.files import check_output
from results.screen import screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code: 0; 1 if --check finds a figure that is not the paper's; or 2 after an error that
        the user can fix.
    """
    options = report_parser(__doc__).parse_args(arguments)
    return exit_status(lambda: report(options))


def report(options: argparse.Namespace) -> int:
    """Checks the results, writes the report, or both; the exit code as in `main`.

    Raises:
        TmkeError: a folder cannot be read, or the output is missing or taken.
    """
    has_folders = bool(options.folders or options.label)
    if options.output is not None:
        check_output(options.output, REPORT, overwrite=options.overwrite)
    pages = [
        (flag, file, write)
        for flag, file, write in (
            ("--transitivity", options.transitivity, transitivity_page.write_page),
            ("--which-editor", options.which_editor, which_editor.write_page),
        )
        if file is not None
    ]
    for flag, file, _ in pages:
        check_page(flag, file, overwrite=options.overwrite)
    writes = bool(options.output is not None or pages)
    if not writes and not options.check and (has_folders or not options.records):
        raise ConfigError(
            "--output DIR is required: the folder for the report (or --check, or a page: "
            "--transitivity, --which-editor)."
        )
    if not has_folders and (writes or options.check or not options.records):
        raise ConfigError("RESULT_DIR is required: folders that evaluate.py wrote (or --label).")
    tables = [accuracies_table(read_accuracies(path)) for path in options.records]
    sources = read_sources(options.folders, options.label) if has_folders else None
    for table in tables:
        screen().print(rich_table(table))
    if sources is None:
        return 0
    code = check(sources) if options.check else 0
    if options.output is not None:
        screen().print(f"Written to {write_report(sources, options.output)}", soft_wrap=True)
    for _, file, write in pages:
        screen().print(f"Written to {write(sources, file)}", soft_wrap=True)
    return code


def check(sources: Sources) -> int:
    """Print every result beside the paper's, and what those tell; 0 if all agree, else 1."""
    checked_entries = [check_entry(entry) for entry in sources.entries]
    for table in paper_floor_tables():
        screen().print(rich_table(table))
    screen().print(checked_as_text(checked_entries))
    return 0 if all(checked.passes for checked in checked_entries) else 1


if __name__ == "__main__":
    sys.exit(main())
