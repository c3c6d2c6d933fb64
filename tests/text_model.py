"""Text-only decoder LMs (GPT-2, Llama, OPT) behind the editing interface.

The parity tests run the published editors' small GPT-2 and Llama through it; an editor cannot tell
such a model from the language model inside a multimodal one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from errors import ModelError
from models.decoder import Decoder, llama_decoder, mlp_after, opt_decoder
from models.editable import EditableModel
from models.rows import Rows
from models.sites import Role

_NO_PICTURES = "a row shows a picture, and a text-only model cannot see one."


def _gpt2_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of GPT-2, whose linear maps are Conv1D with (in, out) weights."""
    sites: Mapping[Role, str] = {"mlp_in": "mlp.c_fc", "mlp_out": "mlp.c_proj"}
    return Decoder(body, body.h, body.ln_f, head, "ln_2", mlp_after("ln_2"), sites)


def _parts(hf: PreTrainedModel) -> tuple[nn.Module, Callable[[nn.Module, nn.Module], Decoder]]:
    kind = hf.config.model_type
    if kind == "gpt2":
        return hf.transformer, _gpt2_decoder
    if kind == "llama":
        return hf.model, llama_decoder
    if kind == "opt":
        return hf.model.decoder, opt_decoder
    raise ModelError(
        f"model type {kind!r} has no known layer roles; accepted here: gpt2, llama, opt. "
        "models/decoder.py shows what a new type needs."
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
            raise ModelError(_NO_PICTURES)
        return self.hf.get_input_embeddings()(rows.input_ids)

    def picture_features(self, pixel_values: Tensor) -> Tensor:
        """There are none.

        Raises:
            ModelError: always.
        """
        raise ModelError(_NO_PICTURES)
