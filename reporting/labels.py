"""How editors, models and scenarios are called and ordered in tables and figures: as the paper."""

from collections.abc import Iterable

from results.folder import BATCH, SEQUENTIAL

PAPER_SCENARIOS = ("unimodal", "transitive", "multimodal")
SCENARIOS = (*PAPER_SCENARIOS, "reverse", "joint")
UNEDITED = "none"
UNEDITED_LABEL = "Unedited"
PAPER_MODELS = {"blip2_opt": "BLIP2-OPT", "minigpt4": "MiniGPT-4", "llava": "LLaVA-1.5"}
FT_NOTE = (
    "FT is fine-tuning as the paper's Table 4 has it, at most 20,000 steps of Adam at 1e-6; "
    "FT (as run) is what its authors ran."
)

_SPELLED = {
    "lora": "LoRA",
    "ft_l": "FT-L",
    "ft_bf": "LocFT-BF",
    "ultraedit": "UltraEdit",
    "rledit": "RLEdit",
    "alphaedit": "AlphaEdit",
}
_EDITORS = (UNEDITED, "ft", "ike", "mend", "serac", "rome")
_PAPER_EDITORS = {name: name.upper() for name in _EDITORS[1:]} | {"ft_as_run": "FT"}


def editor_label(name: str) -> str:
    """Printed name of an editor option; what follows the method's name is a variant.

    >>> editor_label("none"), editor_label("lora"), editor_label("ft_as_run"), editor_label("ft_l")
    ('Unedited', 'LoRA', 'FT (as run)', 'FT-L')
    """
    if name == UNEDITED:
        return UNEDITED_LABEL
    if name in _SPELLED:
        return _SPELLED[name]
    method, _, variant = name.partition("_")
    return _SPELLED.get(method, method.upper()) + (
        f" ({variant.replace('_', ' ')})" if variant else ""
    )


def editor_note(editors: Iterable[str]) -> tuple[str, ...]:
    """Which FT is which, for a list with both; nothing for any other list."""
    return (FT_NOTE,) if {"ft", "ft_as_run"} <= set(editors) else ()


def model_label(name: str) -> str:
    """Printed name of a model option: the paper's for its three models, else the option itself.

    >>> model_label("llava"), model_label("llava_tiny")
    ('LLaVA-1.5', 'llava_tiny')
    """
    return PAPER_MODELS.get(name, name)


def together_label(protocol: str) -> str:
    """How many edits are in place under a protocol, after their number; empty of single edits.

    >>> together_label("sequential"), together_label("batch"), together_label("single")
    (' in sequence', ' in one batch', '')
    """
    return {SEQUENTIAL: " in sequence", BATCH: " in one batch"}.get(protocol, "")


def paper_editor(name: str) -> str | None:
    """Row of the paper's tables that an editor option answers to; None for another method.

    FT is in the paper as tabulated (Table 4) and as its code ran it; both answer to its row. ROME
    that looks the fact up elsewhere, or FT-L, is another method.

    >>> paper_editor("ft_as_run"), paper_editor("ft_l"), paper_editor("rome_at_prompt_last")
    ('FT', None, None)
    """
    return _PAPER_EDITORS.get(name)


def editor_rank(name: str) -> tuple[int, str]:
    """Sorting key of editors: the unedited model first, then the paper's order, then the others."""
    return _rank(name.partition("_")[0], _EDITORS), name


def model_rank(name: str) -> tuple[int, str]:
    """Sorting key of models: the paper's three in its order with their tiny twins, then the others.

    >>> sorted(["qwen2_vl", "llava_tiny", "minigpt4_tiny", "llava"], key=model_rank)
    ['minigpt4_tiny', 'llava', 'llava_tiny', 'qwen2_vl']
    """
    return _rank(name.removesuffix("_tiny"), tuple(PAPER_MODELS)), name


def scenario_rank(name: str) -> tuple[int, str]:
    """Sorting key of scenarios: those of the paper, then the others.

    >>> sorted(["joint", "multimodal", "reverse", "unimodal"], key=scenario_rank)
    ['unimodal', 'multimodal', 'reverse', 'joint']
    """
    return _rank(name, SCENARIOS), name


def lower_is_better(metric: str) -> bool:
    """Whether small values of a metric are the good ones: only leaks are.

    >>> lower_is_better("Leak_EM"), lower_is_better("Locality")
    (True, False)
    """
    return metric.startswith("Leak")


def arrow(metric: str) -> str:
    """The metric's name with the direction of improvement."""
    return f"{metric} {'↓' if lower_is_better(metric) else '↑'}"


def _rank(name: str, order: tuple[str, ...]) -> int:
    return order.index(name) if name in order else len(order)
