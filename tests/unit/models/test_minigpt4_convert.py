"""What the conversion of MiniGPT-4 refuses, by name, and what its folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from models.folder import check_manifest
from models.minigpt4 import MiniGPT4ForConditionalGeneration
from models.minigpt4 import convert as conversion
from tests.minigpt4_cases import Originals, convert, vicuna

ORIGINALS = Originals(Path(__file__).parents[2] / "golden" / "minigpt4")
WIDTH = ORIGINALS.dims["llama"]
ANY = ("--vicuna-version", "any")
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vicuna(tmp_path_factory.mktemp("llama") / "vicuna", WIDTH)


@pytest.fixture
def refused(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a conversion that has to fail before Vicuna loads, with no trace; gives the message."""

    def loaded(*_args: object) -> None:
        raise AssertionError("Vicuna was loaded")

    def run(*words: str, vicuna: Path = llama, **files: Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(conversion, "load_vicuna", loaded)
        code = convert(ORIGINALS, vicuna, tmp_path / "model", *(words or ANY), **files)
        printed = capsys.readouterr().err
        assert (code, printed.count("error: ")) == (2, 1), printed
        assert sorted(tmp_path.rglob("*")) == before
        return printed[printed.index("error: ") :]

    return run


def changed(kind: str, folder: Path, change: Change) -> Path:
    """A copy of an original with other tensors."""
    path = folder / ORIGINALS.files[kind].name
    content = torch.load(ORIGINALS.files[kind], weights_only=True)
    change(content.get("model", content))
    torch.save(content, path)
    return path


# Files


@pytest.mark.parametrize(
    ("place", "given"),
    [(a, b) for a in ORIGINALS.files for b in ORIGINALS.files if a != b],
)
def test_a_file_in_the_wrong_place(refused: Callable[..., str], place: str, given: str) -> None:
    file = ORIGINALS.files[given]
    message = refused(**{place: file})
    assert f"--{place} {file} has no" in message
    assert f"which belongs to --{given}" in message


def test_a_file_of_something_else(refused: Callable[..., str], tmp_path: Path) -> None:
    weights = vicuna(tmp_path / "bin", WIDTH, safetensors=False) / "pytorch_model.bin"
    assert "it looks like the weights of a Llama, which belongs to --vicuna" in refused(vit=weights)
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "x.pth")
    assert "none of MiniGPT-4's files (it has layer.weight)" in refused(vit=tmp_path / "x.pth")
    torch.save(torch.ones(2), tmp_path / "t.pth")
    assert "t.pth holds a Tensor; expected are named tensors" in refused(vit=tmp_path / "t.pth")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("vit", "blocks.1.attn.v_bias"), ("vit", "pos_embed"),
        ("qformer", "ln_vision.bias"), ("qformer", "Qformer.bert.embeddings.LayerNorm.weight"),
        ("qformer", "Qformer.bert.encoder.layer.1.output_query.dense.bias"),
        ("projection", "llama_proj.bias"),
    ],
)  # fmt: skip
def test_a_missing_key(refused: Callable[..., str], tmp_path: Path, kind: str, key: str) -> None:
    file = changed(kind, tmp_path, lambda tensors: tensors.pop(key))
    message = refused(**{kind: file})
    assert f"the tensors of {file} are not those expected; missing: {key}." in message


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("vit", "blocks.0.gamma_"), ("qformer", "t5_model.layer."),
        ("qformer", "Qformer.bert.encoder.layer.1.adapter."),
    ],
)  # fmt: skip
def test_unknown_keys_are_counted(
    refused: Callable[..., str], tmp_path: Path, kind: str, prefix: str
) -> None:
    extra = {f"{prefix}{number}": torch.ones(1) for number in range(9)}
    message = refused(**{kind: changed(kind, tmp_path, lambda tensors: tensors.update(extra))})
    assert f"unknown: {prefix}0, {prefix}1" in message
    assert "and 4 more" in message


