"""What has to fit together on the command line of edit.py, and for an edit made in Python.

The edit is made (`question`, `answer`) or opened (`edit`); then something is asked (`ask`), or a
prompt opens.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from datamodules.mentions import mentions
from editors.options import EditorOptions
from errors import DataError
from options import is_on_hub
from results.files import why_unwritable

# Group -> the keys of it that edit.py has a use for, where it has not for all.
_TAKEN = {"trainer": {"accelerator"}}
_USELESS = {"data": {"limit", "taught", "num_workers"}}
_OF_AN_EDIT = ("question", "answer", "subject", "image", "editor")


def fact_problem(
    editor: EditorOptions, question: str, subject: str | None, *, has_image: bool
) -> str | None:
    """Why a method cannot teach a fact, as far as the texts tell; None where it can.

    Args:
        editor: its options.
        question: whose answer is changed.
        subject: what it is about.
        has_image: whether it is about a picture.
    """
    scenario = "multimodal" if has_image else "unimodal"
    if scenario not in editor.scenarios:
        why = f" ({editor.why_not})" if editor.why_not else ""
        return (
            f"editor={editor.label} makes no edit of a question about a picture{why}: leave the "
            "image out, or use another editor"
        )
    if editor.ties_picture:
        return (
            f"editor={editor.label} with editor.tie needs two questions, one in text and one about "
            "a picture, and this edit has one: set editor.tie=null"
        )
    if editor.needs_subject and not subject:
        return (
            f"editor={editor.label} needs the subject of {question!r}, whose tokens it looks for "
            f"in the question: give subject=, such as {_example(question)!r}"
        )
    if subject and not has_image and not mentions(question, subject, inside_words=True):
        return (
            f"the subject {subject!r} does not occur in the question {question!r}: give it as it "
            "stands there"
        )
    return None


def editing_problems(sections: Mapping[str, Any]) -> list[str]:
    """A sentence for each mistake; `sections` has what is sound on its own, typed."""
    rules = (_edit_rules, _fact_rules, _question_rules, _picture_rules, _folder_rules)
    return [problem for rule in rules for problem in rule(sections)]


def useless_in_edit(typed: Collection[str]) -> list[str]:
    """A sentence for each key that was typed and that one edit has no use for."""
    problems = []
    for key in sorted(typed):
        group, _, name = key.partition(".")
        if name and (name in _USELESS.get(group, ()) or name not in _TAKEN.get(group, {name})):
            taken = ", ".join(f"{group}.{key}" for key in _TAKEN.get(group, ()))
            of_group = f" (of {group} it takes {taken})" if taken else ""
            problems.append(
                f"{key}: edit.py makes one edit and has no use for it{of_group}; leave it out"
            )
    return problems


def shows_records(sections: Mapping[str, Any]) -> bool:
    """Whether the editor shows training records to the model, which are then read."""
    editor: EditorOptions | None = sections.get("editor")
    return editor is not None and editor.shows_records


def _edit_rules(sections: Mapping[str, Any]) -> Iterator[str]:
    """An edit is made by an editor, or opened."""
    if sections.get("edit") is not None:
        for key in _OF_AN_EDIT:
            # A checkpoint brings its editor, without which SERAC's edits do not answer.
            is_brought = key == "editor" and sections.get("ckpt") is not None
            if (value := sections.get(key)) is not None and not is_brought:
                shown = value.label if isinstance(value, EditorOptions) else value
                yield (
                    f"{key}={shown}: edit={sections['edit']} is an edit that was made already; "
                    f"leave {key} out, or edit="
                )
    elif "editor" in sections and sections["editor"] is None and "edit" in sections:
        yield (
            "choose what makes the edit: editor=NAME, such as editor=ft, ckpt=FILE of a trained "
            "editor, or edit=DIR, an edit that was saved"
        )
    trainer = sections.get("trainer")
    if trainer is not None and trainer.many_processes:
        yield (
            f"trainer.devices={trainer.devices} with edit.py: one edit is made by one process; "
            "leave trainer= out"
        )


def _fact_rules(sections: Mapping[str, Any]) -> Iterator[str]:
    """A question goes with an answer, and both with the method."""
    for key, other in (("question", "answer"), ("answer", "question")):
        if sections.get(key) is not None and sections.get(other, key) is None:
            yield f"{key}={sections[key]!r} without {other}: add {other}=TEXT"
    question, subject = sections.get("question"), sections.get("subject")
    has_image, editor = sections.get("image") is not None, sections.get("editor")
    if "question" in sections and question is None:
        for key in ("subject", "image"):
            if sections.get(key) is not None and sections.get("edit") is None:
                yield f"{key}={sections[key]} without question: add question=TEXT answer=TEXT"
    elif question is not None and editor is not None and "subject" in sections:
        problem = fact_problem(editor, question, subject, has_image=has_image)
        yield from filter(None, [problem])


def _question_rules(sections: Mapping[str, Any]) -> Iterator[str]:
    if sections.get("ask_image") is not None and sections.get("ask", "") is None:
        yield (
            f"ask_image={sections['ask_image']} without ask: add ask=TEXT, the question about "
            "that picture, or type /image FILE at the prompt"
        )
    edit, question = sections.get("edit"), sections.get("question")
    asks = sections.get("ask") is not None
    if asks and edit is None and "question" in sections and question is None:
        yield (
            f"ask={sections['ask']!r} without an edit: add question=TEXT answer=TEXT, or edit=DIR"
        )


def _picture_rules(sections: Mapping[str, Any]) -> Iterator[str]:
    for key in ("image", "ask_image"):
        if sections.get(key) is None:
            continue
        from datamodules.picture_file import read_image  # loads Pillow

        try:
            read_image(Path(sections[key]).expanduser())
        except DataError as error:
            yield f"{key}={sections[key]}: {str(error).rstrip('.')}"


def _folder_rules(sections: Mapping[str, Any]) -> Iterator[str]:
    edit, save = sections.get("edit"), sections.get("save")
    if edit is not None and not is_on_hub(edit) and not Path(edit).is_dir():
        yield f"edit={edit}: there is no such folder; save=DIR made one"
    if save is None:
        return
    if "question" in sections and sections["question"] is None and edit is None:
        yield f"save={save} without an edit: add question=TEXT answer=TEXT, or type /save DIR later"
    folder = Path(save)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        yield f"save={save}: this is there already; name a new folder"
    elif reason := why_unwritable(folder):
        yield f"save={save} cannot be written ({reason}); name another folder"


def _example(question: str) -> str:
    """Words of a question that may be its subject: what begins with a capital, behind the first."""
    names = [word.strip("?.,!") for word in question.split()[1:] if word[:1].isupper()]
    return " ".join(names) or question.split()[-1].strip("?.,!")
