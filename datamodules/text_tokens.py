"""Text as tokens with the characters of each; what reads like a special token is text."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cached_property

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]  # first character of a text and the one after the last
# Stands for a picture inside a text; no text holds Unicode's noncharacters.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
MARK = f"{_OPEN}picture{_CLOSE}"


class TextTokenizer:
    """Text as tokens, all of it: a literal `<s>` or `<image>` in it stands for its characters.

    Args:
        tokenizer: a fast one.
        picture: id of the token that stands for a picture; negative where there is none.
        special: tokens of the vocabulary that a template may hold (`<|im_start|>`).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        picture: int = -1,
        special: Sequence[str] = (),
    ) -> None:
        self._tokenizer, self._picture = tokenizer, picture
        self._mark_of = {token: f"{_OPEN}{token}{_CLOSE}" for token in special}

    def marked(self, template: str) -> str:
        """A template whose special tokens are told from the same characters in a text."""
        if not self._mark_of:
            return template
        longest_first = sorted(self._mark_of, key=len, reverse=True)
        pattern = "|".join(re.escape(token) for token in longest_first)
        return re.sub(pattern, lambda found: self._mark_of[found[0]], template)

    def read(self, text: str, *, special: bool = True) -> tuple[list[int], list[Span]]:
        """Ids of a text and the characters of each.

        Args:
            text: whatever was written.
            special: whether BOS and the like, which stand for no characters, (0, 0), are put in.
        """
        if _OPEN in text and self._marking is not None:
            return self._read_marked(text, special=special)
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
        if self._marking is None or self._picture not in self._tokenizer.added_tokens_decoder:
            ids, offsets = self.read(text[:inside])
            after, spans = self.read(text[inside:], special=False)
            return ids + after, offsets + [(a + inside, b + inside) for a, b in spans], len(ids)
        ids, offsets = self._read_marked(text[:inside] + MARK + text[inside:], special=True)
        at = ids.index(self._picture)
        after_mark = [(a - len(MARK), b - len(MARK)) if b else (a, b) for a, b in offsets]
        return ids[:at] + ids[at + 1 :], offsets[:at] + after_mark[at + 1 :], at

    def _read_marked(self, text: str, *, special: bool) -> tuple[list[int], list[Span]]:
        """Ids of a text with marks; each of them is the token that it stands for."""
        assert self._marking is not None
        self._marking.encode_special_tokens = True  # read as text; a pickled copy forgets it
        encoding = self._marking.encode(text, add_special_tokens=special)
        return [self._meant.get(i, i) for i in encoding.ids], encoding.offsets

    @cached_property
    def _marks(self) -> dict[str, int]:
        """Each mark and the token that it stands for."""
        known = self._tokenizer.added_tokens_decoder
        number_of = {str(token): number for number, token in known.items()}
        marks = {mark: number_of[token] for token, mark in self._mark_of.items()}
        return marks | ({MARK: self._picture} if self._picture in known else {})

    @cached_property
    def _marking(self) -> Tokenizer | None:
        """A copy in which marks are read as the tokens that they stand for; None without any.

        The tokens themselves would not do: what a question says would be read as one too.
        """
        if not self._marks:
            return None
        marking: Tokenizer = copy.deepcopy(self._tokenizer.backend_tokenizer)
        marking.no_padding()
        marking.no_truncation()
        for mark, number in self._marks.items():
            token = self._tokenizer.added_tokens_decoder[number]
            around = {name: getattr(token, name) for name in ("lstrip", "rstrip", "normalized")}
            marking.add_tokens([AddedToken(mark, special=False, **around)])
        return marking

    @cached_property
    def _meant(self) -> dict[int, int]:
        """Ids of the marks -> of the tokens that they stand for."""
        marking = self._marking
        known = {} if marking is None else marking.get_added_tokens_decoder()
        found = {number: token.content for number, token in known.items()}
        return {n: self._marks[content] for n, content in found.items() if content in self._marks}
