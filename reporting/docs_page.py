"""Pages of docs/ that are made from result folders alone: Markdown, and figures beside it."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from errors import ConfigError
from reporting.blocks import FIGURES, Figure, Section, Spans, code, spans
from reporting.entries import Entry
from reporting.markdown import markdown_page
from results.files import SUMMARY, replacing, write_text

DECIDING = ("python", "torch", "transformers", "numpy")  # versions that a page says


def write_docs_page(page: Section, file: Path) -> Path:
    """Write a page, and its figures into a folder `figures` beside it.

    Args:
        page: the whole of it.
        file: replaced where it is there (`check_page`), as are figures of the same names.

    Returns:
        The file, which is written last.
    """
    for block in page.walk():
        if isinstance(block, Figure):
            _draw(block, file.parent / FIGURES)
    write_text(file, markdown_page(page))
    return file


def check_page(flag: str, file: Path, *, overwrite: bool) -> None:
    """Refuses a file that is there, unless it may be replaced, and a folder.

    Args:
        flag: of the command line that names the file.
        file: that is to be written.
        overwrite: whether it may be replaced.

    Raises:
        ConfigError: with what to give instead.
    """
    if file.is_dir():
        raise ConfigError(f"{flag} {file} is a folder: give the file that is to be written.")
    if file.exists() and not overwrite:
        raise ConfigError(f"{flag} {file} is there already: give another file, or --overwrite.")


def run_facts(entries: Sequence[Entry], *, verb: str) -> Spans:
    """How many runs stand behind a page, of when, on what, with which versions and seeds.

    Args:
        entries: the rows of the page.
        verb: of make, that runs them.
    """
    runs = [run for entry in entries for run in entry.runs]
    versions = [
        f"{name} {' and '.join(values)}"
        for name in DECIDING
        if (values := sorted({str(run.versions[name]) for run in runs if name in run.versions}))
    ]
    devices = sorted({str(run.settings.get("device", "unknown")) for run in runs})
    written = max((run.folder / SUMMARY).stat().st_mtime for run in runs)
    day = datetime.fromtimestamp(written, tz=UTC).date().isoformat()
    seeds = sorted({entry.seeds for entry in entries})
    return spans(
        f"{len(runs)} evaluations, the last of {day}, on {', '.join(devices)} "
        f"({', '.join(versions)}); {'; '.join(seeds)}. ",
        code(f"make -n {verb}"),
        " prints their commands.",
    )


def _draw(figure: Figure, folder: Path) -> None:
    """The picture of a figure as PNG alone, which a page shows."""
    with tempfile.TemporaryDirectory() as drawn:
        figure.draw(Path(drawn) / figure.name)
        target = folder / f"{figure.name}.png"
        with replacing(target) as temporary:
            temporary.write_bytes((Path(drawn) / target.name).read_bytes())
