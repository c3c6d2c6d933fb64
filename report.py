"""Turn result folders into a report: tables beside the paper's, figures, costs.

    python report.py runs/none_unimodal runs/mend_unimodal runs/mend --output runs/report

Folders come from evaluate.py (results) and train.py (loss curves). Only files are read: no model is
loaded and no number is computed anew.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from errors import ConfigError, TmkeError
from reporting.document import REPORT, read_sources, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_args(arguments)
    try:
        check_output(options.output, overwrite=options.overwrite)
        path = write_report(read_sources(options.folders), options.output)
    except TmkeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {path}")
    return 0


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a report already, or a path that is no folder.

    Args:
        output: where the report goes.
        overwrite: whether the report there may be replaced.

    Raises:
        ConfigError: the output is taken.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder, new or empty.")
    if (output / REPORT).exists() and not overwrite:
        raise ConfigError(
            f"--output {output} already holds {REPORT}; give another folder, or --overwrite to "
            "replace the report."
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="report.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RESULT_DIR",
        help="folders written by evaluate.py; folders of train.py add their loss curves",
    )  # fmt: skip
    parser.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the report"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a report that is already in the output"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
