"""Checkpoints without weights, for tests of what a command line comes to."""

from pathlib import Path

import torch

from editors.checkpoint import CONFIG, IDENTITY


def bare_checkpoint(path: Path) -> Path:
    """A checkpoint that brings no settings along."""
    torch.save({IDENTITY: {"editor": {}, "base": {}}, CONFIG: {}}, path)
    return path
