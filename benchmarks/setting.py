"""What all benchmarks share: a base model, real records for it, and one bare pass as the unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from benchmarks import full_size, mid_size
from benchmarks.measure import Work
from benchmarks.reference.passes import Reference, rows_of
from configs.check import load_config
from configs.schema import EvaluateConfig, TrainConfig
from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from datamodules.scenarios import SCENARIOS, Scenario
from datamodules.source import RecordSource
from models.editable import EditableModel
from models.families import family_of
from models.rows import EditBatch

UNIT_TOKENS = 92
_WORDS = ("model=llava_tiny", "output_dir=unused")


@dataclass(frozen=True)
class Setting:
    """A base model and records.

    Attributes:
        name: of the base model.
        pixels: a picture -> what the model reads.
        batch_size: edits side by side in the engine.
        options: editor -> configuration words that suit a model of this size.
    """

    name: str
    model: EditableModel
    encoder: PromptEncoder
    source: RecordSource
    pixels: Callable[[Image.Image], Tensor]
    batch_size: int
    options: dict[str, tuple[str, ...]]

    @classmethod
    def open(
        cls,
        shared: Path,
        pictures: Path,
        batch_size: int,
        size: mid_size.Size = mid_size.MID,
        device: torch.device | str = "cpu",
    ) -> Setting:
        """Builds the mid-size model, or one of another size, and reads the sample."""
        model = mid_size.build_model(device=device, size=size)
        tokenizer = mid_size.read_tokenizer(shared / "tokenizers/llama")
        return cls(
            f"{size.layers} layers of {size.width}",
            model,
            mid_size.make_encoder(tokenizer, model),
            mid_size.read_records(shared, pictures),
            mid_size.make_pixels(size.image),
            batch_size,
            {
                "mend": (f"editor.rank={size.rank}",),
                "rome": (f"editor.layer={5 * size.layers // 12}",),
                "serac": ("editor.scope.encoder=fresh", "editor.counterfactual.path=fresh"),
            },
        )

    @classmethod
    def open_full_size(
        cls,
        family: str,
        shared: Path,
        pictures: Path,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        tiny: bool = False,
    ) -> Setting:
        """A released model's shapes with random weights, and the sample in Llama's tokens.

        Args:
            family: llava, minigpt4 or blip2.
            shared: the folder with the sample and the tokenizer.
            pictures: where drawn ones are.
            batch_size: edits side by side in the engine.
            device: where the weights are made.
            dtype: of the weights; numbers of both engines are compared in float32 alone.
            tiny: the same at a width of 64, for a rehearsal.
        """
        torch.manual_seed(0)
        model = full_size.build(family, device, dtype, tiny=tiny)
        config, kind = model.hf.config, family_of(family)
        assert kind.slots is not None
        tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers/llama")
        tokenizer.pad_token = tokenizer.unk_token
        layout = PictureLayout(kind.slots(config), config.image_token_index, kind.before_bos)
        side = config.vision_config.image_size
        images = BlipImageProcessorPil(size={"height": side, "width": side})

        def pixels(image: Image.Image) -> Tensor:
            return torch.as_tensor(images(images=image, return_tensors="np")["pixel_values"][0])

        fresh = ("editor.scope.encoder=fresh", "editor.counterfactual.path=fresh")
        return cls(
            family,
            model,
            PromptEncoder(tokenizer, layout),
            mid_size.read_records(shared, pictures),
            pixels,
            batch_size,
            {
                "mend": ("editor.rank=16",) if tiny else (),
                "rome": ("editor.layer=5",),
                "serac": fresh,
            },
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def exact(self) -> bool:
        """Whether two ways to the same numbers can be compared to 1e-6."""
        return self.model.dtype == torch.float32

    def unit(self) -> Work:
        """One bare forward pass of a question about a picture, of about 92 tokens."""
        rows = rows_of(self.batch(SCENARIOS["multimodal"], 1))
        shown = [row for row in rows if row.pixels is not None]
        row = min(shown, key=lambda row: abs(row.ids.shape[1] - UNIT_TOKENS))
        reference = Reference(self.model)
        return lambda: reference.answers([row])

    def batch(self, scenario: Scenario, size: int) -> EditBatch:
        """The first edits of the sample, in one batch on the device."""
        (batch,) = mid_size.make_batches(
            self.source, self.encoder, scenario, size, size, self.pixels
        )
        return batch.to(self.device)

    def training(self, editor: str, scenario: str) -> TrainConfig:
        """The configuration of an editor's training."""
        cfg = load_config("train", self._words(editor, f"scenario={scenario}"))
        assert isinstance(cfg, TrainConfig)
        return cfg

    def evaluation(self, editor: str, *words: str) -> EvaluateConfig:
        """The configuration of an evaluation."""
        cfg = load_config("evaluate", self._words(editor, *words))
        assert isinstance(cfg, EvaluateConfig)
        return cfg

    def _words(self, editor: str, *words: str) -> Sequence[str]:
        return [*_WORDS, f"editor={editor}", *self.options.get(editor, ()), *words]
