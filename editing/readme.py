"""The README.md of an edit folder, for people who find one."""

from __future__ import annotations

from editing.card import Card


def readme(card: Card, name: str) -> str:
    """What the edit changes, and how to load it, ask it and merge it.

    Args:
        card: of the edit.
        name: of the folder.
    """
    base = card.base
    opened = repr(base.hub or base.name)
    question = card.facts[0].question
    lines = [
        f"# An edit of {base.name}",
        "",
        f"Made with {card.label} on {card.made[:10]}. It belongs to {base.name} ({base.family}, "
        f"fingerprint {base.fingerprint}) and to no other model.",
        "",
        "| question | new answer | picture |",
        "|---|---|---|",
        *(
            f"| {_cell(fact.question)} | {_cell(fact.answer)} | {fact.image or ''} |"
            for fact in card.facts
        ),
        "",
        "```python",
        "from editing import load_edit, open_model",
        "",
        f"model = open_model({opened})",
        f"edit = load_edit({name!r}, model{_ckpt(card)})",
        f"print(edit.ask({question!r}))",
        "```",
        "",
        *_merging(card, name),
        "",
        *(f"* {source.what}: {source.source}, licence {source.licence}" for source in card.data),
        "",
    ]
    return "\n".join(lines)


def _ckpt(card: Card) -> str:
    """SERAC answers by its networks."""
    return ', ckpt="the checkpoint of the editor"' if card.kind == "memory" else ""


def _merging(card: Card, name: str) -> list[str]:
    if card.kind != "deltas":
        return [
            f"An edit of {card.label} changes no weight, so it cannot be merged into the model."
        ]
    return [
        "As a model of its own, and as an adapter of peft where its rank is low:",
        "",
        "```",
        f"python -m models export edit={name} --output MERGED",
        f"python -m models export edit={name} --output ADAPTER --format peft",
        "```",
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
