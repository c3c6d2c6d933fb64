"""What leaves this machine with a trained editor, and what stays: its paths, and names of people.

A path inside the checkout is the same for everyone and is sent as seen from its root. Any other one
is left out, and who fetches the editor gets the value of configs/ or types an own one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.composing import CONFIG_DIR
from configs.stored import SECTIONS
from editors.checkpoint import CONFIG, IDENTITY, SUBJECTS, TERMS, TRACES
from errors import ModelError, some_of
from lightning_modules.checkpoints import PROGRESS

_CHECKOUT = CONFIG_DIR.parent
# Of a configuration. The others say where a run took place; callbacks may be code of one's own.
_SECTIONS = [name for name in SECTIONS["train"] if name != "callbacks"]
_WEIGHTS = ("state_dict", IDENTITY, CONFIG, SUBJECTS, TRACES, TERMS, "epoch", "global_step")
# What a training needs to go on with.
_TRAINING = (
    "pytorch-lightning_version", "loops", "callbacks", "optimizer_states", "lr_schedulers",
    "hparams_name", "hyper_parameters", PROGRESS,
)  # fmt: skip
_CALLBACKS = ("Checkpoints", "EarlyStopping", "ModelCheckpoint")  # whose states are numbers
_OF_AN_EDITOR = "editor."


def shared_config(plain: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The settings of a training as they are sent.

    Returns:
        The sections that decide an editor, and `key=value` of each path that is left out of them.
    """
    sections = {name: plain[name] for name in _SECTIONS if name in plain}
    return without_places(sections)


def shared_checkpoint(content: Mapping[str, Any], *, weights_only: bool) -> dict[str, Any]:
    """A checkpoint as it is sent.

    Args:
        content: of `editors.checkpoint.read_checkpoint`.
        weights_only: without the states of the optimiser, which a training needs to go on.

    Raises:
        ModelError: there are weights in it that are no editor's.
    """
    foreign = [name for name in content["state_dict"] if not name.startswith(_OF_AN_EDITOR)]
    if foreign:
        raise ModelError(
            f"the checkpoint holds weights that are not the editor's ({some_of(foreign, 3)}); a "
            "base model is never sent. Give a file that train.py wrote."
        )
    names = _WEIGHTS if weights_only else _WEIGHTS + _TRAINING
    sent = {name: content[name] for name in names if name in content}
    sent[CONFIG] = shared_config(content[CONFIG])[0]
    for name in (IDENTITY, "hyper_parameters"):
        if name in sent:
            sent[name] = without_places(sent[name])[0]
    if "callbacks" in sent:
        states = sent["callbacks"].items()
        ours = {key: state for key, state in states if key.startswith(_CALLBACKS)}
        sent["callbacks"] = {key: _numbers(state) for key, state in ours.items()}
    return sent


def without_places(plain: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """Nested settings without paths of this machine.

    Returns:
        The settings, and `key=value` of each that is left out.
    """
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in plain.items():
        if isinstance(value, Mapping):
            kept[key], below = without_places(value, f"{prefix}{key}.")
            left_out += below
            continue
        texts = value if isinstance(value, list) else [value]
        shared = [shared_path(text) if isinstance(text, str) else text for text in texts]
        if any(
            now is None and before is not None for now, before in zip(shared, texts, strict=True)
        ):
            left_out.append(f"{prefix}{key}={value}")
        else:
            kept[key] = shared if isinstance(value, list) else shared[0]
    return kept, left_out


def shared_path(text: str) -> str | None:
    """A text as it is sent: a path inside the checkout from its root on; None for another path."""
    if not (os.path.isabs(text) or text.split("/")[0] in ("~", "..")):
        return text
    path = Path(os.path.abspath(os.path.expanduser(text)))
    return path.relative_to(_CHECKOUT).as_posix() if path.is_relative_to(_CHECKOUT) else None


def _numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    """A callback's state without its texts: they are paths, and names that its key says too."""
    return {key: value for key, value in state.items() if not isinstance(value, str | Mapping)}
