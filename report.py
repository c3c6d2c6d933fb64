"""Turn result folders into a report: tables beside the paper's, figures, costs.

    python report.py runs/ft runs/mend --output runs/report            any result folders
    python report.py runs/sweep/[0-9]* runs/train-mend --output runs/report    a sweep, a training
    python report.py runs/ft runs/mend --output runs/report --overwrite    the same report again
    python report.py --check runs/tmke/text/0                         a run beside the paper's row
    python report.py --check runs/tmke/*/[0-9]* --output runs/report  both

Folders come from evaluate.py (results) and train.py (loss curves). Only files are read: no model is
loaded and no metric is computed anew. With --check each result is held against the paper's figure;
the exit code is 0 if all are within the tolerance, 1 if any is not, 2 after an error.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from errors import ConfigError, exit_status
from reporting.check import check_run, checked_as_text
from reporting.document import REPORT, Sources, read_sources, write_report
from results.files import check_output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit code: 0; 1 if --check finds a figure that is not the paper's; or 2 after an error that
        the user can fix.
    """
    options = _parser().parse_args(arguments)
    return exit_status(lambda: report(options))


def report(options: argparse.Namespace) -> int:
    """Checks the results, writes the report, or both; the exit code as in `main`.

    Raises:
        TmkeError: a folder cannot be read, or the output is missing or taken.
    """
    if options.output is not None:
        check_output(options.output, REPORT, overwrite=options.overwrite)
    elif not options.check:
        raise ConfigError("--output DIR is required: the folder for the report (or --check).")
    sources = read_sources(options.folders)
    code = check(sources) if options.check else 0
    if options.output is not None:
        print(f"Written to {write_report(sources, options.output)}")
    return code


def check(sources: Sources) -> int:
    """Print every result beside the paper's; 0 if all agree, else 1."""
    checked_runs = [check_run(run) for run in sources.runs]
    Console().print(checked_as_text(checked_runs))
    return 0 if all(checked.passes for checked in checked_runs) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="report.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RESULT_DIR",
        help="folders written by evaluate.py; folders of train.py add their loss curves",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for the report; optional with --check"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a report that is already in the output"
    )
    parser.add_argument(
        "--check", action="store_true",
        help="compare every result with the paper's figure; exit code 0 if all are within the "
        "tolerance, 1 if any is not, 2 after an error",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
