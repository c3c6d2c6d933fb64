"""Writes the world of countries: facts, outlines and flags of three packages as a world folder.

The same packages always give the same folder. It appears complete or not at all, as a generated
world does (`datamodules.world.generate`).
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.countries.catalogue import (
    CITY,
    COUNTRY,
    HOPS,
    NOUNS,
    RELATIONS,
    SEEN_VIEWS,
    UNSEEN_VIEWS,
)
from datamodules.countries.drawing import (
    ALONE,
    AMONG,
    ATLAS,
    as_land,
    draw_map,
    plain_flag,
    read_flag,
    square_flag,
    waved_flag,
)
from datamodules.countries.facts import (
    CORRECTIONS_FILE,
    Country,
    other_outlines,
    read_corrections,
    read_countries,
)
from datamodules.countries.lookalikes import look_alikes
from datamodules.countries.packages import flags_folder, missing_packages, versions
from datamodules.json_file import read_json
from datamodules.world.schema import ENTITIES_FILE, WORLD_FILE
from errors import DataError
from results.files import replacing_folder

logger = logging.getLogger(__name__)

GENERATOR = "tmke-countries"
GENERATOR_VERSION = 1
FEWEST_COUNTRIES = 150
README_FILE = "README.md"


@dataclass(frozen=True)
class LeftOut:
    """A country that the world does not have, and why."""

    name: str
    reason: str


def generate_countries(root: str | Path) -> Path:
    """Write the world's folder, or keep the one that is there.

    A folder that was written from these packages is used even where they are not installed.

    Args:
        root: the folder to write.

    Raises:
        ConfigError: the folder is not there, and a package is missing.
        DataError: the folder holds something else, or the packages give too few countries.
    """
    root = Path(root)
    if root.is_dir() and any(root.iterdir()) and missing_packages():
        _check_generator(root, None)
        return root
    settings = {
        "name": GENERATOR,
        "version": GENERATOR_VERSION,
        "packages": versions(),
        "corrections": hashlib.sha256(CORRECTIONS_FILE.read_bytes()).hexdigest()[:12],
    }
    if _check_generator(root, settings):
        return root
    try:
        with replacing_folder(root, overwrite=False) as folder:
            _write(folder, settings)
    except OSError:  # another process may have been there first
        if not _check_generator(root, settings):
            raise
    return root


def choose_countries() -> tuple[list[Country], list[LeftOut]]:
    """Countries with an outline and a flag, and those that lack one.

    Raises:
        DataError: fewer than 150 have both.
    """
    countries, left_out = [], []
    for country in read_countries():
        lacking = [] if country.outline else ["no outline"]
        lacking += [] if _flag_file(country).is_file() else ["no flag"]
        if lacking:
            left_out.append(LeftOut(country.name, " and ".join(lacking)))
        else:
            countries.append(country)
    if len(countries) < FEWEST_COUNTRIES:
        raise DataError(
            f"data=countries: only {len(countries)} countries have pictures; {len(left_out)} lack "
            f"an outline (countryinfo) or a flag (django-tabler, {flags_folder()}), the first: "
            f"{left_out[0].name} ({left_out[0].reason}). At least {FEWEST_COUNTRIES} are needed: "
            "install the packages in the versions of constraints.txt."
        )
    return countries, left_out


def _check_generator(root: Path, settings: dict[str, Any] | None) -> bool:
    """Whether the folder holds this world; with no settings, one of any packages.

    Raises:
        DataError: it holds something else.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / WORLD_FILE
    content = read_json(path) if path.is_file() else {}
    generator = content.get("generator") if isinstance(content, dict) else None
    generator = generator if isinstance(generator, dict) else {}
    made_by = {key: generator.get(key) for key in ("name", "version", "packages", "corrections")}
    if made_by == settings or (settings is None and generator.get("name") == GENERATOR):
        return True
    other = f"a world made with {made_by}" if generator else "no world of countries"
    raise DataError(
        f"{root} holds {other}, while {settings or GENERATOR} is asked for. Nothing was written: "
        "choose another folder (data.root), install the packages that made it, or remove it first."
    )


