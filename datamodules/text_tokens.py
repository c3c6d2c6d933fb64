"""Text as tokens with the characters of each; what reads like a special token is text."""

from __future__ import annotations

import copy
from functools import cached_property

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]  # first character of a text and the one after the last
# Stands for a picture inside a text; no text holds Unicode's noncharacters.
MARK = "\ufdd0picture\ufdd1"


class TextTokenizer:
    """Text as tokens, all of it: a literal `<s>` or `<image>` in it stands for its characters.

    Args:
        tokenizer: a fast one.
        picture: id of the token that stands for a picture; negative where there is none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, picture: int = -1) -> None:
        self._tokenizer, self._picture = tokenizer, picture

    def read(self, text: str, *, special: bool = True) -> tuple[list[int], list[Span]]:
        """Ids of a text and the characters of each.

        Args:
            text: whatever was written.
            special: whether BOS and the like, which stand for no characters, (0, 0), are put in.
        """
        output = self._tokenizer(
            text,
            return_offsets_mapping=True,
            add_special_tokens=special,
            split_special_tokens=True,
            verbose=False,  # of a long text; the check of rows says it by record
        )
        return list(output["input_ids"]), [(a, b) for a, b in output["offset_mapping"]]

    def read_around(self, text: str, inside: int) -> tuple[list[int], list[Span], int]:
        """The same with a picture before character `inside`, and the token before which it stands.

        No token joins what comes before and after the picture. Where the vocabulary has an image
        token it stands between the two, as in the family's own processor (LLaVA); elsewhere they
        are tokenised apart, as MiniGPT-4's code does it.
        """
        if self._marking is None:
            ids, offsets = self.read(text[:inside])
            after, spans = self.read(text[inside:], special=False)
            return ids + after, offsets + [(a + inside, b + inside) for a, b in spans], len(ids)
        self._marking.encode_special_tokens = True  # read as text; a pickled copy forgets it
        encoding = self._marking.encode(text[:inside] + MARK + text[inside:])
        at = encoding.tokens.index(MARK)
        after_mark = [(a - len(MARK), b - len(MARK)) if b else (a, b) for a, b in encoding.offsets]
        ids = encoding.ids[:at] + encoding.ids[at + 1 :]
        return ids, encoding.offsets[:at] + after_mark[at + 1 :], at

    @cached_property
    def _marking(self) -> Tokenizer | None:
        """A copy in which `MARK` is read as the image token is; None where there is no such token.

        The image token itself would not do: what a question says would be read as one too.
        """
        token = self._tokenizer.added_tokens_decoder.get(self._picture)
        if token is None:
            return None
        marking: Tokenizer = copy.deepcopy(self._tokenizer.backend_tokenizer)
        marking.no_padding()
        marking.no_truncation()
        around = {name: getattr(token, name) for name in ("lstrip", "rstrip", "normalized")}
        marking.add_tokens([AddedToken(MARK, special=False, **around)])
        return marking
