"""Small random models and batches for tests, built in well under a second without a download."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning as L
import torch
from torch import Tensor
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
)

from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from editors.base import EditorInputs
from models.blip2 import Blip2
from models.deltas import (
    Deltas,
    DenseDelta,
    LowRankDelta,
    Site,
    linear_shape,
    linear_weight,
)
from models.editable import EditableModel
from models.llava import Llava
from models.minigpt4 import MiniGPT4, MiniGPT4Config, MiniGPT4ForConditionalGeneration
from models.multimodal import MultimodalModel
from models.rows import EditBatch, Rows
from tests.text_model import TextModel
from tests.tokenizers_small import llama_tokenizer, opt_tokenizer

Model = TypeVar("Model", bound=EditableModel)
VOCABULARY, IMAGE_TOKEN, SLOTS, WIDTH, INNER = 97, 3, 4, 16, 24
GOLDEN = Path(os.environ.get("TMKE_GOLDEN", Path(__file__).parent / "golden"))


def llava(
    *,
    layers: int = 3,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vocabulary: int = VOCABULARY,
    image_token: int = IMAGE_TOKEN,
    positions: int = 256,
) -> Llava:
    torch.manual_seed(seed)
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        initializer_range=0.2,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
        projection_dim=16,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vision_feature_layer=-1,
        image_seq_length=SLOTS,
    )
    return Llava(LlavaForConditionalGeneration(config).to(dtype))


def _sight() -> dict[str, Any]:
    """BLIP-2's picture path, which MiniGPT-4 shares; its weights are wide enough to see by."""
    vision = Blip2VisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=8, patch_size=4, initializer_range=0.2,
    )  # fmt: skip
    qformer = Blip2QFormerConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        encoder_hidden_size=16, initializer_range=0.2,
    )  # fmt: skip
    return {
        "vision_config": vision.to_dict(),
        "qformer_config": qformer.to_dict(),
        "num_query_tokens": SLOTS,
    }


def blip2(
    *,
    layers: int = 3,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    image_token: int | None = IMAGE_TOKEN,
    positions: int = 256,
) -> Blip2:
    torch.manual_seed(seed)
    text = OPTConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, ffn_dim=INNER, num_hidden_layers=layers,
        num_attention_heads=2, max_position_embeddings=positions, word_embed_proj_dim=WIDTH,
        init_std=0.2,
    )  # fmt: skip
    config = Blip2Config(**_sight(), text_config=text.to_dict(), image_token_index=image_token)
    hf = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(hf.query_tokens)
    return Blip2(hf)


def minigpt4(
    *,
    layers: int = 3,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    image_token: int | None = IMAGE_TOKEN,
    positions: int = 256,
) -> MiniGPT4:
    torch.manual_seed(seed)
    text = LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=positions,
        initializer_range=0.2,
    )  # fmt: skip
    config = MiniGPT4Config(**_sight(), text_config=text, image_token_index=image_token)
    hf = MiniGPT4ForConditionalGeneration(config)
    torch.nn.init.normal_(hf.query_tokens)
    return MiniGPT4(hf)


PICTURED: dict[str, Callable[..., MultimodalModel]] = {
    "llava": llava, "blip2": blip2, "minigpt4": minigpt4,
}  # fmt: skip


def text_model(
    kind: str,
    *,
    layers: int = 3,
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    positions: int = 64,
    key_heads: int = 2,
) -> TextModel:
    torch.manual_seed(seed)
    if kind == "gpt2":
        gpt2 = GPT2Config(
            vocab_size=vocabulary, n_embd=WIDTH, n_layer=layers, n_head=2, n_positions=positions,
            initializer_range=0.2,
        )  # fmt: skip
        return TextModel(GPT2LMHeadModel(gpt2))
    if kind == "opt":
        opt = OPTConfig(
            vocab_size=vocabulary, hidden_size=WIDTH, ffn_dim=INNER, num_hidden_layers=layers,
            num_attention_heads=2, max_position_embeddings=positions, word_embed_proj_dim=WIDTH,
            init_std=0.2,
        )  # fmt: skip
        return TextModel(OPTForCausalLM(opt))
    llama = LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=key_heads, max_position_embeddings=positions,
        initializer_range=0.2,
    )  # fmt: skip
    return TextModel(LlamaForCausalLM(llama))


