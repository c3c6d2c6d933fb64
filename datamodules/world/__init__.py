"""Small worlds: a folder of entities, facts and pictures, and the benchmark records made of it."""

from datamodules.world.generate import generate_world
from datamodules.world.records import world_records
from datamodules.world.world import Entity, Relation, World

__all__ = ["Entity", "Relation", "World", "generate_world", "world_records"]
