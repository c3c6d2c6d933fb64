"""README.md of a data set: first what the hub and `load_dataset` read, then what people do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCardData

from datamodules.packed.counts import Counts
from datamodules.packed.data_set import OURS, UNKNOWN_LICENCE
from datamodules.packed.folder import FOLDER, NAMES
from datamodules.source import NOT_STATED, RecordSource, Split
from errors import some_of

# The hub's names for the size of a data set: up to how many records each is for.
_SIZES = {
    10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M",
}  # fmt: skip
# Licences that the hub has a name for; any other is `other`, with its own name beside it.
_LICENCES = (
    "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "odc-by", "odbl",
)  # fmt: skip
_RELATIONS = 30  # that are listed by name
_UNSTATED = (
    "The authors of these records and pictures state no licence. That is no permission: who wants "
    "to pass them on, or to use them for more than their own reading, has to ask the authors."
)


def card(
    source: RecordSource,
    counts: Mapping[Split, Counts],
    sizes: Mapping[str, int],
    *,
    absent: Sequence[str],
    words: Sequence[str],
) -> str:
    """The page of a data set.

    Args:
        source: where the records come from.
        counts: of each split.
        sizes: file -> bytes.
        absent: names of pictures that are named and not there.
        words: of the command line that names the source.
    """
    terms = source.terms
    parts = [
        f"# Edits of {source.name}",
        f"{sum(of.records for of in counts.values()):,} edits of knowledge with everything that is "
        "asked after each: a fact about a subject, its new answer, a paraphrase, questions that "
        "take more than the fact, and questions that the edit must leave alone. "
        + _pictures(counts, absent),
        "## How to read it",
        '```python\nfrom datasets import load_dataset\n\nrecords = load_dataset("DIR")\n```',
        "`DIR` is this folder, or the name of its repository. To judge an editor on it:",
        "```bash\npython evaluate.py editor=ft data=hub data.root=DIR "
        f"scenario={_scenario(counts)}\n```",
        "## Origin and licence",
        f"- Records: `data={terms['source']}`, origin: {terms['origin']}\n"
        f"- Licence: {terms['licence']}",
        *([] if source.terms["licence"] != NOT_STATED else [_UNSTATED]),
        "## What is in it",
        _table(counts, "", lambda of: {"records": of.records}),
        "Records by relation:",
        _table(counts, "relation", lambda of: _relations(of, counts)),
        "Records that a probe can be asked of, in text:",
        _table(counts, "probe", lambda of: of.text_probes),
        "About pictures:",
        _table(counts, "probe", lambda of: of.image_probes),
        *_drawn(counts),
        *_missing(absent),
        "## How it was made",
        f"```bash\npython -m datamodules export {' '.join(map(_shareable, words))} --output DIR"
        f"{' --allow-missing' if absent else ''}\n```",
        f"Digest of the records: `{source.digest()}`, as results name it.",
    ]
    metadata = DatasetCardData(**_metadata(source, counts, sizes))
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(
    source: RecordSource, counts: Mapping[Split, Counts], sizes: Mapping[str, int]
) -> dict[str, Any]:
    names = {split: NAMES[split][0] for split in counts}
    files = [{"split": name, "path": f"{FOLDER}/{name}-*"} for name in names.values()]
    return {
        "pretty_name": f"Edits of {source.name}",
        **_licence(source.terms["licence"]),
        "task_categories": ["visual-question-answering", "question-answering"],
        "tags": ["knowledge-editing", "multimodal"],
        "size_categories": _size(sum(of.records for of in counts.values())),
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {
            "splits": [
                {"name": name, "num_bytes": _bytes(sizes, name), "num_examples": of.records}
                for name, of in zip(names.values(), counts.values(), strict=True)
            ],
            "download_size": sum(sizes.values()),
            "dataset_size": sum(sizes.values()),
        },
        OURS: facts(source),
    }


def facts(source: RecordSource) -> dict[str, Any]:
    """What data=hub has to know besides the records, to ask them as the source does."""
    return {
        "source": source.name,
        "plain_locality": source.plain_locality,
        "cloze": source.cloze,
        "entity_folders": source.entity_folders,
        "content": source.content,
        **{key: text for key in ("licence", "origin") if (text := source.terms[key]) != NOT_STATED},
    }


def _pictures(counts: Mapping[Split, Counts], absent: Sequence[str]) -> str:
    """Where the pictures are."""
    if not any(of.image_probes for of in counts.values()):
        return "All of it is text: there are no pictures."
    if absent:
        return "Some is about pictures, not all of which are inside the files."
    return "Some is about pictures, which are inside the files."


def _scenario(counts: Mapping[Split, Counts]) -> str:
    """One that the records can be asked in."""
    in_text = any(of.text_probes["reliability"] for of in counts.values())
    return "unimodal" if in_text else "multimodal"


def _licence(licence: str) -> dict[str, str]:
    name = licence.partition(" (")[0].lower()
    if licence == NOT_STATED:
        return {"license": UNKNOWN_LICENCE}
    return {"license": name} if name in _LICENCES else {"license": "other", "license_name": licence}


def _size(n_records: int) -> list[str]:
    return [next((name for most, name in _SIZES.items() if n_records < most), "10M<n<100M")]


def _bytes(sizes: Mapping[str, int], split: str) -> int:
    return sum(size for name, size in sizes.items() if name.startswith(f"{FOLDER}/{split}-"))


def _table(
    counts: Mapping[Split, Counts], what: str, numbers: Callable[[Counts], Mapping[str, int]]
) -> str:
    """A line for each name that any split counts, the most frequent first; a column a split."""
    of_split = {split: numbers(of) for split, of in counts.items()}
    total: Counter[str] = Counter()
    for each in of_split.values():
        total.update(each)
    heads = [what, *(NAMES[split][0] for split in counts)]
    lines = [_line(heads), _line(["---", *("---:" for _ in counts)])]
    lines += [
        _line([name, *(f"{each.get(name, 0):,}" for each in of_split.values())])
        for name, _ in total.most_common()
    ]
    return "\n".join(lines) if total else "None."


def _relations(of: Counts, every: Mapping[Split, Counts]) -> dict[str, int]:
    """The most frequent relations of all splits by name, and the others together."""
    total: Counter[str | None] = Counter()
    for each in every.values():
        total.update(each.relations)
    listed = {relation for relation, _ in total.most_common(_RELATIONS)}
    numbers: Counter[str] = Counter()
    for relation, n in of.relations.items():
        name = (relation or "(not named)") if relation in listed else "(others)"
        numbers[name] += n
    return numbers


def _drawn(counts: Mapping[Split, Counts]) -> list[str]:
    if not any(of.drawn for of in counts.values()):
        return []
    return [
        "Fields that were drawn from other records of the same split, which the column `drawn` "
        "names:",
        _table(counts, "field", lambda of: of.drawn),
    ]


def _shareable(word: str) -> str:
    """A word of the command line without the folders of this machine."""
    key, sign, value = word.partition("=")
    return f"{key}{sign}{os.path.basename(value.rstrip('/'))}" if os.path.isabs(value) else word


def _missing(absent: Sequence[str]) -> list[str]:
    if not absent:
        return []
    return [
        f"{len(absent):,} pictures are named and not here, since the source had none of their "
        f"files: {some_of(absent)}."
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
