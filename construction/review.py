"""The page on which records are accepted, edited or rejected: one HTML file that asks nobody.

It holds small copies of the pictures, keeps each decision in the browser as it is made, and saves
all of them as the file that `decisions` reads.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from construction.decisions import FORM, Decision, digest_of
from construction.fields import PARTS, Part, texts_of
from construction.records import Constructed
from datamodules.picture_folder import PictureFolder
from reporting.thumbnails import Picture, Thumbnail, Thumbnails

PAGE = "review.html"
SIDE = 256  # pixels of the longer side of a picture
_TEMPLATES = Path(__file__).with_name("templates")
_SCRIPTS = ("review_kept.js", "review_record.js", "review.js")  # one module, in this order


def review_page(
    title: str,
    constructed: Sequence[Constructed],
    pictures: PictureFolder,
    decisions: Sequence[Decision] = (),
) -> str:
    """Renders the page.

    Args:
        title: of what is reviewed.
        constructed: the records, in the order in which they are shown.
        pictures: where their pictures are.
        decisions: earlier ones, which the page begins with where they still hold.

    Returns:
        The page; equal records and pictures give equal pages.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    thumbnails = Thumbnails(SIDE)
    records = [_shown(one, pictures, thumbnails) for one in constructed]
    script = "\n".join(map(_read, _SCRIPTS))
    return environment.get_template("review.html").render(
        title=title,
        style=Markup(_read("review.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={
            "form": FORM,
            "parts": [_part(part) for part in PARTS],
            "records": records,
            "thumbnails": {key: _thumbnail(one) for key, one in thumbnails.by_key.items()},
            "decisions": [decision.model_dump() for decision in decisions],
        },
    )


def _shown(one: Constructed, pictures: PictureFolder, thumbnails: Thumbnails) -> dict[str, Any]:
    """What the page knows of a record."""
    record = one.record
    names = {name: getattr(record, name) for part in PARTS for name in part.pictures}
    return {
        "id": one.id,
        "digest": digest_of(record, pictures),
        "subject": record.about,
        "texts": texts_of(record),
        "pictures": {
            field: _picture(thumbnails.of(name, str(pictures.root)))
            for field, name in names.items()
            if name is not None
        },
        "lacks": dict(one.lacks),
        "drawn": list(record.drawn),
        "lent": dict(one.lent),
    }


def _part(part: Part) -> dict[str, Any]:
    fields = [{"name": f.name, "label": f.label, "kind": f.kind} for f in part.fields]
    return {**part._asdict(), "fields": fields}


def _picture(picture: Picture) -> dict[str, str | None]:
    return {"name": picture.name, "key": picture.key, "problem": picture.problem}


def _thumbnail(thumbnail: Thumbnail) -> dict[str, Any]:
    data = base64.b64encode(thumbnail.data).decode()
    return {
        "uri": f"data:image/jpeg;base64,{data}",
        "width": thumbnail.width,
        "height": thumbnail.height,
        "tiny": thumbnail.is_tiny,
    }


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
