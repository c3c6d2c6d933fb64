"""What a family's own processor is told besides tokenizer and image processor, by its class."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

from transformers.models.auto.processing_auto import (
    PROCESSOR_MAPPING_NAMES,
    processor_class_from_name,
)

COUNTS = "processor_config.json"  # where it is told
_OTHER_MEDIA = ("video", "audio")


def settings_of(model_type: str) -> tuple[str, ...]:
    """What the processor of a model type is told; nothing where transformers has none."""
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    processor = processor_class_from_name(name) if name else None
    return () if processor is None else own_settings(processor)


def own_settings(processor: type[Any]) -> tuple[str, ...]:
    """What a processor's class is told besides its parts: how many tokens a picture takes.

    Those without which it cannot count; where all of them have a value by default, which is that
    of one released model, all of them.
    """
    if not hasattr(processor, "get_attributes"):
        return ()  # stands for a class that asks for a package which is not installed
    known = {"self", "chat_template", *processor.get_attributes()}
    asked = [
        parameter
        for name, parameter in signature(processor.__init__).parameters.items()
        if name not in known
        and parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        and not name.endswith("_token")
        and not any(medium in name for medium in _OTHER_MEDIA)
    ]
    unset = [parameter for parameter in asked if parameter.default in (None, Parameter.empty)]
    return tuple(parameter.name for parameter in unset or asked)
