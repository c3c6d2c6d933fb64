"""The words of a command line as Hydra can read them: the text typed is the text used.

Hydra reads `2026_11_24` as the number 20261124, `1e5` as 100000.0 and a comma as a sweep, and it
refuses `a=b`, `~`, brackets and letters beyond ASCII. Where the option's class says that a value is
text (a path, a name), what Hydra would read otherwise is put between quotes before Hydra sees it:

    data.root=~/é=1  ->  data.root="~/é=1"

What is quoted already, a list `[a,b]` of a key that takes one, `null` where nothing is an answer,
and, with -m, a list of values or a function such as `glob(*)` stay what they are to Hydra.
"""

import copy
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString
from hydra.errors import HydraException

from configs.data_rules import TRAIN
from configs.schema import COMMANDS
from datamodules.source import DataOptions, source_names, source_options
from editors.registry import editor_names, registration
from options import (
    HubMark,
    Options,
    PathMark,
    WholeMark,
    from_home,
    local_or_hub,
    without_tilde,
)

_WORD = re.compile(r"(?P<plus>\+{0,2})(?P<key>[\w./@]+)=(?P<value>.*)", re.ASCII | re.DOTALL)
_BARE_LIST = re.compile(r"^(\+{0,2}protocol\.n=)([^][(){}'\"]*,[^][(){}'\"]*)$")
_OPENED = {"(": ")", "[": "]", "{": "}"}
# Sections whose keys follow from a name in them: the names there are, and the option class of one.
_CHOSEN: Mapping[str, tuple[Callable[[], list[str]], Callable[[str], type[Options]]]] = {
    "editor": (editor_names, lambda name: registration(name).options),
    "data": (source_names, source_options),
}


@dataclass(frozen=True)
class TextKey:
    """A key whose values are text.

    Attributes:
        is_path: whether it is the path of a file or folder, or a name that may be one.
        is_list: whether it takes several.
        may_be_null: whether `null` is an answer.
        is_whole: whether it is taken letter by letter (`whole_words`).
        is_path_or_hub: whether it is a path, or a repository of a hub.
    """

    is_path: bool
    is_list: bool = False
    may_be_null: bool = False
    is_whole: bool = False
    is_path_or_hub: bool = False


def quote_words(words: Iterable[str], *, multirun: bool = False) -> list[str]:
    """The same words, with quotes where Hydra would read another text than was typed.

    `protocol.n=1,10` becomes `protocol.n=[1,10]`, one list and not a sweep, unless `multirun`. What
    comes back is not changed by a second call.

    Args:
        words: a command line; flags may be among them.
        multirun: whether -m is, so that commas make several runs.
    """
    words = [_as_group(word) for word in words]
    if not multirun:
        words = [_BARE_LIST.sub(r"\1[\2]", word) for word in words]
    return [_quote_word(word, multirun) for word in words]


def whole_words(words: Iterable[str]) -> list[str]:
    """The same words; where a text is taken letter by letter, between quotes that Hydra takes off.

    Not twice: quotes that are typed, `null` and `${...}` are letters of such a text.
    """
    return [_whole_word(word) for word in words]


def _as_group(word: str) -> str:
    """`data.train=NAME` as Hydra has it: the group `data` once more, in a place of its own."""
    match = _WORD.fullmatch(word)
    return f"+data@{TRAIN}={match['value']}" if match and match["key"] == TRAIN else word


def key_of(word: str) -> str | None:
    """The key or group that a word sets, whatever Hydra makes of its value."""
    match = _WORD.fullmatch(word)
    return match["key"] if match else None


