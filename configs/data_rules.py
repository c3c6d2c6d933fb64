"""What has to fit between data, scenario and editor, and what of `data.train` is the run's own.

As the rules in configs/rules.py: each gets the sections that are sound on their own and answers
with sentences.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from configs import schema
from configs.editing_rules import shows_records
from datamodules.source import DataOptions, pictured_names, texted_names
from editors.options import EditorOptions, TrainedEditorOptions

TRAIN = "data.train"  # the key that chooses another source to train on
# Of a run, not of a source: `data.train` has them as every source does, and nothing reads them.
_OF_THE_RUN = ("limit", "prompt", "num_workers", "taught", "allow_overlap")
_OF_DATA = re.compile(r"\bdata\.")


def keys_of_the_run(typed: Collection[str]) -> list[str]:
    """A sentence for each key of the training source that was typed and that nothing reads."""
    return [
        f"{TRAIN}.{key}: {key} holds for a whole run; say data.{key}"
        for key in _OF_THE_RUN
        if f"{TRAIN}.{key}" in typed
    ]


def data_rules(command: str, sections: dict[str, Any]) -> Iterator[str]:
    """A sentence for each thing that keeps a command from using its data."""
    data: DataOptions | None = sections.get("data")
    if data is None or (command == "edit" and not shows_records(sections)):
        return
    editor: EditorOptions | None = sections.get("editor")
    yield from data.problems(command)
    other, served, key = data.train, data, "data"
    if other is not None and command == "pretrain":
        yield f"{TRAIN}={other.name}: a model is pretrained on one world; leave {TRAIN} out"
        return
    is_read = command == "train" or (editor is not None and editor.shows_records)
    if other is not None and is_read:
        yield from (_OF_DATA.sub(f"{TRAIN}.", text) for text in other.problems("train"))
        yield from _known_rules(other, TRAIN)
        if command == "train":
            served, key = other, TRAIN
    if command == "edit":  # which asks nothing of the records
        return
    yield from _known_rules(data, "data")
    scenario: schema.ScenarioOptions | None = sections.get("scenario")
    questions = None
    if command == "train" and isinstance(editor, TrainedEditorOptions):
        questions = editor.questions
    if not served.has_pictures:
        yield from _without_pictures(served, key, scenario, questions)
    if not served.edits_text():
        yield from _without_text(served, key, scenario, questions)


def _without_pictures(
    data: DataOptions, key: str, scenario: schema.ScenarioOptions | None, questions: str | None
) -> Iterator[str]:
    """Data of text alone has nothing for questions about pictures."""
    accepted = f"data with pictures is {', '.join(pictured_names())}"
    # What is trained on text in a transitive scenario is the edit in text; the test has pictures.
    able = ("unimodal",) if key == "data" else ("unimodal", "transitive")
    if scenario is not None and scenario.name not in able:
        yield (
            f"scenario={scenario.name}: {key}={data.name} is text alone, and this scenario shows "
            f"pictures; use scenario={' or '.join(able)} ({accepted})"
        )
    if questions in ("image_text", "transitive"):
        yield (
            f"editor.questions={questions}: {key}={data.name} is text alone; use "
            f"editor.questions=text ({accepted})"
        )


def _without_text(
    data: DataOptions, key: str, scenario: schema.ScenarioOptions | None, questions: str | None
) -> Iterator[str]:
    """Data whose edits ask of their picture alone has nothing for edits in text."""
    accepted = f"data with edits in text is {', '.join(texted_names())}"
    if scenario is not None and scenario.name != "multimodal":
        yield (
            f"scenario={scenario.name}: the edits of {key}={data.name} have a question about a "
            "picture and none in text, and this scenario makes or asks them in text; use "
            f"scenario=multimodal ({accepted})"
        )
    if questions in ("text", "transitive"):
        yield (
            f"editor.questions={questions}: the edits of {key}={data.name} have no text question; "
            f"use editor.questions=image_text ({accepted})"
        )


def _known_rules(data: DataOptions, key: str) -> Iterator[str]:
    if data.filter_known != "none" and not data.says_true:
        yield (
            f"{key}.filter_known={data.filter_known}: {key}={data.name} does not say what is true, "
            "so a model cannot be asked whether it knows it; use none"
        )
    elif data.filter_known == "pictures" and not data.has_pictures:
        yield (
            f"{key}.filter_known=pictures: {key}={data.name} is text alone; use text or none "
            f"(data with pictures is {', '.join(pictured_names())})"
        )
