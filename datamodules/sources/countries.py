"""data=countries: flags, maps and facts of countries, drawn on first use from PyPI packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from datamodules.countries.packages import missing_packages, missing_sentence
from datamodules.looks import Look
from datamodules.sources.folder import FolderData
from results.files import why_unwritable

if TYPE_CHECKING:
    from datamodules.world import World


class CountriesData(FolderData):
    """A world folder that is drawn from packages; configs/data/countries.yaml explains the keys."""

    licence: ClassVar[str | None] = "MIT (countryinfo, django-tabler, drawn by this project)"
    origin: ClassVar[str | None] = "the packages countryinfo and django-tabler (docs/countries.md)"
    looks: ClassVar[tuple[Look, ...]] = ()  # as a folder

    def problems(self, command: str) -> list[str]:
        """The folder need not be there, but then it is drawn, which takes the packages."""
        del command
        root = Path(self.root)
        if root.is_dir() and any(root.iterdir()):
            return []
        missing = missing_packages()
        problems = [missing_sentence(missing)] if missing else []
        reason = why_unwritable(root)
        if reason:
            problems.append(f"data.root={root}: no world can be drawn there ({reason})")
        return problems

    def open_world(self) -> World:
        """Draws the folder where it is missing, then reads it."""
        from datamodules.countries.generate import generate_countries

        generate_countries(Path(self.root))
        return super().open_world()


SOURCE = CountriesData
