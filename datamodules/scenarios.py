"""The scenarios: what the edit sees, and what is asked after it.

One table; the first three rows are the benchmark's (Supplementary, sections 1 and 2):

    unimodal    the edit is a text question, the probes are text
    transitive  the edit is a text question, the probes show pictures
    multimodal  the edit is a question about a picture, so are the probes
    reverse     the edit is a question about a picture, the probes are text
    joint       the edit is both questions at once, the probes are in text and show pictures

"Seen" (s) pictures are the record's `image`, "unseen" (u) ones its `image_rephrase`. Locality asks
the schema's own question (far) and, where the data has them, one about another subject of the same
relation (near) and one about another relation of the same subject.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from datamodules import prompts
from datamodules.prompts import EditMaker, Prompt, PromptMaker
from datamodules.records import Record

ScenarioName = Literal["unimodal", "transitive", "multimodal", "reverse", "joint"]
Questions = Literal["text", "image_text", "transitive"]


@dataclass(frozen=True)
class Scenario:
    """What is taught and what is asked.

    Attributes:
        name: as the user types it.
        edit: the prompts that teach one edit, with the new target as their answers.
        probes: probe name -> what it asks of a record; None where the record lacks it.
        names_first: whether what a probe asks of a picture is asked in text too, by the name that
            the unedited model gives what is shown (`datamodules.name_first`).
        n_updates: in how many updates the edits of a batch are made (`datamodules.order.dealt`) and
            stay in place, so that no probe is asked whose answer another one of them changes
            (`datamodules.contradicted`); 0: each edit is alone.
    """

    name: str
    edit: Callable[[Record], tuple[Prompt, ...]]
    probes: Mapping[str, PromptMaker]
    names_first: bool = False
    n_updates: int = 0

    def images(self, record: Record) -> list[str]:
        """The pictures that this scenario needs of a record."""
        probes = (make_prompt(record) for make_prompt in self.probes.values())
        shown = (prompt.image for prompt in (*self.edit(record), *filter(None, probes)))
        return sorted({image for image in shown if image is not None})


def _edits(makers: tuple[EditMaker, ...], record: Record) -> tuple[Prompt, ...]:
    return tuple(make_prompt(record) for make_prompt in makers)


TEXT_PROBES: Mapping[str, PromptMaker] = {
    "reliability": prompts.edit_text,
    "generality": prompts.rephrase_text,
    "portability": prompts.hop_text,
    "locality_far": prompts.far_text,
    "locality_near": partial(prompts.extra_text, "near"),
    "locality_subject": partial(prompts.extra_text, "subject"),
    "stability_same": prompts.same_text,
    "stability_diff": prompts.diff_text,
    "leak_same": partial(prompts.leak, prompts.same_text),
    "leak_diff": partial(prompts.leak, prompts.diff_text),
}
IMAGE_PROBES: Mapping[str, PromptMaker] = {
    "reliability_s": prompts.edit_image,
    "reliability_u": prompts.edit_unseen,
    "generality_s": prompts.rephrase_image,
    "generality_u": prompts.rephrase_unseen,
    "portability": prompts.hop_image,
    "locality_t_far": prompts.far_text,
    "locality_t_near": partial(prompts.extra_text, "near"),
    "locality_t_subject": partial(prompts.extra_text, "subject"),
    "locality_i_far": prompts.far_image,
    "locality_i_near": partial(prompts.extra_image, "near"),
    "locality_i_subject": partial(prompts.extra_image, "subject"),
    "stability_same": prompts.same_image,
    "stability_diff": prompts.diff_image,
    "leak_same": partial(prompts.leak, prompts.same_image),
    "leak_diff": partial(prompts.leak, prompts.diff_image),
}
# Text probes as they are called beside those with pictures, which have the text localities.
TEXT_BESIDE_PICTURES: Mapping[str, PromptMaker] = {
    f"{name}_t": make_prompt
    for name, make_prompt in TEXT_PROBES.items()
    if not name.startswith("locality")
}
# Beside a picture what is asked in text, which names the subject; training alone asks so.
NAMED_PROBES: Mapping[str, PromptMaker] = {
    "named_s": lambda record: prompts.named(record, record.image),
    "named_u": lambda record: prompts.named(record, record.image_rephrase),
}
# Probe -> the field of a record that it asks, where that may be drawn from another record.
DRAWN_FIELDS: Mapping[str, str] = {
    f"{probe}_{kind}{beside}": f"{kind}_type_entity_question"
    for probe in ("stability", "leak")
    for kind in ("same", "diff")
    for beside in ("", "_t")
}
_IN_TEXT = partial(_edits, (prompts.edit_text,))
_ON_PICTURE = partial(_edits, (prompts.edit_image,))
_BOTH = partial(_edits, (prompts.edit_text, prompts.edit_image))
SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("unimodal", _IN_TEXT, TEXT_PROBES),
        Scenario("transitive", _IN_TEXT, IMAGE_PROBES),
        Scenario("multimodal", _ON_PICTURE, IMAGE_PROBES),
        Scenario("reverse", _ON_PICTURE, TEXT_PROBES),
        Scenario("joint", _BOTH, {**IMAGE_PROBES, **TEXT_BESIDE_PICTURES}),
    )
}


_TRAINING_PROBES: Mapping[Questions, Mapping[str, PromptMaker]] = {
    "text": TEXT_PROBES,
    "image_text": IMAGE_PROBES,
    "transitive": {**IMAGE_PROBES, **TEXT_BESIDE_PICTURES, **NAMED_PROBES},
}


def training_scenario(name: str, questions: Questions, probes: set[str]) -> Scenario:
    """The scenario's edit with the outer-loss questions of an outer loss (benchmark, training).

    Args:
        name: a scenario; it decides what the edit sees.
        questions: `text` asks text questions, `image_text` shows pictures, `transitive` does both.
        probes: the names of the outer loss's questions.
    """
    table = _TRAINING_PROBES[questions]
    return replace(SCENARIOS[name], probes={name: table[name] for name in table if name in probes})


def with_end(scenario: Scenario, probes: Collection[str] = ()) -> Scenario:
    """The scenario whose edits are taught with the end token behind their target.

    The rows that teach an edit are then rows of their own: probes ask for the target alone.

    Args:
        scenario: any.
        probes: those of an outer loss that ask for the end token too.
    """
    return replace(
        scenario,
        edit=partial(_ended_edit, scenario.edit),
        probes={
            name: partial(_ended, make_prompt) if name in probes else make_prompt
            for name, make_prompt in scenario.probes.items()
        },
    )


def with_tie(scenario: Scenario) -> Scenario:
    """The scenario whose edits in text come with the question about the seen picture behind them.

    It holds the new answer, as the edit does, for editors that look at what an edit in text changes
    there (`editors.ft.tie`).

    Args:
        scenario: one whose edits are a question in text.
    """
    return replace(scenario, edit=_BOTH)


def _ended_edit(
    make_prompts: Callable[[Record], tuple[Prompt, ...]], record: Record
) -> tuple[Prompt, ...]:
    return tuple(prompt._replace(ended=True) for prompt in make_prompts(record))


def _ended(make_prompt: PromptMaker, record: Record) -> Prompt | None:
    prompt = make_prompt(record)
    return prompt and prompt._replace(ended=True)
