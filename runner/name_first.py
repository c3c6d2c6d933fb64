"""Lines of probes.parquet for what was asked by a name: naming questions, and chained ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datamodules.name_first import name_first
from datamodules.prompts import Prompt
from datamodules.records import Record
from metrics.name_first import CHAIN, NAME, is_beside, probe_of
from results.folder import PROBE_SCHEMA
from results.partial import Line


def name_first_lines(
    prompts: Iterable[tuple[int, str, Prompt, Record]], lines: Iterable[Line]
) -> Iterator[dict[str, object]]:
    """What was asked besides.

    Args:
        prompts: every probe of every edit: number of the edit, name, prompt, record.
        lines: of edits.parquet; they hold what was named.

    Returns:
        Of each probe that was asked by a name its naming question, of the picture, and its text
        question as it was asked, both with what the unedited model `said`.
    """
    words: dict[tuple[int, str], str] = {}
    asked: set[tuple[int, str]] = set()
    for line in lines:
        if is_beside(line["probe"]):
            key = line["edit_id"], probe_of(line["probe"])
            if line["probe"].endswith(NAME):
                words[key] = line["pre_text"]
            else:
                asked.add(key)
    for number, probe, prompt, record in prompts if words else ():
        said = words.get((number, probe))
        way = None if said is None else name_first(record, probe, prompt)
        if way is None or said is None:
            continue
        line = dict.fromkeys(PROBE_SCHEMA.names) | {"edit_id": number, "said": said}
        question, image = way.naming.question, way.naming.image
        yield line | {"probe": f"{probe}{NAME}", "question": question, "image": image}
        if (number, probe) in asked:
            yield line | {"probe": f"{probe}{CHAIN}", "question": way.question(said)}
