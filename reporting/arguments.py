"""What report.py may be told."""

import argparse

from options import path_flag


def report_parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of report.py, with the text that its help begins with."""
    parser = argparse.ArgumentParser(
        prog="report.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", nargs="*", type=path_flag, metavar="RESULT_DIR",
        help="folders written by evaluate.py; folders of train.py add their loss curves",
    )  # fmt: skip
    parser.add_argument(
        "--label", action="append", default=[], metavar="NAME=DIR",
        help="calls the runs of a folder, of all folders below it or of a pattern NAME in tables, "
        "figures and page, and takes them in; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_flag, metavar="DIR",
        help="folder for the report; optional with --check",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true",
        help="replace a report that is already in the output, or a page of docs",
    )  # fmt: skip
    parser.add_argument(
        "--check", action="store_true",
        help="compare every result with the paper's figure; exit code 0 if all are within the "
        "tolerance, 1 if any is not, 2 after an error",
    )  # fmt: skip
    parser.add_argument(
        "--records", action="append", default=[], type=path_flag, metavar="FILE",
        help="prints the means of a JSON file of token accuracies, with exact match and the floor "
        "beside each; may be repeated, and needs no RESULT_DIR",
    )  # fmt: skip
    parser.add_argument(
        "--transitivity", type=path_flag, metavar="FILE",
        help="writes the page that says what of text edits reaches pictures, with its figures in a "
        "folder figures beside it; in place of --output, or with it",
    )  # fmt: skip
    parser.add_argument(
        "--which-editor", type=path_flag, metavar="FILE",
        help="writes the page that says which editor to take for how many edits, with its figures "
        "in a folder figures beside it; in place of --output, or with it",
    )  # fmt: skip
    return parser
