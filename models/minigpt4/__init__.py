"""MiniGPT-4: the transformers model, the editing interface, and the conversion of the originals."""

from models.minigpt4.editable import MiniGPT4
from models.minigpt4.modeling import MiniGPT4Config, MiniGPT4ForConditionalGeneration

__all__ = ["MiniGPT4", "MiniGPT4Config", "MiniGPT4ForConditionalGeneration"]
