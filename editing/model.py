"""A base model that is open: its engine, its words and its pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from configs.composing import CONFIG_DIR
from configs.models import model_options
from configs.overrides import group_options, suggest
from configs.schema import ModelOptions
from configs.words import quoted, typed_value
from datamodules.collate import RowTable
from datamodules.images import ImageStore
from datamodules.picture_file import convert_image, read_image
from datamodules.picture_folder import PictureFolder
from datamodules.prompt_encoder import PromptEncoder, PromptForm
from editing.answer import Answered
from errors import ConfigError, DataError, ModelError
from models.editable import EditableModel
from models.families import FAMILIES
from models.folder import is_local
from models.unreadable import UNREADABLE, reason
from options import without_tilde
from results.files import replacing
from runner.assembly import make_encoder, open_processor
from runner.assembly import open_model as load_weights

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Picture = str | Path | Image.Image
_CHECKOUT = CONFIG_DIR.parent


@dataclass(frozen=True)
class OpenedModel:
    """A base model with what turns words and pictures into its inputs.

    No edit ever changes it.

    Attributes:
        options: what it was opened with.
        editable: the engine around its weights.
        encoder: questions and answers -> tokens, in one form of prompt.
        images: picture files -> pixels.
    """

    options: ModelOptions
    editable: EditableModel
    encoder: PromptEncoder
    images: ImageStore
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    @property
    def hf(self) -> PreTrainedModel:
        """The model of transformers."""
        return self.editable.hf

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer."""
        return self.encoder.tokenizer

    def fingerprint(self) -> str:
        """A short hash of the weights, which edits and trained editors name their base by."""
        return self.editable.fingerprint()

    def ask(
        self, question: str, image: Picture | None = None, *, max_new_tokens: int = 16
    ) -> Answered:
        """Asks the unedited model; both answers are its own.

        Args and errors are those of `FactEdit.ask`.
        """
        from editing.edit import UNEDITED, ask_both

        return ask_both(
            self, question, image, edit=UNEDITED, name="none", layer=self.editable.n_layers - 1,
            max_new_tokens=max_new_tokens,
        )  # fmt: skip

    def check_unedited(self, what: str) -> None:
        """Refuses what means the unedited model while an edit is in place on it.

        Raises:
            ModelError: inside `with edit.applied():`.
        """
        if self.editable.is_edited:
            raise ModelError(
                f"{what} inside `with edit.applied():`, where the model is the edited one and "
                "`model.hf` answers: do it outside of the block. An edit on top of another is made "
                "with on=."
            )

    def rows(self) -> RowTable:
        """An empty table of rows for this model."""
        return RowTable(self.encoder, self.images, PictureFolder(Path("/")), plain_locality=False)

    def picture_file(self, picture: Picture) -> Path:
        """Where a picture lies; one that is in memory only is written as PNG, for one reader.

        Raises:
            DataError: the file is missing, or no picture.
        """
        if isinstance(picture, Image.Image):
            picture = convert_image(picture)
            content = sha256(repr(picture.size).encode() + picture.tobytes())
            path = Path(self._folder.name) / f"{content.hexdigest()[:16]}.png"
            if not path.exists():
                with replacing(path) as temporary:
                    picture.save(temporary)
            return path
        if not isinstance(picture, str | Path):
            raise DataError(
                f"a picture is a file or an image of Pillow, and this is a "
                f"{type(picture).__name__}: PIL.Image.fromarray(...) makes one of an array."
            )
        path = Path(without_tilde(str(picture))).absolute()
        read_image(path)
        return path


