"""A safetensors file is judged by its header, in words that name it and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from errors import ModelError
from models.tensor_file import TensorFile

TENSORS = {"keys": torch.arange(6.0).view(2, 3), "count": torch.tensor(2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "keys.safetensors", {"model": "abc"})
    return tmp_path / "keys.safetensors"


def opened(path: Path) -> TensorFile:
    return TensorFile.of(path, name=f"option={path}", remedy="Make it again.")


def test_tensors_come_back_all_or_some(path: Path) -> None:
    file = opened(path)
    assert file.facts == {"model": "abc"}
    assert file.shapes == {"keys": (2, 3), "count": ()}
    assert file.types == {"keys": "F32", "count": "I64"}
    every = file.read()
    assert every.keys() == TENSORS.keys()
    assert all(torch.equal(tensor, TENSORS[name]) for name, tensor in every.items())
    assert file.read(["count"]).keys() == {"count"}


def test_the_header_of_a_file_fits_what_is_expected(path: Path) -> None:
    file = opened(path)
    file.check_facts(model="abc")
    file.check_shapes({"keys": (None, 3), "count": ()})


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda f: f.check_facts(model="d"), "was made for the model abc instead of d"),
        (lambda f: f.check_facts(model="abc", layer="2"), r"the layer \(not said\) instead of 2"),
        (lambda f: f.check_shapes({"values": (2,)}), "has no values; it has count, keys"),
        (lambda f: f.check_shapes({"keys": (2, 4)}), r"keys of shape \(2, 3\), and \(2, 4\) is"),
        (lambda f: f.check_shapes({"keys": (None,)}), r"and \(any,\) is expected"),
        (lambda f: f.read(["values"]), "cannot be read"),
    ],
)
def test_another_content_is_refused_with_what_to_do(
    path: Path, check: Callable[[TensorFile], object], message: str
) -> None:
    with pytest.raises(ModelError, match=rf"option=.*keys\.safetensors .*{message}.*Make it again"):
        check(opened(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "damaged or incomplete"),
        (b"nothing", "damaged or incomplete"),
        (slice(-1), "damaged or incomplete"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    path: Path, content: bytes | slice | None, message: str
) -> None:
    whole = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(whole[content] if isinstance(content, slice) else content)
    with pytest.raises(ModelError, match=rf"option=.*cannot be read.*{message}\. Make it again"):
        opened(path)


def test_a_file_that_goes_before_it_is_loaded_is_named(path: Path) -> None:
    file = opened(path)
    path.unlink()
    with pytest.raises(ModelError, match=r"there is no such file\. Make it again"):
        file.read()