def without_tildes(plain: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose paths begin with the home folder and not with a tilde."""
    plain = copy.deepcopy(plain)
    for key, kind in _text_keys_of(plain):
        *sections, last = key.split(".")
        node: Any = plain
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        value = node.get(last) if kind.is_path and isinstance(node, dict) else None
        if isinstance(value, str):
            # A list's files lie in another option's folder, not in the working directory.
            expanded = local_or_hub if kind.is_path_or_hub else without_tilde
            node[last] = from_home(value) if kind.is_list else expanded(value)
        elif isinstance(value, list):
            node[last] = [from_home(v) if isinstance(v, str) else v for v in value]
    return plain


def quoted(text: str) -> str:
    """A text between quotes, as Hydra reads it back."""
    quote = Quote.single if '"' in text else Quote.double
    return QuotedString(text, quote).with_quotes()


def typed_value(value: object) -> str:
    """A value of an option as it is typed: quoted text, or texts by name between braces.

    >>> typed_value({"0": "20GB", "cpu": "60GB"})
    '{0: "20GB", cpu: "60GB"}'
    """
    if isinstance(value, Mapping):
        names = {_MEANS.sub(r"\\\g<0>", str(name)): each for name, each in value.items()}
        return f"{{{', '.join(f'{name}: {typed_value(each)}' for name, each in names.items())}}}"
    return quoted(str(value))


_MEANS = re.compile(r"[\\()\[\]{}:=, \t]")  # what Hydra's grammar has in names for its own


@cache
def text_keys(section: str) -> Mapping[str, TextKey]:
    """The keys whose values are text, by dotted name.

    Args:
        section: `editor` or `data`: those that any editor or source has. Only who types such a key
            waits until all of their files are read. Empty: all other keys of all commands.
    """
    if section in _CHOSEN:
        names, options = _CHOSEN[section]
        prefixes = (f"{section}.", f"{TRAIN}.") if section == "data" else (f"{section}.",)
        return dict(
            item for name in names() for p in prefixes for item in _text_fields(options(name), p)
        )
    found = {key: TextKey(True) for key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.job.name")}
    for config in COMMANDS.values():
        found |= dict(_text_fields(config))
    # The name of the folder is made where none is given.
    return found | {"output_dir": TextKey(True, may_be_null=True)}


def _text_keys_of(plain: Mapping[str, Any]) -> Iterator[tuple[str, TextKey]]:
    """The keys of one configuration whose values are text: those of its editor and source alone."""
    yield from text_keys("").items()
    for section, (names, options) in _CHOSEN.items():
        chosen = plain.get(section)
        name = chosen.get("name") if isinstance(chosen, Mapping) else None
        if name in names():
            yield from _text_fields(options(name), f"{section}.")
        trained_on = chosen.get("train") if isinstance(chosen, Mapping) else None
        if isinstance(trained_on, Mapping) and trained_on.get("name") in names():
            yield from _text_fields(options(str(trained_on["name"])), f"{TRAIN}.")


def _text_key(key: str) -> TextKey | None:
    section = key.partition(".")[0]
    return text_keys(section if section in _CHOSEN else "").get(key)


def _text_fields(options: type[Options], prefix: str = "") -> Iterator[tuple[str, TextKey]]:
    for name, field in options.model_fields.items():
        kinds = [*field.metadata, *_parts(field.annotation)]
        for inner in kinds:
            is_section = isinstance(inner, type) and issubclass(inner, Options)
            if is_section and inner is not DataOptions:  # which stands for any source
                yield from _text_fields(inner, f"{prefix}{name}.")
        if str in kinds and not any(kind in kinds for kind in (bool, int, float, dict)):
            yield (
                f"{prefix}{name}",
                TextKey(
                    any(isinstance(kind, PathMark) for kind in kinds), list in kinds,
                    type(None) in kinds, any(isinstance(kind, WholeMark) for kind in kinds),
                    any(isinstance(kind, HubMark) for kind in kinds),
                ),
            )  # fmt: skip


def _parts(annotation: Any) -> Iterator[Any]:
    """The types and marks that an annotation is made of; the texts of a `Literal` are none."""
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        yield annotation
    elif origin is Annotated:
        inner, *marks = get_args(annotation)
        yield from marks
        yield from _parts(inner)
    else:
        yield from () if origin in (Union, types.UnionType) else (origin,)
        for part in get_args(annotation):
            yield from _parts(part)


def _whole_word(word: str) -> str:
    match = _WORD.fullmatch(word)
    key = _text_key(match["key"]) if match else None
    if match is None or key is None or not key.is_whole:
        return word
    # To OmegaConf, `${` behind a backslash is two letters, and so is a backslash before that one.
    text = re.sub(r"(\\*)\$\{", lambda before: before[1] * 2 + "\\${", match["value"])
    return f"{match['plus']}{match['key']}={quoted(text)}"


def _quote_word(word: str, multirun: bool) -> str:
    match = _WORD.fullmatch(word)
    key = _text_key(match["key"]) if match else None
    if match is None or key is None:
        return word
    value = match["value"]
    is_several = (multirun or not key.is_path or key.is_list) and not key.is_whole
    parts = _split(value) if is_several else [value]
    return f"{match['plus']}{match['key']}=" + ",".join(_as_typed(part, key) for part in parts)


def _as_typed(value: str, key: TextKey) -> str:
    """One value, quoted if it has to be."""
    override = _read(value)
    raw = override._value if override else value
    if override and (isinstance(raw, QuotedString) or (raw is None and key.may_be_null)):
        return value
    if override and override.is_sweep_override() and not _is_plain_list(raw, value):
        return value
    stripped = value.strip()
    if key.is_list and stripped.startswith("[") and stripped.endswith("]"):
        return _list_as_typed(stripped, key)
    # With a backslash in it, it may be one of Hydra's escapes: what Hydra can read, it may.
    if override and isinstance(raw, str) and (raw == value or "\\" in value):
        return value
    is_in_quotes = len(stripped) > 1 and stripped[0] == stripped[-1] and stripped[0] in "'\""
    if is_in_quotes and stripped.count(stripped[0]) == 2:  # one that ends with a backslash
        return quoted(stripped[1:-1])
    return quoted(value)


def _list_as_typed(value: str, key: TextKey) -> str:
    elements = [element.strip() for element in _split(value[1:-1])]
    single = TextKey(key.is_path)
    return f"[{','.join(_as_typed(element, single) if element else '' for element in elements)}]"


def _is_plain_list(value: object, text: str) -> bool:
    """Whether Hydra reads several values where a path with commas may be meant."""
    return isinstance(value, ChoiceSweep) and value.simple_form and not {"'", '"'} & set(text)


def _read(value: str) -> Override | None:
    """The value as Hydra reads it; None where it cannot."""
    try:
        return _parser()(f"key={value}")
    except (HydraException, ValueError):  # ValueError: more digits than Python's int takes
        return None


@lru_cache(maxsize=1)
def _parser() -> Callable[[str], Override]:
    return OverridesParser.create().parse_override


def _split(text: str) -> list[str]:
    """A text at the commas outside of quotes, brackets and escapes; blanks around parts go.

    >>> _split("a,'b,c',[d,e]"), _split("it's,b")
    (['a', "'b,c'", '[d,e]'], ["it's", 'b'])
    """
    parts, open_brackets, quote, is_escaped = [""], "", "", False
    for character in text:
        at_top = not quote and not open_brackets and not is_escaped
        if at_top and character == ",":
            parts.append("")
            continue
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and not parts[-1].strip():
            quote = character
        elif character in _OPENED:
            open_brackets += _OPENED[character]
        elif open_brackets and character == open_brackets[-1]:
            open_brackets = open_brackets[:-1]
        parts[-1] += character
    if quote or open_brackets:
        parts = text.split(",")
    return [part.strip() for part in parts] if len(parts) > 1 else parts
