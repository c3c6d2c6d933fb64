"""What is timed: the engine's way and the reference's way to the same numbers, and their floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.cases.case import Case
from benchmarks.cases.ft import FtEvaluation, FtSteps
from benchmarks.cases.generation import Generation
from benchmarks.cases.ike import IkeEvaluation
from benchmarks.cases.mend import MendEvaluation, MendTraining
from benchmarks.cases.rome import RomeEvaluation
from benchmarks.cases.second import SecondEditor
from benchmarks.cases.serac import SeracEvaluation, SeracTraining
from benchmarks.setting import Setting

CASES: Mapping[str, Callable[[Setting], Case]] = {
    "mend_text": lambda setting: MendTraining(setting, "unimodal"),
    "mend_pictures": lambda setting: MendTraining(setting, "multimodal"),
    "mend_text_cached": lambda setting: MendTraining(setting, "unimodal", is_cached=True),
    "mend_pictures_cached": lambda setting: MendTraining(setting, "multimodal", is_cached=True),
    "mend_evaluation": MendEvaluation,
    "second_editor": SecondEditor,
    "ft_evaluation": FtEvaluation,
    "ft_200": lambda setting: FtSteps(setting, 200),
    "ft_2000": lambda setting: FtSteps(setting, 2000),
    "ft_20000": lambda setting: FtSteps(setting, 20000),
    "rome": RomeEvaluation,
    "serac_training": SeracTraining,
    "serac_evaluation": SeracEvaluation,
    "ike": IkeEvaluation,
    "generation": Generation,
}
LONG = ("ft_20000",)  # hours; run when they are named, or with --long

__all__ = ["CASES", "LONG", "Case", "Setting"]
