"""Text-only decoder LMs (GPT-2, Llama, OPT) behind the editing interface.

The parity tests run the published editors' small GPT-2 and Llama through it; an editor cannot tell
such a model from the language model inside a multimodal one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from errors import ModelError
from models.decoder import Decoder
from models.editable import EditableModel
from models.llava import llama_decoder
from models.rows import Rows

_BLIND = "a row shows a picture, and a text-only model cannot see one."


def gpt2_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of GPT-2, whose linear maps are Conv1D with (in, out) weights."""
    return Decoder(
        body=body,
        layers=body.h,
        norm=body.ln_f,
        head=head,
        mlp_norm="ln_2",
        mlp=lambda block, hidden: block.mlp(block.ln_2(hidden)),
        sites={"mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"},
    )


def opt_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of OPT with pre-layer-norm (every size but 350m).

    Raises:
        ModelError: the model normalises after the MLP.
    """
    block = body.layers[0]
    if not block.do_layer_norm_before:
        raise ModelError(
            "this OPT model normalises after attention and MLP (do_layer_norm_before=false, as "
            "OPT-350m does); edits are written for the pre-layer-norm sizes. Use another OPT."
        )
    return Decoder(
        body=body,
        layers=body.layers,
        norm=body.final_layer_norm,
        head=head,
        mlp_norm="final_layer_norm",
        mlp=lambda block, hidden: block.fc2(
            block.activation_fn(block.fc1(block.final_layer_norm(hidden)))
        ),
        sites={"mlp_in": "fc1", "mlp_out": "fc2"},
    )


def _parts(hf: PreTrainedModel) -> tuple[nn.Module, Callable[[nn.Module, nn.Module], Decoder]]:
    kind = hf.config.model_type
    if kind == "gpt2":
        return hf.transformer, gpt2_decoder
    if kind == "llama":
        return hf.model, llama_decoder
    if kind == "opt":
        return hf.model.decoder, opt_decoder
    raise ModelError(
        f"model type {kind!r} has no known layer roles; accepted here: gpt2, llama, opt. "
        "models/text.py shows what a new type needs."
    )


class TextModel(EditableModel):
    """A text-only LM.

    Args:
        hf: a GPT-2, Llama or OPT causal LM; it is frozen.
    """

    family = "text"

    def __init__(self, hf: PreTrainedModel) -> None:
        body, decoder_of = _parts(hf)
        super().__init__(hf, decoder_of(body, hf.get_output_embeddings()))

    def embed(self, rows: Rows) -> Tensor:
        """Token embeddings: (R, T, d).

        Raises:
            ModelError: a row shows a picture.
        """
        if rows.pixel_values is not None:
            raise ModelError(_BLIND)
        return self.hf.get_input_embeddings()(rows.input_ids)

    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """There are none.

        Raises:
            ModelError: always.
        """
        raise ModelError(_BLIND)