def any_model(kind: str, *, layers: int = 3, seed: int = 0) -> EditableModel:
    if kind in PICTURED:
        return PICTURED[kind](layers=layers, seed=seed)
    return text_model(kind, layers=layers, seed=seed)


@dataclass(frozen=True)
class Prompt:
    """A row before padding: its tokens, how many of the last ones are the answer, its picture.

    The picture stands in front of token `picture_at`.
    """

    tokens: tuple[int, ...]
    answer: int
    edit: int = 0
    picture: int | None = None
    picture_at: int = 1


def trainer() -> L.Trainer:
    """Lightning's Trainer for a test in this process, without a word."""
    return L.Trainer(
        accelerator="cpu", logger=False, inference_mode=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip


def inputs() -> EditorInputs:
    """A prompt function and no training records."""
    tokenizer = opt_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<image>")
    return EditorInputs(PromptEncoder(tokenizer, PictureLayout(SLOTS, image)))


def worded_model(
    kind: str, *, padding: Literal["right", "left"] = "right", layers: int = 3, positions: int
) -> tuple[EditableModel, PromptEncoder]:
    """A random model whose vocabulary is its tokenizer's, and the encoder of its prompts."""
    tokenizer = llama_tokenizer() if kind in ("llava", "llama") else opt_tokenizer()
    image = tokenizer.convert_tokens_to_ids("<image>")
    vocabulary = len(tokenizer)
    if kind == "llava":
        model: EditableModel = llava(layers=layers, vocabulary=vocabulary, image_token=image)
        model.hf.config.get_text_config().max_position_embeddings = positions
    else:
        model = text_model(kind, layers=layers, vocabulary=vocabulary, positions=positions)
    layout = PictureLayout(SLOTS, image) if kind == "llava" else None
    return model, PromptEncoder(tokenizer, layout, padding_side=padding)


def picture(number: int) -> Tensor:
    """The pixels of a picture, by its number: (3, 8, 8)."""
    return torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(number))


def rows_of(prompts: Sequence[Prompt], *, padding: str = "right", extra: int = 0) -> Rows:
    """Pads prompts to one length (`extra` tokens longer than needed); pictures by seed."""
    return padded_rows(
        [ids_of(prompt) for prompt in prompts],
        answers=[prompt.answer for prompt in prompts],
        edits=[prompt.edit for prompt in prompts],
        pictures=[prompt.picture for prompt in prompts],
        pixels=picture,
        slot=IMAGE_TOKEN,
        padding=padding,
        extra=extra,
    )


def ids_of(prompt: Prompt) -> list[int]:
    slots = [] if prompt.picture is None else [IMAGE_TOKEN] * SLOTS
    return [*prompt.tokens[: prompt.picture_at], *slots, *prompt.tokens[prompt.picture_at :]]


def padded_rows(
    token_rows: Sequence[Sequence[int]],
    *,
    answers: Sequence[int],
    edits: Sequence[int],
    pictures: Sequence[int | None],
    pixels: Callable[[int], Tensor],
    slot: int,
    padding: str = "right",
    extra: int = 0,
) -> Rows:
    """Rows of tokens, the last `answers` of each its answer, and one picture of each number."""
    length = max(map(len, token_rows)) + extra
    ids = torch.zeros(len(token_rows), length, dtype=torch.int64)
    mask, answer = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    for row, tokens in enumerate(token_rows):
        start = 0 if padding == "right" else length - len(tokens)
        stop = start + len(tokens)
        ids[row, start:stop] = torch.tensor(tokens)
        mask[row, start:stop] = True
        answer[row, stop - answers[row] : stop] = True
    distinct = sorted({p for p in pictures if p is not None})
    return Rows(
        input_ids=ids,
        attention_mask=mask,
        answer_mask=answer,
        image_slots=ids == slot,
        image_index=torch.tensor([-1 if p is None else distinct.index(p) for p in pictures]),
        pixel_values=torch.stack([pixels(number) for number in distinct]) if distinct else None,
        edit_index=torch.tensor(edits),
    )


