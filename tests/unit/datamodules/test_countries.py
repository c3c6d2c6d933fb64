"""The world of countries: facts, corrections, pictures, records, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.countries import generate as generate_module
from datamodules.countries import packages
from datamodules.countries.catalogue import HOPS, RELATIONS, SEEN_VIEWS, UNSEEN_VIEWS
from datamodules.countries.drawing import AMONG, draw_map
from datamodules.countries.facts import (
    Correction,
    Country,
    Ring,
    plain,
    read_corrections,
    read_countries,
    source_values,
)
from datamodules.countries.generate import choose_countries, generate_countries
from datamodules.countries.lookalikes import look_alikes
from datamodules.sources.countries import CountriesData
from datamodules.world import World, world_records
from errors import ConfigError, DataError

MISSING = [name for name, module in packages.MODULES.items() if find_spec(module) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} ({packages.INSTALL})"
)


@pytest.fixture(scope="module")
def root(countries: Path) -> Path:
    return countries


@pytest.fixture(scope="module")
def world(root: Path) -> World:
    return World.load(root)


@pytest.fixture(scope="module")
def by_code() -> dict[str, Country]:
    return {country.code: country for country in read_countries()}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[Country]:
    """Three countries in place of all, so that drawing takes no time."""
    countries, left_out = choose_countries()
    chosen = [country for country in countries if country.code in ("FR", "NP", "ZA")]
    monkeypatch.setattr(generate_module, "choose_countries", lambda: (chosen, left_out))
    return chosen


def options(root: Path) -> CountriesData:
    return CountriesData(
        name="countries", root=str(root), seed=0, noun=None, targets_per_fact=1, num_workers=0,
        filter_known="text", taught=False, on_error="error", limit=None, prompt="default",
        allow_overlap=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "relation", "value"),
    [
        ("FR", "capital", "Paris"), ("BR", "capital", "Brasilia"), ("BI", "capital", "Gitega"),
        ("US", "continent", "North America"), ("BR", "continent", "South America"),
        ("NG", "region", "West Africa"), ("TH", "region", "Southeast Asia"),
        ("HR", "currency", "euro"), ("LT", "currency", "euro"), ("JP", "currency", "yen"),
        ("SN", "currency", "CFA franc"), ("ID", "main_language", "Indonesian"),
        ("BR", "main_language", "Portuguese"), ("NL", "nationality", "Dutch"),
        ("GB", "largest_neighbour", "Ireland"), ("BA", "largest_neighbour", "Serbia"),
        ("DE", "largest_neighbour", "France"), ("GB", "internet_domain", ".uk"),
        ("KZ", "calling_code", "+7"), ("FR", "calling_code", "+33"),
    ],
)  # fmt: skip
def test_facts(by_code: dict[str, Country], code: str, relation: str, value: str) -> None:
    assert by_code[code].facts[relation] == value


def test_names_are_plain(by_code: dict[str, Country]) -> None:
    names = {code: country.name for code, country in by_code.items()}
    assert names["CD"] == "DR Congo"
    assert names["MK"] == "North Macedonia"
    assert names["SZ"] == "Eswatini"
    assert names["CI"] == "Ivory Coast"
    assert names["US"] == "United States"
    assert all(name.isascii() for name in names.values())


def test_facts_without_one_value_are_left_out(by_code: dict[str, Country]) -> None:
    assert "capital" not in by_code["IL"].facts
    assert "main_language" not in by_code["AF"].facts
    assert "capital" not in by_code["SG"].facts  # named like the country
    assert "largest_neighbour" not in by_code["AU"].facts


@pytest.mark.parametrize("entry", read_corrections(), ids=lambda e: f"{e.code}-{e.field}")
def test_each_correction_is_needed(entry: Correction, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package has mended its error, the line may go."""
    assert entry.why
    assert entry.value != entry.source
    if entry.field != "largest_neighbour":
        assert source_values()[entry.code, entry.field] == entry.source
        return
    others = tuple(each for each in read_corrections() if each != entry)
    monkeypatch.setattr("datamodules.countries.facts.read_corrections", lambda: others)
    found = {country.code: country for country in read_countries()}
    assert found[entry.code].facts["largest_neighbour"] == entry.source


def test_corrections_are_applied(by_code: dict[str, Country]) -> None:
    for entry in read_corrections():
        country = by_code[entry.code]
        if entry.field == "name":
            assert country.name == entry.value
        elif entry.field != "area":
            expected = None if entry.value is None else plain(entry.value)
            assert country.facts.get(entry.field) == expected, entry


def test_world_has_enough_countries_with_all_views(world: World) -> None:
    assert len(world.pictured) == 161
    assert len(world.facts) == 1577
    assert world.hops == sorted(HOPS)
    assert set(world.relations) == set(RELATIONS)
    assert world.in_image("France") == "the country in the image"
    for entity in world.pictured:
        assert [path.stem for path in entity.seen] == sorted(SEEN_VIEWS)
        assert [path.stem for path in entity.unseen] == sorted(UNSEEN_VIEWS)


def test_wordings_are_enough_and_different() -> None:
    for plan in RELATIONS.values():
        assert len(set(plan.wordings)) == len(plan.wordings) >= 4
        assert all(text.count("{s}") == 1 for text in (*plan.wordings, plan.hop_phrase))


def test_pictures_are_square_and_no_two_of_a_view_are_equal(world: World) -> None:
    for view in (*SEEN_VIEWS, *UNSEEN_VIEWS):
        drawn = set()
        for entity in world.pictured:
            with Image.open(entity.images[view]) as image:
                assert (image.size, image.mode) == ((96, 96), "RGB")
                drawn.add(image.tobytes())
        assert len(drawn) == len(world.pictured), view


