"""`python -m construction`: a table of facts becomes rows with their answers.

    DIR/journal.jsonl        what was sent and answered
    DIR/answers.jsonl        rows that are complete, with their answers
    DIR/construction.json    what was read, asked, paid, left out and made

What is made of the answers is in `making`. Everything but the journal is written anew by each run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.console import Console

from configs.construction import JOURNAL
from configs.construction_words import require_key
from configs.schema import ConstructionConfig
from configs.signals import signals
from construction.answers import ANSWERS, AnsweredRow, write_answers
from construction.asking import Outcome, ask
from construction.batches import ask_in_batches
from construction.budget import Budget
from construction.dry_run import forecast, show_forecast
from construction.endpoint import require_client
from construction.journal import Journal, put_aside
from construction.making import Maker
from construction.progress import shown
from construction.prompts import VERSION
from construction.requests import Question, Unanswered, answers_of, due, questions
from construction.rows import Row, Rows, read_rows
from datamodules.left_out import LeftOut, first_of
from datamodules.missing_pictures import check_present, missing_pictures
from datamodules.picture_folder import PictureFolder
from errors import ConfigError, DataError, Stopped, some_of
from results.files import write_text
from results.lock import locked
from results.screen import screen

SUMMARY = "construction.json"
COMPLETE, INCOMPLETE = 0, 1
_SHOWN = 5  # failures that are printed; the summary lists all
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}


class Incomplete(NamedTuple):
    """A row without answers.

    Attributes:
        row: the row.
        failed: name of a prompt -> why it has no answer and will have none by itself.
        open: names of prompts that were not answered yet.
    """

    row: Row
    failed: Mapping[str, str]
    open: tuple[str, ...]


def run(config: ConstructionConfig) -> int:
    """Runs the command.

    Returns:
        Exit status: 0 when every row is complete, 1 when some are not.

    Raises:
        TmkeError: a mistake of the user.
        Stopped: a signal came; what was answered is kept.
    """
    table, maker = read_table(config), Maker(config)
    of_rows = [questions(row, config.endpoint, config.attempts) for row in table.rows]
    console = screen(stderr=True, highlight=False)
    _tell_left_out(table, console)
    folder = Path(config.output_dir)
    journal = Journal(folder / JOURNAL, header_of(config), signals.held)
    if config.dry_run:
        if not config.overwrite:
            journal.read()
        show_forecast(forecast([q for of_row in of_rows for q in of_row], journal), config)
        return COMPLETE
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if config.overwrite and (aside := _other_journal(journal)):
            console.print(f"the earlier journal is now {aside}", soft_wrap=True)
            journal = Journal(folder / JOURNAL, header_of(config), signals.held)
        with journal.opened():
            outcome, budget = _ask(config, of_rows, journal, console)
        answered, incomplete = sorted_out(table.rows, of_rows, journal, outcome)
        write_answers(folder / ANSWERS, answered)
        summary = summary_of(config, table, answered, incomplete, outcome, budget)
        summary["answered_by"] = sorted({reply.model for reply in journal.replies.values()})
        _write_summary(folder, summary)
        _tell(config, answered, incomplete, outcome, budget)
        if outcome.error is not None:
            raise outcome.error
        if outcome.signal:
            raise Stopped(outcome.signal, "after the requests under way")
        made = maker.make(answered)
        _write_summary(folder, summary | made.summary)
    for line in made.lines:
        screen(highlight=False).print(line, soft_wrap=True, markup=False)
    return INCOMPLETE if incomplete else COMPLETE


def read_table(config: ConstructionConfig) -> Rows:
    """The rows that are asked about: sound, with pictures that are there.

    Raises:
        DataError: some are not, and `on_error` is `error`; or none is.
    """
    path, folder = Path(config.rows), Path(config.pictures or ".")
    table = read_rows(path, config.on_error)
    rows, left_out = table.rows[: config.limit], list(table.left_out)
    pictures = PictureFolder(folder)
    if config.on_error == "error":
        check_present(
            (name for row in rows for name in row.pictures), pictures, who=f"{path} names",
            where=f"pictures={folder}",
            ways="name their folder with pictures=DIR, or leave such rows out with on_error=skip",
        )  # fmt: skip
    missing = {row.id: missing_pictures(row.pictures, pictures) for row in rows}
    for row in rows:
        if missing[row.id]:
            why = f"the picture {missing[row.id][0]} is not in {folder}"
            left_out.append(LeftOut(f"row {row.id}", row.subject, why))
    usable = tuple(row for row in rows if not missing[row.id])
    if not usable:
        raise DataError(f"{path}: no row is left: {first_of(left_out)}.")
    return Rows(usable, tuple(left_out), table.unread)


def header_of(config: ConstructionConfig) -> dict[str, Any]:
    """What all replies of a journal have in common; the port of a server here means nothing."""
    endpoint = config.endpoint
    address = endpoint.base_url or ""
    is_here = urlsplit(address).hostname in _THIS_MACHINE
    return {
        "prompts": VERSION,
        "endpoint.model": endpoint.model,
        "endpoint.base_url": "this machine" if is_here else address,
        "endpoint.temperature": endpoint.temperature,
        "endpoint.seed": endpoint.seed,
        "endpoint.answer_form": endpoint.answer_form,
    }


def _other_journal(journal: Journal) -> Path | None:
    """Puts a journal aside that cannot be used; one that can is kept, and nothing paid twice."""
    try:
        journal.read()
    except DataError:
        return put_aside(journal.path)
    return None


def _ask(
    config: ConstructionConfig, of_rows: Sequence[Sequence[Question]], journal: Journal,
    console: Console,
) -> tuple[Outcome, Budget]:  # fmt: skip
    if journal.lost:
        console.print(
            f"{len(journal.lost)} requests were under way when an earlier run ended; they are sent "
            "again, and may be paid for twice"
        )
    single = [reply for key, reply in journal.replies.items() if key not in journal.batched]
    batched = [journal.replies[key] for key in journal.batched]
    budget = Budget(
        config.budget, config.prices, in_batches=config.batch.use, single=single, batched=batched
    )
    flat = [question for of_row in of_rows for question in of_row]
    is_due = next(due(flat, journal.replies), None) is not None
    if is_due or journal.open_batches or journal.uploads:
        require_key()
        require_client()
    if journal.open_batches and not config.batch.use:
        raise ConfigError(
            f"{journal.path} has {len(journal.open_batches)} batches under way "
            f"({some_of(list(journal.open_batches))}), and what they ask would be paid for twice. "
            "Add batch.use=true, which waits for them."
        )
    if config.batch.use:
        outcome = ask_in_batches(flat, config, journal, budget, console.print)
        return outcome, budget
    with shown(flat, journal, budget, config.prices, console) as progress:
        outcome = ask(flat, config, journal, budget, progress)
    return outcome, budget


def sorted_out(
    rows: Sequence[Row], of_rows: Sequence[Sequence[Question]], journal: Journal, outcome: Outcome
) -> tuple[list[AnsweredRow], list[Incomplete]]:
    """Rows with all of their answers, and the others."""
    answered, incomplete = [], []
    for row, of_row in zip(rows, of_rows, strict=True):
        result = answers_of(row, of_row, journal.replies)
        if not isinstance(result, Unanswered):
            answered.append(AnsweredRow(row=row, answers=result))
            continue
        failed = {name: "; ".join(failure.mistakes) for name, failure in result.failures.items()}
        lost = {name: why for name in result.open if (why := outcome.failed.get((row.id, name)))}
        pending = tuple(name for name in result.open if name not in lost)
        incomplete.append(Incomplete(row, {**failed, **lost}, pending))
    return answered, incomplete


def summary_of(
    config: ConstructionConfig, table: Rows, answered: Sequence[AnsweredRow],
    incomplete: Sequence[Incomplete], outcome: Outcome, budget: Budget,
) -> dict[str, Any]:  # fmt: skip
    """What construction.json says."""
    total, endpoint = budget.spent.total, config.endpoint
    is_priced = config.prices.are_of(endpoint.model)
    return {
        "rows": config.rows,
        "model": endpoint.model,
        "endpoint": endpoint.base_url,
        "prompts": VERSION,
        "complete": len(answered),
        "incomplete": [
            {"id": one.row.id, "subject": one.row.subject, "failed": dict(one.failed),
             "open": list(one.open)}
            for one in incomplete
        ],
        "left_out": [str(one) for one in table.left_out],
        "columns_not_read": list(table.unread),
        "halted": outcome.halted or None,
        "calls": total.calls,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "dollars": round(budget.spent.dollars(config.prices), 6) if is_priced else None,
        "prices": config.prices.model_dump() if is_priced else None,
    }  # fmt: skip


def _write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    write_text(folder / SUMMARY, f"{text}\n")


def _tell_left_out(table: Rows, console: Console) -> None:
    if table.unread:
        console.print(f"columns that are not read: {', '.join(table.unread)}", soft_wrap=True)
    if table.left_out:
        console.print(
            f"{len(table.left_out)} rows are left out: {first_of(table.left_out)}", soft_wrap=True
        )


def _tell(
    config: ConstructionConfig, answered: Sequence[AnsweredRow], incomplete: Sequence[Incomplete],
    outcome: Outcome, budget: Budget,
) -> None:  # fmt: skip
    console, total = screen(highlight=False), budget.spent.total
    rows = len(answered) + len(incomplete)
    money = ""
    if config.prices.are_of(config.endpoint.model):
        money = f", ${budget.spent.dollars(config.prices):.4f}"
    console.print(
        f"{len(answered)} of {rows} rows complete; {outcome.sent} requests sent now, "
        f"{total.calls} paid in all: {total.input_tokens} + {total.output_tokens} tokens{money}",
        soft_wrap=True,
    )
    failed = [one for one in incomplete if one.failed]
    for one in failed[:_SHOWN]:
        why = "; ".join(f"{name}: {reason}" for name, reason in one.failed.items())
        console.print(f"  no answer for {one.row.subject!r} ({one.row.id}): {why}", soft_wrap=True)
    if len(failed) > _SHOWN:
        console.print(f"  and {len(failed) - _SHOWN} more, in {SUMMARY}")
    if outcome.halted:
        console.print(f"stopped: {outcome.halted.rstrip('.')}.", soft_wrap=True)
    console.print(f"wrote {Path(config.output_dir) / ANSWERS} and {SUMMARY}", soft_wrap=True)