MEND_OPTIONS: dict[str, Any] = {
    "name": "mend", "max_iterations": 8, "batch_size": 2, "accumulate": 1, "lr": 1e-3,
    "edit_lr": 1e-2, "lr_of_edit_lr": 1e-3, "lr_schedule": "constant", "grad_clip": 100.0,
    "layers": 2, "matrices": ["mlp_in", "mlp_out"], "sites": None, "rank": 8,
    "n_hidden": 1, "init": "id", "v_init_std": 0.1, "combine": True, "shared": True,
    "normalise": True, "sign": "descent",
    "questions": None,
    "weights": {
        "reliability": 0.0, "generality": 0.1, "portability": 0.1, "image": 0.1, "transfer": 0.1,
        "named": 0.0, "locality": 1.0, "specificity": 1.0,
    },
    "teach_end": False,
}  # fmt: skip

TEXT_PROBES = ("reliability", "generality", "portability", "locality_far", "locality_near")
IMAGE_PROBES = (
    "reliability_s", "reliability_u", "generality_s", "portability", "locality_t_far",
    "locality_t_near", "locality_i_far",
)  # fmt: skip
TRANSITIVE_PROBES = (
    "reliability_t", "generality_t", "reliability_s", "reliability_u", "generality_s",
    "generality_u", "named_s", "named_u", "locality_t_far", "locality_i_far", "stability_same",
)  # fmt: skip


def edit_batch(
    edits: Sequence[int],
    *,
    pictures: bool = False,
    transitive: bool = False,
    padding: str = "right",
    extra: int = 0,
) -> EditBatch:
    """Edits by number, each with its own random prompts; odd ones have no one-hop question.

    With `transitive` they are in text and asked in text and about pictures.
    """
    prompts: list[Prompt] = []
    edit_rows: list[int] = []
    probes: dict[str, list[int]] = {}
    for place, number in enumerate(edits):
        draw = random.Random(number)
        edit_rows.append(len(prompts))
        prompts.append(_prompt(draw, place, number if pictures else None))
        own = {"reliability_t"} if transitive else {"reliability", "reliability_s"}
        with_pictures = TRANSITIVE_PROBES if transitive else IMAGE_PROBES
        for name in with_pictures if pictures or transitive else TEXT_PROBES:
            shows = (pictures or transitive) and not name.startswith("locality_t")
            shows = shows and not name.endswith("_t")
            asked = _prompt(draw, place, draw.randrange(1000) if shows else None)
            if name == "portability" and number % 2:
                continue
            if name in own:  # the edit's own prompt stands once
                probes.setdefault(name, []).append(edit_rows[-1])
                continue
            probes.setdefault(name, []).append(len(prompts))
            prompts.append(asked)
    return EditBatch(
        rows=rows_of(prompts, padding=padding, extra=extra),
        edit_rows=torch.tensor(edit_rows),
        probes={name: torch.tensor(rows) for name, rows in probes.items()},
        edit_ids=tuple(edits),
        subjects=tuple(f"subject {number}" for number in edits),
    )


def _prompt(draw: random.Random, edit: int, picture: int | None) -> Prompt:
    answer = draw.randint(1, 3)
    length = answer + draw.randint(3, 7)
    tokens = tuple(draw.randrange(4, VOCABULARY) for _ in range(length))
    return Prompt(tokens, answer, edit, picture)


def edited(model: Model, deltas: Deltas, edit: int) -> Model:
    """A copy whose weights are changed in place: the slow way to one edit."""
    changed = copy.deepcopy(model)
    for site, delta in deltas.items():
        weight = linear_weight(changed.linear(site))  # a view
        weight += delta.dense()[edit].to(weight.dtype)
    return changed


def random_deltas(model: EditableModel, *, layers: int, dense: bool, n_edits: int = 2) -> Deltas:
    draw = torch.Generator().manual_seed(2)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw) * 0.3

    found: dict[Site, DenseDelta | LowRankDelta] = {}
    for site in model.last_sites(layers):
        d_in, d_out = linear_shape(model.linear(site))
        found[site] = (
            DenseDelta(random(n_edits, d_out, d_in))
            if dense
            else LowRankDelta(random(n_edits, 3, d_in), random(n_edits, 3, d_out))
        )
    return found