def open_model(
    name: str | Path,
    *,
    revision: str | None = None,
    dtype: Dtype | None = None,
    quantise: Literal["8bit", "4bit"] | None = None,
    device: str | torch.device | None = None,
    device_map: Literal["auto"] | None = None,
    max_memory: Mapping[int | str, str] | None = None,
    prompt: PromptForm = "default",
) -> OpenedModel:
    """Opens a base model.

    Args:
        name: a file of configs/model without its ending, such as `llava_tiny`; a folder in
            transformers' format; or a hub id.
        revision: commit of a hub repository.
        dtype: number type of the weights; None as configs/model says.
        quantise: the decoder layers in fewer bits.
        device: where the weights go; None is a GPU where there is one.
        device_map: `auto` spreads what does not fit there over other cards, the machine's memory
            and the disk.
        max_memory: with `device_map`, how much weights may take, by the number of a card and
            `cpu`, such as `{0: "20GB", "cpu": "60GB"}`; 90 % of what is free on those not named.
        prompt: how questions are worded (`data.prompt`).

    Raises:
        ConfigError: an option is unknown.
        ModelError: there is no such model, it is damaged or of a kind that cannot be edited, or it
            has no room.
    """
    given: dict[str, object] = {"revision": revision, "dtype": dtype, "quantise": quantise}
    given |= {"device_map": device_map, "max_memory": max_memory}
    options = model_options([*_words(str(name), revision), *_typed(given)])
    if options.max_memory is not None and options.device_map is None:
        raise ConfigError(
            f"max_memory={options.max_memory} says how much of each device a model takes that is "
            'spread over several: add device_map="auto", or leave it out.'
        )
    if prompt not in get_args(PromptForm):
        raise ConfigError(f"prompt={prompt!r}: {', '.join(get_args(PromptForm))} are accepted.")
    return open_configured(options, _device(device), prompt)


def _device(given: str | torch.device | None) -> torch.device:
    """Where the weights go.

    Raises:
        ConfigError: there is no such device here.
    """
    name = given or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"device={name!r}: torch has no such device here; cpu is accepted, and cuda or cuda:N "
            "where there is a GPU."
        ) from error


def open_configured(
    options: ModelOptions,
    device: torch.device,
    prompt: PromptForm,
    *,
    memory: float | int | None = None,
) -> OpenedModel:
    """Opens the base model that a configuration describes; arguments and errors as `open_model`.

    `memory` is what passes may hold besides, as `MemoryBudget.of` takes it.
    """
    processor = open_processor(options)
    return OpenedModel(
        options,
        load_weights(options, device, memory=memory),
        make_encoder(processor, prompt),
        ImageStore(processor.pixels),
        tempfile.TemporaryDirectory(prefix="pictures-"),
    )


def model_words(options: ModelOptions) -> list[str]:
    """What is typed for a model in another place: its name, its folder and its family."""
    named = options.name in group_options("model")
    words = [f"model={options.name}" if named else "model=auto"]
    values = options.model_dump(exclude={"name"} if named else set())
    return [*words, *_typed(values)]


def _typed(values: Mapping[str, object]) -> list[str]:
    """Keys of the group `model` as words; those that are None stay as configs/model says."""
    typed = {key: value for key, value in values.items() if value is not None}
    return [f"model.{key}={typed_value(value)}" for key, value in typed.items()]


def _words(name: str, revision: str | None) -> list[str]:
    """A model as words of a command line.

    Raises:
        ModelError: nothing has this name.
    """
    if name in group_options("model"):
        words = [f"model={name}"]
        path = model_options(words).path
        # Of models that ship, the configuration names the folder from the root of the checkout.
        inside = _CHECKOUT / path
        is_elsewhere = is_local(path) and not Path(path).exists() and inside.exists()
        return [*words, f"model.path={quoted(str(inside))}"] if is_elsewhere else words
    if "/" not in name and not Path(name).exists():
        raise ModelError(
            f"there is no model {name!r}: a name of configs/model is accepted "
            f"({', '.join(group_options('model'))}), a folder, or a hub id of the form owner/name"
            f"{suggest(name, group_options('model'))}"
        )
    try:
        config, _ = PretrainedConfig.get_config_dict(name, revision=revision or "main")
    except UNREADABLE as error:
        raise ModelError(
            f"the model {name!r} gives no config.json that can be read: {reason(error)} Give a "
            f"name of configs/model ({', '.join(group_options('model'))}), a folder, or a hub id."
        ) from error
    kind = config.get("model_type")
    family = next((n for n, family in FAMILIES.items() if family.model_type == kind), "auto")
    given = {"path": name, "name": Path(name).name, "family": family}
    return ["model=auto", *(f"model.{key}={quoted(value)}" for key, value in given.items())]
