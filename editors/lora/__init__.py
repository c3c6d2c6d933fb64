"""LoRA: low-rank fine-tuning on the edit alone (Hu et al., 2022)."""

from editors.lora.config import LoraOptions
from editors.registry import Registration

EDITOR = Registration(options=LoraOptions, method="editors.lora.editor:build")