def _write(folder: Path, settings: dict[str, Any]) -> None:
    countries, left_out = choose_countries()
    logger.info(
        "%d countries are drawn; %d are left out: %s",
        len(countries),
        len(left_out),
        ", ".join(f"{each.name} ({each.reason})" for each in left_out),
    )
    entities = [
        {
            "id": country.code,
            "name": country.name,
            "type": COUNTRY,
            "facts": country.facts,
            "images": paths,
        }
        for country, paths in zip(countries, _write_pictures(folder, countries), strict=True)
    ]
    entities += _cities(countries)
    squares = {c.name: folder / "images" / c.code / "flag_square.png" for c in countries}
    alike = look_alikes(squares)
    description = {
        "generator": {
            **settings,
            "countries": len(countries),
            "left_out": {each.name: each.reason for each in left_out},
            "look_alikes": alike,
        },
        "nouns": NOUNS,
        "relations": {
            name: {
                "subject_type": plan.subject_type,
                "wordings": plan.wordings,
                "hop_phrase": plan.hop_phrase,
            }
            for name, plan in RELATIONS.items()
        },
        "hops": HOPS,
        "views": {"seen": SEEN_VIEWS, "unseen": UNSEEN_VIEWS},
    }
    (folder / ENTITIES_FILE).write_text(json.dumps(entities, indent=1) + "\n", encoding="utf-8")
    (folder / WORLD_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    readme = _readme(settings, entities, left_out, alike)
    (folder / README_FILE).write_text(readme, encoding="utf-8")


def _write_pictures(folder: Path, countries: list[Country]) -> list[dict[str, str]]:
    """Draws and saves all views; returns their paths by view, for each country."""
    lands = {country.code: as_land(country.outline) for country in countries}
    unclaimed = [as_land(outline) for outline in other_outlines()]
    drawn = []
    for country in countries:
        others = [land for code, land in lands.items() if code != country.code] + unclaimed
        flag = read_flag(_flag_file(country))
        views = {
            "flag": plain_flag(flag),
            "flag_square": square_flag(flag),
            "flag_waved": waved_flag(flag),
            "map": draw_map(country.outline, others, ALONE),
            "map_neighbours": draw_map(country.outline, others, AMONG),
            "map_atlas": draw_map(country.outline, others, ATLAS),
        }
        (folder / "images" / country.code).mkdir(parents=True)
        paths = {view: f"images/{country.code}/{view}.png" for view in views}
        for view, image in views.items():
            image.save(folder / paths[view])
        drawn.append(paths)
    return drawn


def _flag_file(country: Country) -> Path:
    return flags_folder() / f"{country.code.lower()}.svg"


def _cities(countries: list[Country]) -> list[dict[str, Any]]:
    """The capitals as entities without pictures; none that is named like a country."""
    taken = {country.name for country in countries}
    cities: list[dict[str, Any]] = []
    for country in countries:
        name = country.facts.get("capital")
        if name is None or name in taken:
            continue
        taken.add(name)
        facts = {"city_continent": country.facts["continent"]}
        cities.append({"id": f"city_{country.code}", "name": name, "type": CITY, "facts": facts})
    return cities


def _readme(
    settings: dict[str, Any],
    entities: list[dict[str, Any]],
    left_out: list[LeftOut],
    alike: list[tuple[str, str]],
) -> str:
    """What the folder holds and where it comes from, for whoever finds it."""
    pictured = [entity for entity in entities if "images" in entity]
    n_facts = sum(len(entity["facts"]) for entity in entities)
    n_views = len(SEEN_VIEWS) + len(UNSEEN_VIEWS)
    lines = [
        "# A world of countries",
        "",
        f"{len(pictured)} countries in {n_views} views, {len(entities) - len(pictured)} capitals, "
        f"{n_facts} facts. Drawn by data=countries of these packages (version, licence):",
        "",
        *(f"* {name} {version}" for name, version in settings["packages"].items()),
        "",
        f"## {len(left_out)} members of the United Nations left out",
        "",
        *(f"* {each.name}: {each.reason}" for each in left_out),
        "",
        f"## {len(alike)} pairs of flags that look alike, the nearest first",
        "",
        *(f"* {one}, {other}" for one, other in alike),
        "",
        f"## {len(read_corrections())} corrections of countryinfo",
        "",
        "| country | field | source | here | why |",
        "|---|---|---|---|---|",
        *(
            f"| {each.code} | {each.field} | {each.source or '-'} | {each.value or 'left out'} "
            f"| {each.why} |"
            for each in read_corrections()
        ),
    ]
    return "\n".join(lines) + "\n"
