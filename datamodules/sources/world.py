"""data=world: a generated world of companies, landmarks and people, drawn on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from datamodules.looks import Look
from datamodules.sources.folder import FolderData
from options import Seed
from results.files import why_unwritable

if TYPE_CHECKING:
    from datamodules.world import World


class WorldData(FolderData):
    """A world folder that is drawn; configs/data/world.yaml explains the keys."""

    licence: ClassVar[str | None] = "MIT (drawn by this project)"
    origin: ClassVar[str | None] = "drawn by this project (docs/data.md)"
    looks: ClassVar[tuple[Look, ...]] = ()  # as a folder

    size: int = Field(ge=8)
    world_seed: Seed

    def problems(self, command: str) -> list[str]:
        """The folder need not be there, but then it is drawn."""
        del command
        root = Path(self.root)
        if root.is_dir() and any(root.iterdir()):
            return []
        reason = why_unwritable(root)
        return [f"data.root={root}: no world can be drawn there ({reason})"] if reason else []

    def open_world(self) -> World:
        """Draws the folder where it is missing, then reads it."""
        from datamodules.world import generate_world

        generate_world(Path(self.root), seed=self.world_seed, size=self.size)
        return super().open_world()


SOURCE = WorldData
