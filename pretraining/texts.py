"""Everything that a world's model is asked or answers, as texts for its tokenizer."""

from __future__ import annotations

from datamodules.world import World
from pretraining.samples import (
    ANSWER_CUE,
    FACT_CUE,
    PROMPT_CUE,
    QUESTION,
    STEPS_CUE,
)


def world_texts(world: World) -> list[str]:
    """Names, objects, wordings, hop phrases and the words around them, each once."""
    texts = [QUESTION, ANSWER_CUE, STEPS_CUE, FACT_CUE, PROMPT_CUE, ";\n"]
    texts += [*world.entities, *world.facts.values()]
    for relation in world.relations.values():
        for phrase in (*relation.wordings, relation.hop_phrase):
            # What stands on either side of the subject is split as it will be around a name.
            texts += [*phrase.split("{s}"), phrase.replace("{s}", "it")]
    for kind in world.types:
        texts += [world.identity_question(kind), world.no_such_answer(kind)]
    return sorted(set(texts))