def test_both_kinds_are_told_together(refused: Callable[..., str], tmp_path: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        tensors["cls_tokens"] = tensors.pop("cls_token")

    message = refused(vit=changed("vit", tmp_path, rename))
    assert "missing: cls_token; unknown: cls_tokens." in message


class Harmful:
    """Runs code when it is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.trace,)


class Options:
    """What a training may have saved beside its weights."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "inside"])
def test_an_object_in_the_pickle(
    refused: Callable[..., str], tmp_path: Path, place: str, zipped: bool
) -> None:
    content = torch.load(ORIGINALS.files["projection"], weights_only=True)
    (content if place == "beside" else content["model"])["config"] = Options()
    file, trace = tmp_path / "objects.pth", tmp_path / "trace"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    message = refused(projection=file)
    assert f"{file} holds an object of {Options.__module__}" in message.replace("\n", "")
    content["config"] = Harmful(trace)
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert f"{file} holds an object of" in refused(projection=file)
    assert not trace.exists()


def test_a_value_that_is_no_tensor(refused: Callable[..., str], tmp_path: Path) -> None:
    file = changed("vit", tmp_path, lambda tensors: tensors.update(depth=40))
    assert f"{file} holds values that are no tensors: depth." in refused(vit=file)


@pytest.mark.parametrize("kind", ORIGINALS.files)
def test_a_truncated_file(refused: Callable[..., str], tmp_path: Path, kind: str) -> None:
    content = ORIGINALS.files[kind].read_bytes()
    file = tmp_path / "half.pth"
    for kept in (len(content) // 2, len(content) - 1, 0):
        file.write_bytes(content[:kept])
        assert f"{file} is damaged, incomplete or no torch file ({kept} bytes" in refused(
            **{kind: file}
        )
    file.write_text("<html>404</html>")
    assert f"{file} is damaged, incomplete or no torch file" in refused(**{kind: file})
    assert "none.pth is no file" in refused(**{kind: tmp_path / "none.pth"})


def test_depth_and_heads(refused: Callable[..., str]) -> None:
    blocks = ORIGINALS.dims["vdepth"] + 1
    assert f"has {blocks} ViT blocks, and --vit-depth asks for 39" in refused(
        *ANY, "--vit-depth", "39"
    )
    assert "--vit-heads 7 does not divide the width" in refused(*ANY, "--vit-heads", "7")
    assert "--qformer-heads 7 does not divide the width" in refused(*ANY, "--qformer-heads", "7")
    assert "--vit-depth asks for 0" in refused(*ANY, "--vit-depth", "0")


def test_what_training_saves_is_tolerated(
    tmp_path: Path, llama: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The Q-Former's file without its text half, the ViT's with its head, a fuller projection."""

    def shorten(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if ".intermediate." in name or ".cls." in name or "word_embeddings" in name:
                del tensors[name]

    head = {"norm.weight": torch.ones(1), "head.bias": torch.ones(1)}
    files = {
        "vit": changed("vit", tmp_path, lambda tensors: tensors.update(head)),
        "qformer": changed("qformer", tmp_path, shorten),
        "projection": changed(
            "projection", tmp_path, lambda tensors: tensors.update(query_tokens=torch.ones(1))
        ),
    }
    plain, other = tmp_path / "plain", tmp_path / "other"
    with caplog.at_level("INFO", logger="models.minigpt4"):
        assert convert(ORIGINALS, llama, other, *ANY, **files) == 0
    assert f"{files['projection'].name}: 1 tensors are not used, as query_tokens" in caplog.text
    assert convert(ORIGINALS, llama, plain, *ANY) == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (plain, other)]
    assert weights[0] == weights[1]


# Widths


def test_widths_that_do_not_fit(refused: Callable[..., str], tmp_path: Path) -> None:
    wide = vicuna(tmp_path / "wide", WIDTH + 8)
    message = refused(vicuna=wide)
    assert f"gives features of width {WIDTH}, and {wide} takes {WIDTH + 8}" in message
    narrow = changed(
        "projection", tmp_path,
        lambda t: t.update({"llama_proj.weight": t["llama_proj.weight"][:, :-1].clone()}),
    )  # fmt: skip
    width = ORIGINALS.dims["qdim"]
    assert f"of width {width}, and {narrow} takes {width - 1}" in refused(projection=narrow)

    def other_vit(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if ".crossattention.self.key.weight" in name:
                tensors[name] = tensors[name][:, :-1].clone()

    width = ORIGINALS.dims["vdim"]
    message = refused(qformer=changed("qformer", tmp_path, other_vit))
    assert f"of width {width}, and {tmp_path}" in message
    assert f"takes {width - 1}" in message


def test_shapes_inside_a_file(
    tmp_path: Path, llama: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def flat(tensors: dict[str, Tensor]) -> None:
        tensors["pos_embed"] = tensors["pos_embed"][0]

    def not_square(tensors: dict[str, Tensor]) -> None:
        tensors["pos_embed"] = tensors["pos_embed"][:, :-1].clone()

    assert "expected are 3 dimensions" in refused(vit=changed("vit", tmp_path, flat))
    message = refused(vit=changed("vit", tmp_path, not_square))
    assert "expected is one more than a square" in message


def test_a_tensor_of_another_shape(
    tmp_path: Path, llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = changed("qformer", tmp_path, lambda t: t.update({"ln_vision.bias": torch.ones(3)}))
    assert convert(ORIGINALS, llama, tmp_path / "model", *ANY, qformer=file) == 2
    printed = capsys.readouterr().err
    assert "do not make one model" in printed
    assert "post_layernorm.bias" in printed
    assert sorted(tmp_path.iterdir()) == [file]


def test_cross_attention_out_of_step(refused: Callable[..., str], tmp_path: Path) -> None:
    def drop_first(tensors: dict[str, Tensor]) -> None:
        for name in [n for n in tensors if "layer.0.crossattention." in n]:
            del tensors[name]

    assert "have cross-attention; expected are layer 0 and every n-th one" in refused(
        qformer=changed("qformer", tmp_path, drop_first)
    )


# The folder


def saved_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_output_is_taken(
    tmp_path: Path, llama: Path, capsys: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    output = tmp_path / "model"
    output.mkdir()
    assert convert(ORIGINALS, llama, output, *ANY) == 0  # an empty folder is free
    before = (output / "manifest.json").read_text()
    capsys.readouterr()
    assert f"--output {output} is not empty" in refused()
    assert (output / "manifest.json").read_text() == before
    assert "model.safetensors" in saved_names(output)


def test_overwrite(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "model"
    assert convert(ORIGINALS, llama, output, *ANY) == 0
    (output / "old").touch()
    with monkeypatch.context() as patch:  # an accident while writing leaves what was there
        patch.setattr(conversion, "check_saved", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert(ORIGINALS, llama, output, *ANY, "--overwrite")
    assert "old" in saved_names(output)
    assert saved_names(tmp_path) == {"model"}
    assert convert(ORIGINALS, llama, output, *ANY, "--overwrite", "--dtype", "bfloat16") == 0
    assert "old" not in saved_names(output)
    assert saved_names(tmp_path) == {"model"}


def test_overwrite_spares_other_folders(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").touch()
    assert "holds no conversion of MiniGPT-4" in refused(*ANY, "--overwrite")


def test_sources_are_not_overwritten(refused: Callable[..., str], tmp_path: Path) -> None:
    inside = vicuna(tmp_path / "model" / "vicuna", WIDTH)
    for model_type in ("other", "minigpt4"):
        (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": model_type}))
        message = refused(*ANY, "--overwrite", vicuna=inside)
        assert f"model holds {inside}, a source" in message


def test_a_file_as_output(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    assert "model is a file" in refused()


def test_what_the_folder_holds(tmp_path: Path, llama: Path) -> None:
    output = tmp_path / "deep" / "model"
    assert convert(ORIGINALS, llama, output, *ANY) == 0
    side = ORIGINALS.dims["img"]
    model, info = MiniGPT4ForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not any(info.values())
    stored = load_file(output / "model.safetensors").values()
    assert {tensor.dtype for tensor in stored} == {torch.float16}  # the default
    assert model.language_model.dtype == torch.float16
    images = BlipImageProcessorPil.from_pretrained(output)
    assert dict(images.size) == {"height": side, "width": side}
    assert (images.resample, images.do_convert_rgb) == (3, True)  # bicubic
    assert images.image_mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert images.image_std == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    check_manifest(output)
    manifest = json.loads((output / "manifest.json").read_text())
    assert set(manifest["sha256"]) == saved_names(output) - {"manifest.json"}
    assert manifest["sources"]["vit"]["file"] == ORIGINALS.files["vit"].name
    assert manifest["sources"]["vit"]["bytes"] == ORIGINALS.files["vit"].stat().st_size
    assert "model.safetensors" in {facts["file"] for facts in manifest["sources"]["vicuna"]}
    assert str(tmp_path) not in json.dumps(manifest)
