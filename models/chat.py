"""How a family of multimodal LLMs was taught to be asked."""

from __future__ import annotations

from dataclasses import dataclass

PICTURE = "{picture}"


@dataclass(frozen=True)
class ChatForm:
    """A family's native prompt.

    Attributes:
        text: with `{question}`, for rows without a picture.
        picture: with `{picture}` and `{question}`.
    """

    text: str
    picture: str
