"""What a language model that knows nothing answers to the questions of `construction`."""

from __future__ import annotations

from construction.prompts import PROMPTS
from tests.openai_replies import Answer, Reply, Request


def prompt_name(request: Request) -> str:
    """Which question it is, by its system message."""
    system = request.text("system")
    return next(prompt.name for prompt in PROMPTS if prompt.system == system)


def good(request: Request) -> Reply:
    """An answer that keeps all rules."""
    subject, question = request.line("Subject"), request.line("Question")
    return Answer(
        {
            "entity_type": {"entity_type": "thing"},
            "paraphrase": {"paraphrase": f"Tell me: {question}"},
            "same_type_entity": {
                "same_type_entity": f"Not {subject}",
                "same_type_answer": f"answer of {len(subject)} letters",
            },
            "one_hop_question": {
                "one_hop_question": f"What is asked of what answers {subject}: "
                f"{len(request.line('Second question'))}?"
            },
        }[prompt_name(request)]
    )
