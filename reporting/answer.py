"""The answer in words: what part of a text edit reaches pictures, where it is lost, what helps.

Sentences are made from the numbers of `reporting.reach`, `reporting.chain` and
`reporting.remedies`, so that they say what was measured and no more: a rise or a loss is called one
where its 95 % interval excludes 0, and what cannot be told is said to be so.
"""

from collections.abc import Iterator, Mapping, Sequence

from metrics.bootstrap import Estimate
from metrics.chain import BY_CHANCE, CARRIED, CLASSES, NOT_CARRIED, NOT_RECOGNISED
from reporting.blocks import Items, Section, Span, Spans, Text, spans, text
from reporting.chain import Split
from reporting.clusters import intervals_over
from reporting.comparable import by_model
from reporting.entries import Entry
from reporting.formats import EMPTY
from reporting.labels import UNEDITED, model_label
from reporting.pairs import ROUNDING
from reporting.reach import SPECIFIC_GAIN, Reach
from reporting.remedies import (
    NAME_FIRST,
    REMEDIES,
    SEEN,
    SHOWN,
    SPECIFIC,
    Remedied,
    Shown,
)

Changes = Mapping[Shown, Estimate]
LOST = (NOT_CARRIED, NOT_RECOGNISED)  # where an answer that is not given may be lost


def answer_section(
    reached: Sequence[Reach], splits: Sequence[Split], changed: Sequence[Remedied]
) -> Section:
    """What was found, over all models and then of each.

    Args:
        reached: rows that were asked in text and about pictures.
        splits: of the transitive scenario and the seen picture.
        changed: rows that a remedy was run of.
    """
    splits = [split for split in splits if split.entry.editor != UNEDITED]
    overall = [*_over_rows(reached, splits), *(_helped(changed, remedy) for remedy in REMEDIES)]
    models = by_model([reach.on_picture for reach in reached])
    sections = [
        Section(
            f"{model_label(model)}, {_size(rows)}",
            (
                Items(
                    tuple(
                        _of_model(
                            [reach for reach in reached if reach.on_picture.model == model],
                            [split for split in splits if split.entry.model == model],
                            [one for one in changed if one.entry.model == model],
                        )
                    )
                ),
            ),
        )
        for model, rows in models
    ]
    return Section("The answer", (_what_is_asked(reached), Items(tuple(overall)), *sections))


def _what_is_asked(reached: Sequence[Reach]) -> Text:
    over = intervals_over([reach.on_picture for reach in reached])
    return text(
        "A fact is edited in text, and asked about a picture of its subject that does not name it. "
        "What the edit brings there is above two floors: what the unedited model scores on the "
        "same question (gain), and what the new answer scores about a picture of another subject "
        "of the type (specificity), by more than it is for the unedited model (gain in "
        f"specificity). In brackets are 95 % bootstrap intervals over {over}."
    )


def _over_rows(reached: Sequence[Reach], splits: Sequence[Split]) -> Iterator[Spans]:
    """What holds for how many rows."""
    at_a_floor = [_named(reach.on_picture) for reach in reached if not reach.arrives]
    rest = f"; not told from one of them: {', '.join(at_a_floor)}" if at_a_floor else ""
    yield spans(
        *_bold("What reaches the picture. "),
        f"Of {len(reached)} rows (a model and an editor), {len(reached) - len(at_a_floor)} answer "
        f"about the picture above both floors{rest}.",
        *_range(reached),
    )
    title = _bold("Where it is lost. ")
    if not splits:
        yield spans(*title, "No result says what the model named.")
        return
    kinds = [_lost_at(split) for split in splits]
    chance = sum(split.shares[BY_CHANCE].mean > split.shares[CARRIED].mean for split in splits)
    yield spans(
        *title,
        f"Of {len(splits)} rows, most of the answers that are not given are about pictures that "
        f"the model recognises in {kinds.count(NOT_CARRIED)}, and about pictures that it does not "
        f"recognise in {kinds.count(NOT_RECOGNISED)}; in {chance} more answers are given by chance "
        "than by way of recognition.",
    )


def _range(reached: Sequence[Reach]) -> list[str]:
    """The least and the largest part that reaches pictures, of the rows where it is told."""
    shares = sorted(
        (
            (share.mean, f"{_share(share)} ({_named(reach.on_picture)})")
            for reach in reached
            if reach.arrives and (share := reach.parts[SPECIFIC_GAIN].share).n
        ),
        key=lambda of_row: of_row[0],
    )
    if not shares:
        return []
    ends = [phrase for _, phrase in (shares[0], shares[-1])]
    between = ends[0] if len(shares) == 1 else f"between {' and '.join(ends)}"
    return [
        f" Of what an edit adds there in text above the answer about others, {between} reaches it."
    ]


def _share(share: Estimate) -> str:
    return f"{share.mean:.0f} % [{share.low:.0f}, {share.high:.0f}]"


