"""What a checkpoint says about itself: which editor it holds and which base model it belongs to.

A checkpoint holds the editor and no base model, so it names the base by a fingerprint of its
weights; an editor put on another base would answer without an error and be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editors.hub import checkpoint_file
from editors.registry import with_current_names
from errors import ModelError, some_of
from models.editable import EditableModel

IDENTITY = "tmke"
CONFIG = "config"  # the resolved configuration inside a checkpoint
SUBJECTS = "subjects"  # of the training and validation edits
TRACES = "traces"  # by what else those are known again (`datamodules.overlap`)
TERMS = "terms"  # source, origin and licence of those edits
_EDITOR = "editor."  # the attribute that holds the editor in every training module


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is executed.

    Args:
        path: a file, or a reference to a repository of a hub.

    Raises:
        ModelError: the file is missing, damaged or no checkpoint.
    """
    file = checkpoint_file(path)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise ModelError(f"ckpt={path}: there is no such file.") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ModelError(
            f"ckpt={path} cannot be read ({type(error).__name__}). It is damaged, cut short or not "
            "a checkpoint that train.py wrote; give another one."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"ckpt={path} holds a {type(content).__name__}, not a checkpoint.")
    return content


def config_inside(path: Path | str) -> dict[str, Any]:
    """The resolved configuration inside a checkpoint.

    Raises:
        ModelError: the file cannot be read or was not written by train.py.
    """
    content = read_checkpoint(path)
    editor_options(content)
    return dict(content[CONFIG])


def stamp(
    checkpoint: MutableMapping[str, Any], options: Mapping[str, Any], model: EditableModel
) -> None:
    """Writes the identity."""
    checkpoint[IDENTITY] = {
        "editor": dict(options),
        "base": {"family": model.family, "fingerprint": model.fingerprint()},
    }


def editor_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the editor that a checkpoint holds.

    Raises:
        ModelError: the file is no checkpoint of an editor.
    """
    identity = checkpoint.get(IDENTITY)
    if not isinstance(identity, dict) or "editor" not in identity or "base" not in identity:
        raise ModelError(
            "the checkpoint does not say which editor it holds, so it was not written by train.py. "
            "Give a file that train.py wrote, such as OUTPUT_DIR/checkpoints/best.ckpt."
        )
    return with_current_names(identity["editor"])


def check(checkpoint: Mapping[str, Any], editor: str, model: EditableModel) -> None:
    """Refuses a checkpoint of another editor or another base model.

    Raises:
        ModelError: it belongs to something else; the message names both mistakes if both are there.
    """
    stored = editor_options(checkpoint)["name"]
    base = checkpoint[IDENTITY]["base"]
    fingerprint = model.fingerprint()
    wrong = []
    if stored != editor:
        wrong.append(f"it holds the editor {stored!r}, and {editor!r} was asked for")
    if base["fingerprint"] != fingerprint:
        wrong.append(
            f"it was trained on a {base['family']} base with fingerprint {base['fingerprint']}, "
            f"and the loaded {model.family} base has {fingerprint}"
        )
    if wrong:
        raise ModelError(
            f"the checkpoint does not fit: {'; '.join(wrong)}. Give the checkpoint that belongs to "
            "this editor and base model, or load the base that it was trained on."
        )


def load_state(module: nn.Module, state: Mapping[str, Tensor], *, prefix: str = "") -> None:
    """Loads weights and demands that every one is there, has its shape, and none is left over.

    Raises:
        ModelError: a key is missing, unexpected or of another shape.
    """
    expected = module.state_dict()
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    missing, unexpected = (
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
    )
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    if missing or unexpected or reshaped:
        lists = [some_of(names, 3) or "none" for names in (missing, unexpected, reshaped)]
        raise ModelError(
            f"the checkpoint's weights do not fit the editor: missing {lists[0]}; unexpected "
            f"{lists[1]}; of another shape {lists[2]}. It was trained with other editor options or "
            "another base model: give the options of its run (config.yaml beside the checkpoints)."
        )
    nn.Module.load_state_dict(module, dict(state))


def load_editor(editor: nn.Module, checkpoint: Mapping[str, Any], model: EditableModel) -> None:
    """Fills an editor, freshly built for `model`, from a checkpoint of `train.py`.

    Raises:
        ModelError: the checkpoint belongs to another editor or base model, or is damaged.
    """
    check(checkpoint, str(editor.name), model)
    load_state(editor, checkpoint["state_dict"], prefix=_EDITOR)
    editor.eval()
