"""Options of IKE (Zheng et al., 2023); configs/editor/ike.yaml has values and sources."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from editors.encoders import encoder_folder
from editors.options import EditorOptions
from errors import DataError
from options import Seed, TypedPath

if TYPE_CHECKING:
    from datamodules.records import Record

PicturePlace = Literal["question", "front"]


class IkeOptions(EditorOptions):
    """Demonstrations in the context instead of a change of weights."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    asks_longer: ClassVar[bool] = True

    name: Literal["ike"]
    k: int = Field(ge=0)
    encoder: TypedPath
    own_copy: bool
    picture: PicturePlace
    seed: Seed

    @property
    def shows_records(self) -> bool:
        """Whether there are any demonstrations."""
        return self.k > 0

    def check_records(self, tested: "Sequence[Record]", training: "Sequence[Record]") -> None:
        """Refuses training records that give no demonstrations, and an encoder that is not there.

        Raises:
            DataError: there are fewer training records than demonstrations, or one of them has no
                text question about a neighbour.
            ModelError: the encoder is on no disk.
        """
        if len(training) < self.k:
            raise DataError(
                f"editor=ike shows editor.k={self.k} demonstrations from the training split, which "
                f"has {len(training)} records. Give more training records (data.train_files for "
                "data=tmke), or lower editor.k."
            )
        if not self.k:
            return
        encoder_folder(self.encoder, key="editor.encoder")
        for number, record in enumerate(training):
            try:
                self.check_demonstration(record)
            except DataError as error:
                raise DataError(f"training record {number} {error}") from error

    def check_demonstration(self, record: "Record") -> None:
        """Refuses a record without a text question that its edit leaves alone.

        Raises:
            DataError: it has none, and none can be made.
        """
        if not self.k:
            return
        same, far = record.same_type_entity_question, record.locality_question
        cannot = "cannot be a demonstration of editor=ike:"
        if same is None and far is None and not record.extra_locality:
            raise DataError(f"{cannot} it has no question that the edit has to leave alone.")
        try:
            if same is not None:
                record.text_question_about(same)
        except DataError as error:
            raise DataError(f"{cannot} {error}") from error
