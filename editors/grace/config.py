"""Options of GRACE (Hartvigsen et al., 2023); configs/editor/grace.yaml has values and sources."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import BaseFacts, DescentOptions
from errors import ModelError
from options import Seed

Replaced = Literal["last", "answer", "prompt", "all"]


class GraceOptions(DescentOptions):
    """A codebook beside one matrix: what came in at an edit's prompt, what goes out instead."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True

    name: Literal["grace"]
    layer: int = Field(ge=0)
    matrix: Literal["mlp_in", "mlp_out"]
    epsilon_init: float = Field(gt=0)
    replace: Replaced
    start: Literal["random", "output"]
    seed: Seed

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a layer that is not there.

        Raises:
            ModelError: with the layers that are.
        """
        super().check_base(base)
        if self.layer >= base.layers:
            raise ModelError(
                f"editor.layer={self.layer}: this model has decoder layers 0 to "
                f"{base.layers - 1}; give a layer in that range."
            )
