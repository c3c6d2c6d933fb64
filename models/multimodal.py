"""What all base models that see pictures share: features of distinct pictures in their slots."""

from __future__ import annotations

from torch import Tensor

from errors import ModelError
from models.editable import EditableModel
from models.rows import TEXT_ONLY, Rows


class MultimodalModel(EditableModel):
    """A frozen multimodal LLM; a family gives `picture_features`.

    A row with a picture holds one token per feature; which id stands there does not matter, so a
    vocabulary without an image token may use -1. Rows that show the same picture share one pass.
    """

    def embed(self, rows: Rows) -> Tensor:
        """Token embeddings with picture features in their slots: (R, T, d).

        Raises:
            ModelError: the rows' slots do not match the number of features per picture.
        """
        embeddings = self.hf.get_input_embeddings()(rows.input_ids.clamp(min=0))
        if rows.pixel_values is None:
            return embeddings
        features = self.encode_pictures(rows).features  # (P, S, d)
        assert features is not None
        with_picture = rows.image_index != TEXT_ONLY
        slots = rows.image_slots.sum(1)[with_picture]
        if bool((slots != features.shape[1]).any()):
            raise ModelError(
                f"a row has {int(slots[slots != features.shape[1]][0])} image slots, and this "
                f"model gives {features.shape[1]} features per picture. The rows were made for "
                "another model: use the processor that lies beside this model's weights."
            )
        of_rows = features[rows.image_index[with_picture]].to(embeddings.dtype)
        return embeddings.masked_scatter(rows.image_slots[..., None], of_rows)