def square(low: float, high: float) -> Ring:
    return [(low, low), (high, low), (high, high), (low, high), (low, low)]


def test_a_hole_shows_the_country_that_lies_in_it() -> None:
    """South Africa's map shows Lesotho as land that is not its own."""
    drawn = draw_map([[square(-9, 9), square(-4, 4)]], [], AMONG)
    assert drawn.getpixel((48, 48)) == AMONG.land
    assert drawn.getpixel((48, 24)) == AMONG.country
    assert drawn.getpixel((48, 4)) == AMONG.sea


def test_neighbours_are_land_in_another_colour(world: World) -> None:
    with Image.open(world.entities["South Africa"].images["map_neighbours"]) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    red = (np.abs(pixels - (192, 62, 46)).sum(axis=-1) < 12).mean()
    land = (np.abs(pixels - (226, 220, 196)).sum(axis=-1) < 12).mean()
    assert 0.15 < red < 0.5
    assert land > 0.1


def test_country_on_both_sides_of_the_date_line_stays_in_one_piece(world: World) -> None:
    with Image.open(world.entities["Fiji"].images["map"]) as image:
        dark = np.asarray(image.convert("L")) < 120
    assert dark.mean() > 0.1  # around the whole globe its islands would be dots


def test_left_out_countries_and_look_alikes_are_listed(root: Path, world: World) -> None:
    generator = json.loads((root / "world.json").read_text())["generator"]
    readme = (root / "README.md").read_text()
    assert len(generator["left_out"]) == 32
    assert generator["left_out"]["Hungary"] == "no outline"
    assert "* Hungary: no outline" in readme
    assert ["Chad", "Romania"] in generator["look_alikes"]
    assert "* Chad, Romania" in readme
    assert generator["packages"]["countryinfo"].endswith("MIT")
    assert not set(generator["left_out"]) & set(world.entities)


def test_look_alikes_are_near_in_pixels(tmp_path: Path) -> None:
    for name, colour in {"a": (250, 0, 0), "b": (240, 10, 0), "c": (0, 0, 250)}.items():
        Image.new("RGB", (96, 96), colour).save(tmp_path / f"{name}.png")
    assert look_alikes({name: tmp_path / f"{name}.png" for name in "abc"}) == [("a", "b")]


def test_records_of_every_split(world: World) -> None:
    numbers = {split: len(world_records(world, split)) for split in ("train", "val", "test")}
    assert numbers["test"] > 600
    assert numbers["train"] > 500
    hops = [r for r in world_records(world, "test") if r.one_hop_question is not None]
    assert {r.relation for r in hops} == {"capital", "largest_neighbour"}


def test_a_record_shows_a_seen_and_an_unseen_view(world: World) -> None:
    for record in world_records(world, "val"):
        assert record.image
        assert Path(record.image).stem in SEEN_VIEWS
        assert record.image_rephrase
        assert Path(record.image_rephrase).stem in UNSEEN_VIEWS


@pytest.mark.usefixtures("few")
def test_same_folder_twice(tmp_path: Path) -> None:
    first = generate_countries(tmp_path / "a")
    second = generate_countries(tmp_path / "b")
    names = sorted(path.relative_to(first) for path in first.rglob("*"))
    assert names == sorted(path.relative_to(second) for path in second.rglob("*"))
    files = [name for name in names if (first / name).is_file()]
    assert len(files) == 3 + 3 * 6
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.usefixtures("few")
def test_left_out_countries_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        generate_countries(tmp_path / "a")
    assert "32 are left out: Andorra (no outline), " in caplog.text


@pytest.mark.usefixtures("few")
def test_folder_is_kept_and_a_foreign_one_refused(tmp_path: Path) -> None:
    folder = generate_countries(tmp_path / "a")
    before = (folder / "world.json").stat().st_mtime_ns
    assert generate_countries(folder) == folder
    assert (folder / "world.json").stat().st_mtime_ns == before
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no world of countries"):
        generate_countries(foreign)
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]


@pytest.mark.usefixtures("few")
def test_world_of_other_packages_is_refused(tmp_path: Path) -> None:
    folder = generate_countries(tmp_path / "a")
    content = json.loads((folder / "world.json").read_text())
    content["generator"]["packages"]["countryinfo"] = "0.1, MIT"
    (folder / "world.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"'countryinfo': '0\.1, MIT'"):
        generate_countries(folder)


def test_two_processes_draw_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from datamodules.countries import generate as g\n"
        "countries, left_out = g.choose_countries()\n"
        "g.choose_countries = lambda: (countries[:12], left_out)\n"
        "g.generate_countries(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "countries")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.communicate()[1].decode() == ""
        assert process.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["countries"]
    assert len(list((tmp_path / "countries" / "images").glob("*/*.png"))) == 12 * 6


def test_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packages.MODULES, "django-tabler", "no_such_module")
    problems = options(tmp_path / "none").problems("evaluate")
    assert len(problems) == 1
    assert "not installed: django-tabler." in problems[0]
    assert "pip install -c constraints.txt -e '.[countries]'" in problems[0]
    with pytest.raises(ConfigError, match=r"\.\[countries\]"):
        generate_countries(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_drawn_world_needs_no_packages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.MODULES, "django-tabler", "no_such_module")
    assert options(root).problems("evaluate") == []
    assert len(options(root).open_world().pictured) == 161


def test_too_few_flags_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = tmp_path / "flags"
    flags.mkdir()
    shutil.copy(packages.flags_folder() / "fr.svg", flags)
    monkeypatch.setattr(generate_module, "flags_folder", lambda: flags)
    with pytest.raises(DataError, match=r"only 1 countries have pictures.*Afghanistan \(no flag\)"):
        generate_countries(tmp_path / "world")
    assert not (tmp_path / "world").exists()
