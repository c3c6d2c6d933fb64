"""Options of the unedited model: there are none."""

from typing import ClassVar, Literal

from editors.options import EditorOptions


class NoneOptions(EditorOptions):
    """The unedited model as an editor that does nothing."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True

    name: Literal["none"]
