"""What is said of a base model whose folder is not there: the command that makes it."""

from pathlib import Path

from configs.around import ALIGNMENTS
from configs.schema import ModelOptions

BUILT = "smollm_llava"  # and its alignments: built on this machine, around SmolLM2


def folder_problem(model: ModelOptions) -> str:
    """A sentence about a model's local folder; empty where it is there."""
    if Path(model.path).is_dir():
        return ""
    absent = f"model.path={model.path}: there is no such folder"
    if model.family == "minigpt4":
        return (
            f"{absent}; `python -m models.minigpt4 convert` makes it from the authors' files "
            f"(`python -m models check model={model.name}` lists them), or set model.path to where "
            "it is"
        )
    if model.name.startswith(BUILT):
        return (
            f"{absent}; `{build_command(model)}` builds it in less than a minute, or set "
            "model.path to where it is"
        )
    return f"{absent} (a hub id has the form owner/name); run from the root of the checkout"


def build_command(model: ModelOptions) -> str:
    """What builds a model around SmolLM2 at its path."""
    alignment = model.name.removeprefix(f"{BUILT}_")
    chosen = f" --alignment {alignment}" if alignment in ALIGNMENTS else ""
    return f"python -m models smollm{chosen} --output {model.path}"