def _helped(changed: Sequence[Remedied], remedy: str) -> Spans:
    """In how many rows a remedy helps, and in how many it costs something."""
    tried = [(one.entry, one.changes[remedy]) for one in changed if remedy in one.changes]
    of_edits = [changes for entry, changes in tried if entry.editor != UNEDITED]
    of_none = [changes for entry, changes in tried if entry.editor == UNEDITED]
    title = _bold(f"{remedy.capitalize()}. ")
    if not of_edits:
        return spans(*title, "Not run.")
    helped = []
    for shown in (SEEN, SPECIFIC):
        up, down, of = _counted(of_edits, shown)
        helped.append(f"{shown.title} rises in {up} of {of} rows and falls in {down}")
    prices = [shown for shown in SHOWN if shown.is_price]
    told = [
        f"{shown.title} falls in {down} of {of}{_of_itself(of_none, shown)}"
        for shown in prices
        for _, down, of in [_counted(of_edits, shown)]
        if of
    ]
    price = f" What should stay: {', '.join(told)}." if told else ""
    above = [one.by_name for one in changed if remedy == NAME_FIRST and one.by_name]
    clear = [_counted(above, shown)[::2] for shown in (SEEN, SPECIFIC)]
    added = (
        f" Asked so, the edit is above the unedited model in {SEEN.title} in {clear[0][0]} of "
        f"{clear[0][1]} rows, and in {SPECIFIC.title} in {clear[1][0]} of {clear[1][1]}."
    )
    return spans(*title, f"{', '.join(helped)}.{added if above else ''}{price}")


def _counted(of_rows: Sequence[Changes], shown: Shown) -> tuple[int, int, int]:
    """Of how many rows a figure rises, falls, and is known at all."""
    measured = [changes[shown] for changes in of_rows if shown in changes]
    return sum(map(_rises, measured)), sum(map(_falls, measured)), len(measured)


def _of_itself(of_none: Sequence[Changes], shown: Shown) -> str:
    """What a remedy does to the unedited model is no price of an edit."""
    _, down, of = _counted(of_none, shown)
    return f" (of the unedited model in {down} of {of})" if down else ""


def _of_model(
    reached: Sequence[Reach], splits: Sequence[Split], changed: Sequence[Remedied]
) -> Iterator[Spans]:
    """A line per editor, and one per remedy."""
    of_editors = {split.entry.name: split for split in splits}
    for reach in reached:
        lost = of_editors.get(reach.name)
        yield spans(*_bold(f"{reach.name}: "), _reach_phrase(reach), *_split_phrase(lost))
    for remedy in REMEDIES:
        tried = [one for one in changed if remedy in one.changes]
        phrases = [f"{one.entry.name} {_change_phrase(one.changes[remedy])}" for one in tried]
        if phrases:
            title = f"{remedy.capitalize()} changes {SPECIFIC.title} by: "
            yield spans(*_bold(title), "; ".join(phrases), ".")


def _reach_phrase(reach: Reach) -> str:
    part = reach.parts.get(SPECIFIC_GAIN)
    if part is None:
        return "no record has a probe about another subject."
    points = (
        f"{_points(part.on_picture)} points of gain in specificity on the picture, "
        f"{_points(part.in_text)} in text"
    )
    floor = "" if reach.arrives else "; on the picture it is not told from a floor"
    reaches = f"{_share(part.share)} reaches it; " if part.share.n else ""
    return f"{reaches}{points}{floor}."


def _split_phrase(split: Split | None) -> list[str]:
    if split is None:
        return []
    shares = ", ".join(f"{split.shares[kind].mean:.0f} % {kind}" for kind in CLASSES)
    return [f" Of {split.n} pictures {shares}."]


def _change_phrase(changes: Changes) -> str:
    lost = [
        f"{shown.title} {_points(change)}"
        for shown, change in changes.items()
        if shown.is_price and _falls(change)
    ]
    change = _points(changes[SPECIFIC]) if SPECIFIC in changes else EMPTY
    return f"{change} (price: {', '.join(lost)})" if lost else change


def _lost_at(split: Split) -> str:
    """Where more of a row's failures are; empty where nothing fails, or as many here as there."""
    here, there = (split.shares[kind].mean for kind in LOST)
    return "" if here == there else LOST[0 if here > there else 1]


def _points(change: Estimate) -> str:
    """`+12.3 [10.1, 14.6]`."""
    if not change.has_interval:
        return f"{change.mean + 0.0:+.1f}"
    low, high = (round(end, 1) + 0.0 for end in (change.low, change.high))
    return f"{round(change.mean, 1) + 0.0:+.1f} [{low:.1f}, {high:.1f}]"


def _rises(change: Estimate) -> bool:
    return change.low > ROUNDING


def _falls(change: Estimate) -> bool:
    return change.high < -ROUNDING


def _named(entry: Entry) -> str:
    return f"{entry.name} on {model_label(entry.model)}"


def _size(rows: Sequence[Entry]) -> str:
    """How many edits stand behind a model's rows."""
    sizes = sorted({row.n_edits for row in rows})
    return f"{' or '.join(map(str, sizes))} edits"


def _bold(words: str) -> tuple[Span]:
    return (Span(words, "bold"),)
