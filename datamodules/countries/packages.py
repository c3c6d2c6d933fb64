"""Where the packages of `data=countries` keep their files; none of their code is run.

| package | gives | licence |
|---|---|---|
| countryinfo | facts, borders and outlines, one JSON file a country | MIT |
| django-tabler | flags as SVG, 4:3, those of flag-icon-css | MIT |
| resvg-py | draws SVG; imported only while a world is drawn | MIT |
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from errors import ConfigError

LICENCES = {"countryinfo": "MIT", "django-tabler": "MIT", "resvg-py": "MIT"}
MODULES = {"countryinfo": "countryinfo", "django-tabler": "django_tabler", "resvg-py": "resvg_py"}
INSTALL = "pip install -c constraints.txt -e '.[countries]'"


def missing_packages() -> list[str]:
    """Names of the packages that are not installed."""
    return [name for name, module in MODULES.items() if find_spec(module) is None]


def missing_sentence(missing: list[str]) -> str:
    """What to say of packages that are not installed."""
    return (
        f"data=countries is drawn from the packages {', '.join(MODULES)}; not installed: "
        f"{', '.join(missing)}. Install them: {INSTALL}"
    )


def countries_folder() -> Path:
    """Folder of countryinfo's JSON files."""
    return _folder("countryinfo") / "data"


def flags_folder() -> Path:
    """Folder of the flags, `fr.svg` and so on."""
    return _folder("django-tabler") / "static" / "images" / "flags"


def versions() -> dict[str, str]:
    """Version and licence of every package: {"countryinfo": "1.0.1, MIT", ...}.

    Raises:
        ConfigError: a package is missing.
    """
    missing = missing_packages()
    if missing:
        raise ConfigError(f"{missing_sentence(missing)}.")
    return {name: f"{metadata.version(name)}, {LICENCES[name]}" for name in MODULES}


def _folder(package: str) -> Path:
    spec = find_spec(MODULES[package])
    if spec is None or spec.origin is None:
        raise ConfigError(f"{missing_sentence([package])}.")
    return Path(spec.origin).parent
