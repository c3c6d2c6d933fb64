"""README.md of a repository on a hub: what a trained editor or an edit is, and how it is used.

Its first lines are the metadata by which the hub sorts and searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from configs.overrides import group_options, leaves
from editing.card import UNKNOWN, Card
from editing.readme import readme
from models.folder import is_local
from options import HUB
from reporting.card import card_tables, headline_numbers
from reporting.formats import markdown_text
from reporting.labels import editor_label, model_label
from reporting.naming import typed
from results.folder import RunResult

LIBRARY = "tmke"
_MEANS = "Means in percent over n edits ± half the 95 % bootstrap interval."


@dataclass(frozen=True)
class Trained:
    """What the page of a trained editor says.

    Attributes:
        editor: its options.
        model: options of its base model, as they are sent.
        fingerprint: of the base model's weights.
        terms: source, origin and licence of what it was trained on; None: not known.
        training: what else decided it, in sections, and how far it has come.
        runs: evaluations of it.
    """

    editor: Mapping[str, Any]
    model: Mapping[str, Any]
    fingerprint: str
    terms: Mapping[str, str] | None
    training: Mapping[str, Any]
    runs: Sequence[RunResult]

    @property
    def opened(self) -> str:
        """What `open_model` finds the base model by."""
        name = str(self.model.get("name"))
        return name if name in group_options("model") else str(self.model.get("path", "FOLDER"))

    @property
    def on_hub(self) -> str | None:
        """The base model's id on the hub; None of a folder."""
        path = str(self.model.get("path", "."))
        return None if is_local(path) else path


def editor_card(repository: str, licence: str | None, trained: Trained) -> str:
    """README.md of a trained editor.

    Args:
        repository: `owner/name`.
        licence: of what is sent, as the hub names it (`mit`, `apache-2.0`); None: not said.
        trained: what it says.

    Raises:
        DataError: the results cannot share a table.
    """
    name, terms = str(trained.editor["name"]), trained.terms
    method, model = editor_label(name), markdown_text(model_label(str(trained.model.get("name"))))
    reference, scenario = f"{HUB}{repository}", trained.training.get("scenario", {}).get("name")
    parts = [
        f"# {method} for {model}",
        f"A trained editor of facts in a multimodal LLM: {method}, trained on single edits of a "
        f"frozen {model}. It is a checkpoint of {LIBRARY}; transformers alone does not read it.",
        "## How to use it",
        "From the root of a checkout of the project, where the base model is at hand:",
        f"```bash\npython evaluate.py ckpt={reference} scenario={scenario or 'unimodal'}\n"
        f'python edit.py ckpt={reference} question="..." answer="..." ask="..."\n```',
        "```python\nfrom editing import open_editor, open_model\n\n"
        f'model = open_model("{trained.opened}")\n'
        f'editor = open_editor("{name}", model, ckpt="{reference}")\n'
        'edit = editor.edit("...", "...")\nprint(edit.ask("..."))\n```',
        f"`{reference}@COMMIT` names a state of this repository for ever.",
        "## Base model",
        "Its weights are not in this repository, and nothing here changes them. A base model of "
        "another fingerprint is refused.",
        _table({**trained.model, "fingerprint of the weights": trained.fingerprint}),
        "## Results",
        f"{_MEANS}\n\n{card_tables(trained.runs)}"
        if trained.runs
        else "No evaluation was sent along.",
        "## Training",
        _table(leaves({"editor": trained.editor, **trained.training})),
        "## Licences",
        f"- What is in this repository: {licence or UNKNOWN}\n"
        f"- {_data_line(terms)}\n"
        "- The base model, which is not here: under its own licence",
    ]
    metadata = ModelCardData(
        base_model=trained.on_hub,
        license=licence,
        datasets=None if terms is None else [terms["source"]],
        tags=["knowledge-editing", "multimodal", name],
        library_name=LIBRARY,
        model_name=repository.partition("/")[2] if trained.runs else None,
        eval_results=[_result(run, *n) for run in trained.runs for n in headline_numbers(run)],
    )
    return _page(metadata, parts)


def _data_line(terms: Mapping[str, str] | None) -> str:
    """Licence and origin of the records that were trained on, as their authors state them."""
    if terms is None:
        return f"The data: licence {UNKNOWN}"
    said = f"licence {terms['licence']}; origin {terms['origin']}"
    return f"The data (`data={terms['source']}`): {said}"


def edit_card(repository: str, licence: str | None, card: Card) -> str:
    """README.md of an edit.

    Args:
        repository: `owner/name`.
        licence: of what is sent, as the hub names it; None: not said.
        card: of the edit.
    """
    data = [method.data for method in card.methods if method.data is not None]
    metadata = ModelCardData(
        base_model=card.base.hub,
        license=licence,
        datasets=list(dict.fromkeys(data)) or None,
        tags=["knowledge-editing", "multimodal", *(m.label for m in card.methods), "edit"],
        library_name=LIBRARY,
    )
    own = f"* what is in this repository: licence {licence or UNKNOWN}"
    return _page(metadata, [readme(card, f"{HUB}{repository}").rstrip() + f"\n{own}"])


def _page(metadata: ModelCardData, parts: Iterable[str]) -> str:
    body = "\n\n".join(part.strip() for part in parts)
    return f"---\n{metadata.to_yaml()}\n---\n\n{body}\n"


def _result(run: RunResult, name: str, value: float) -> EvalResult:
    return EvalResult(
        task_type="knowledge-editing",
        dataset_type=run.data,
        dataset_name=f"{run.data}, {run.scenario} scenario, {run.n_edits} edits",
        metric_type=name,
        metric_value=value,
    )


def _table(rows: Mapping[str, Any]) -> str:
    lines = [
        f"| {markdown_text(key)} | {markdown_text(typed(value))} |"
        for key, value in rows.items()
        if value is not None
    ]
    return "\n".join(["| key | value |", "| --- | --- |", *lines])
