"""The facts of countries: what countryinfo says, in plain names, after the listed corrections.

A fact is kept where it has one value: a correction with the value null says that it has not. Facts
that repeat the country's own name (the capital of Luxembourg) are left out, since they can be
guessed.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from datamodules.countries.names import CURRENCIES, LANGUAGES, MEMBERS, REGIONS
from datamodules.countries.packages import countries_folder
from datamodules.json_file import read_json
from errors import DataError

CORRECTIONS_FILE = Path(__file__).with_name("corrections.json")
LARGEST = "largest_neighbour"
FEWEST_POINTS = 7  # of an outline: fewer are a mark on the map and no shape

Ring = list[tuple[float, float]]  # longitude and latitude in degrees, closed
Outline = list[list[Ring]]  # pieces of land, each its shore and then its holes


@dataclass(frozen=True)
class Correction:
    """One value of the source that is wrong, out of date, or not the only one.

    Attributes:
        code: ISO code of the country, "BI".
        field: "name", "area", or a relation.
        source: what countryinfo gives, spelled out; null where it gives nothing.
        value: what is right; null leaves the fact out.
        why: the reason.
    """

    code: str
    field: str
    source: str | None
    value: str | None
    why: str


@dataclass(frozen=True)
class Country:
    """A country with its facts.

    Attributes:
        code: ISO 3166 code, "FR".
        name: plain English name.
        facts: by relation.
        outline: its pieces of land; empty where the source has none.
        neighbours: codes of the countries that it borders on, sorted.
    """

    code: str
    name: str
    facts: dict[str, str]
    outline: Outline
    neighbours: list[str]


def read_countries() -> list[Country]:
    """All members of the United Nations, by name.

    Raises:
        ConfigError: countryinfo is not installed.
        DataError: countryinfo lacks a country or has a code that `names` cannot spell.
    """
    records = _records()
    values = source_values()
    values |= {(each.code, each.field): each.value for each in read_corrections()}
    names = {code: str(values[code, "name"]) for code in records}
    countries = []
    for code, record in records.items():
        borders = _borders(record, records)
        largest = max(borders, key=lambda other: float(values[other, "area"] or 0), default=None)
        facts = {relation: values[code, relation] for relation in SPELLED}
        facts[LARGEST] = names[largest] if largest else None
        if (code, LARGEST) in values:
            facts[LARGEST] = values[code, LARGEST]
        kept = {r: plain(v) for r, v in sorted(facts.items()) if v and plain(v) != names[code]}
        countries.append(Country(code, names[code], kept, _outline(record), borders))
    return sorted(countries, key=lambda country: country.name)


@cache
def read_corrections() -> tuple[Correction, ...]:
    """The corrections of corrections.json, in its order."""
    return tuple(Correction(**entry) for entry in json.loads(CORRECTIONS_FILE.read_text("utf-8")))


def source_values() -> dict[tuple[str, str], str | None]:
    """What countryinfo says, in plain names: name, area and single facts of each member."""
    values: dict[tuple[str, str], str | None] = {}
    for code, record in _records().items():
        values[code, "name"] = record["name"]
        values[code, "area"] = None if record.get("area") is None else str(record["area"])
        values |= {(code, relation): spell(record) for relation, spell in SPELLED.items()}
    return values


def other_outlines() -> list[Outline]:
    """Outlines of the land that belongs to none of `read_countries`, which maps show as land."""
    members = _records()
    found = (read_json(path) for path in sorted(countries_folder().glob("*.json")))
    others = (r for r in found if (r.get("ISO") or {}).get("alpha2") not in members)
    return [outline for record in others if (outline := _outline(record))]


def plain(text: str) -> str:
    """The text in ASCII, as most English texts write names: "Bogota", "Chisinau"."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


@cache
def _records() -> dict[str, dict[str, Any]]:
    """What countryinfo has of every member, by code; read once, not to be changed."""
    records: dict[str, dict[str, Any]] = {}
    for path in sorted(countries_folder().glob("*.json")):
        record = read_json(path)
        code = (record.get("ISO") or {}).get("alpha2")
        if code in MEMBERS and code not in records:
            records[code] = record
    absent = MEMBERS - set(records)
    if absent:
        raise DataError(
            f"{countries_folder()}: countryinfo has no file of {', '.join(sorted(absent))}. "
            "Install the version of constraints.txt."
        )
    return records


def _borders(record: dict[str, Any], records: dict[str, dict[str, Any]]) -> list[str]:
    by_alpha3 = {other["ISO"]["alpha3"]: code for code, other in records.items()}
    return sorted(by_alpha3[b] for b in record.get("borders") or [] if b in by_alpha3)


def _outline(record: dict[str, Any]) -> Outline:
    pieces: Outline = []
    for feature in (record.get("geoJSON") or {}).get("features") or []:
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        for piece in [parts] if geometry["type"] == "Polygon" else parts:
            pieces.append([[(float(x), float(y)) for x, y, *_ in ring] for ring in piece])
    n_points = sum(len(ring) for piece in pieces for ring in piece)
    return pieces if n_points >= FEWEST_POINTS else []


def _first(record: dict[str, Any], key: str) -> str | None:
    values = record.get(key) or []
    return values[0] if values and values[0] else None


def _spelled(record: dict[str, Any], key: str, table: dict[str, str]) -> str | None:
    code = _first(record, key)
    if code is not None and code not in table:
        raise DataError(
            f"countryinfo gives {record['name']} the {key} code {code!r}, which has no plain name "
            "in datamodules/countries/names.py. Install the version of constraints.txt."
        )
    return None if code is None else table[code]


def _region(record: dict[str, Any]) -> str | None:
    return REGIONS.get(record.get("intermediateregion") or record.get("subregion") or "")


def _continent(record: dict[str, Any]) -> str:
    if record["region"] != "Americas":
        return str(record["region"])
    south = record.get("intermediateregion") == "South America"
    return "South America" if south else "North America"


def _calling_code(record: dict[str, Any]) -> str | None:
    code = _first(record, "callingCodes")
    return f"+{code}" if code else None


SPELLED: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "calling_code": _calling_code,
    "capital": lambda record: record.get("capital") or None,
    "continent": _continent,
    "currency": lambda record: _spelled(record, "currencies", CURRENCIES),
    "internet_domain": lambda record: _first(record, "tld"),
    "main_language": lambda record: _spelled(record, "languages", LANGUAGES),
    "nationality": lambda record: record.get("demonym") or None,
    "region": _region,
}
