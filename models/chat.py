"""How a family of multimodal LLMs was taught to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

PICTURE, QUESTION = "{picture}", "{question}"


@dataclass(frozen=True)
class ChatForm:
    """A family's native prompt.

    Attributes:
        text: with `{question}`, for rows without a picture.
        picture: with `{picture}` and `{question}`.
        special: tokens of the vocabulary that the form's own words are (`<|im_start|>`); in a
            question the same characters are text.
        blank: whether one stands between the form and an answer.
    """

    text: str
    picture: str
    special: tuple[str, ...] = ()
    blank: bool = True


def chat_form(processor: Any, tokenizer: PreTrainedTokenizerBase, shown: str) -> ChatForm | None:
    """What a model's own chat template makes of a question, and of a picture and a question.

    Args:
        processor: of the model's folder; its template counts before the tokenizer's.
        tokenizer: renders it.
        shown: how the template writes a picture.

    Returns:
        The form; None where there is no template, or none that takes a picture and a question.
    """
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        return None
    asked, image = {"type": "text", "text": QUESTION}, {"type": "image"}
    try:
        text, picture = (
            str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    chat_template=template, tokenize=False, add_generation_prompt=True,
                )
            )
            for content in ([asked], [image, asked])
        )  # fmt: skip
    except (TemplateError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if picture.count(shown) != 1 or any(made.count(QUESTION) != 1 for made in (text, picture)):
        return None
    text, picture = (_without_bos(made, tokenizer) for made in (text, picture))
    picture = picture.replace(shown, PICTURE)
    known = (str(token) for token in tokenizer.added_tokens_decoder.values())
    special = tuple(token for token in known if token in text or token in picture)
    return ChatForm(text, picture, special, blank=not text[-1].isspace())


def _without_bos(prompt: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A prompt without the BOS that the tokenizer puts in front by itself."""
    bos = tokenizer.bos_token
    own = bos is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return prompt.removeprefix(bos) if own and bos else prompt
