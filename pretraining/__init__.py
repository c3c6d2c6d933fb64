"""Pretraining: a tiny LLaVA learns a small world, so that there is something to edit.

`pretrain` is the whole run; configs/pretrain.yaml holds every number of the recipe. What the
recipe is made of and what of it held is told in docs/pretraining.md.
"""

from pretraining.edit_checks import ike_check, rome_check
from pretraining.evaluation import evaluate_tiny
from pretraining.module import PretrainingModule
from pretraining.run import Milestones, assess, pretrain
from pretraining.saving import missed_targets, save_tiny
from pretraining.trace import causal_trace

__all__ = [
    "Milestones",
    "PretrainingModule",
    "assess",
    "causal_trace",
    "evaluate_tiny",
    "ike_check",
    "missed_targets",
    "pretrain",
    "rome_check",
    "save_tiny",
]
