"""Which Vicuna MiniGPT-4 is converted with, and its tokenizer."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from errors import ModelError
from models.minigpt4.tokenizer import check_saved, read_tokenizer
from models.minigpt4.vicuna import check_vicuna, load_vicuna, version_of
from tests.minigpt4_cases import Originals, convert, vicuna
from tests.tokenizers_small import TEXT, llama_tokenizer

ORIGINALS = Originals(Path(__file__).parents[2] / "golden" / "minigpt4")
WIDTH = ORIGINALS.dims["llama"]
V0, V11, V15 = (32001, 1e-6), (32000, 1e-6), (32000, 1e-5)
DELTA = 0.01


def of_version(folder: Path, signs: tuple[int, float]) -> Path:
    return vicuna(folder, 8, vocab_size=signs[0], rms_norm_eps=signs[1])


def change_json(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | values))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# Versions


@pytest.mark.parametrize(
    ("signs", "found"), [(V0, "v0"), (V11, "v1.1"), (V15, "v1.5"), ((32000, 1e-4), None)]
)
def test_versions_by_their_signs(signs: tuple[int, float], found: str | None) -> None:
    config = LlamaConfig(vocab_size=signs[0], rms_norm_eps=signs[1])
    assert version_of(config) == found


@pytest.mark.parametrize(
    ("signs", "wanted", "guess"),
    [
        (V11, "v0", "v1.1"), (V15, "v0", "v1.5"), (V0, "v1.5", "v0"), (V15, "v1.1", "v1.5"),
        ((32002, 1e-6), "v0", "any"),
    ],
)  # fmt: skip
def test_another_version(tmp_path: Path, signs: tuple[int, float], wanted: Any, guess: Any) -> None:
    folder = of_version(tmp_path / "vicuna", signs)
    with pytest.raises(ModelError) as caught:
        check_vicuna(folder, wanted)
    message = str(caught.value)
    assert f"vocab_size {signs[0]}, rms_norm_eps {signs[1]:g}" in message
    assert f"wanted is {wanted}" in message
    assert f"pass --vicuna-version {guess}." in message
    assert check_vicuna(folder, guess).vocab_size == signs[0]


def test_v0_is_wanted_by_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = vicuna(tmp_path / "small", WIDTH)
    assert convert(ORIGINALS, small, tmp_path / "model") == 2
    assert "looks like no Vicuna version known here" in capsys.readouterr().err
    right = vicuna(tmp_path / "v0", WIDTH, vocab_size=V0[0], rms_norm_eps=V0[1])
    assert convert(ORIGINALS, right, tmp_path / "model") == 0
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["vicuna_version"] == "v0"


# Weights


@pytest.mark.parametrize("safetensors", [True, False])
def test_delta_weights(tmp_path: Path, safetensors: bool) -> None:
    folder = vicuna(tmp_path / "delta", WIDTH, safetensors=safetensors)
    file = folder / ("model.safetensors" if safetensors else "pytorch_model.bin")
    tensors = load_file(file) if safetensors else torch.load(file, weights_only=True)
    tensors = {name: DELTA * tensor for name, tensor in tensors.items()}
    if safetensors:
        save_file(tensors, file, metadata={"format": "pt"})
    else:
        torch.save(tensors, file)
    with pytest.raises(ModelError, match=r"delta weights.*fastchat\.model\.apply_delta"):
        check_vicuna(folder, "any")


def test_small_early_norms_are_no_delta(tmp_path: Path) -> None:
    folder = vicuna(tmp_path / "llama", WIDTH)
    rewrite(folder, lambda t: t["model.layers.0.input_layernorm.weight"].mul_(DELTA))
    assert check_vicuna(folder, "any").hidden_size == WIDTH


def test_rows_of_the_embedding(tmp_path: Path) -> None:
    folder = vicuna(tmp_path / "llama", WIDTH)
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    change_json(folder / "config.json", vocab_size=rows + 1)
    with pytest.raises(ModelError, match=f"vocab_size {rows + 1}, and the embedding .* {rows}"):
        check_vicuna(folder, "any")


@pytest.mark.parametrize("safetensors", [True, False])
def test_damaged_weights(tmp_path: Path, safetensors: bool) -> None:
    folder = vicuna(tmp_path / "llama", WIDTH, safetensors=safetensors)
    file = folder / ("model.safetensors" if safetensors else "pytorch_model.bin")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        ModelError, match=rf"{file} \(\d+ bytes\).* is damaged or incomplete.*Fetch it again"
    ):
        check_vicuna(folder, "any")
    file.unlink()
    with pytest.raises(ModelError, match="has no weights"):
        check_vicuna(folder, "any")


def test_several_files(tmp_path: Path) -> None:
    whole = vicuna(tmp_path / "whole", WIDTH)
    split = tmp_path / "split"
    LlamaForCausalLM.from_pretrained(whole).save_pretrained(split, max_shard_size="40KB")
    shards = sorted(split.glob("model-*.safetensors"))
    assert len(shards) > 1
    check_vicuna(split, "any")
    shards[-1].unlink()
    with pytest.raises(ModelError, match=f"lacks {shards[-1].name}"):
        check_vicuna(split, "any")


def test_incomplete_weights(tmp_path: Path) -> None:
    folder = vicuna(tmp_path / "llama", WIDTH)
    rewrite(folder, lambda t: t.pop("model.layers.1.mlp.up_proj.weight"))
    check_vicuna(folder, "any")
    with pytest.raises(ModelError, match=r"1 missing keys, as .*layers\.1\.mlp\.up_proj"):
        load_vicuna(folder, torch.float32)
    rewrite(folder, lambda t: t.update({"model.layers.0.adapter": torch.ones(1)}))
    with pytest.raises(ModelError, match=r"1 missing keys.*1 unexpected keys"):
        load_vicuna(folder, torch.float32)
    rewrite(folder, lambda t: t.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"have no model\.norm\.weight"):
        check_vicuna(folder, "any")


def test_early_bin_files(tmp_path: Path) -> None:
    new, old = (vicuna(tmp_path / str(n), WIDTH, safetensors=n > 0) for n in (1, 0))
    check_vicuna(old, "any")
    ours, theirs = (load_vicuna(f, torch.float32).state_dict() for f in (old, new))
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_no_llama(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        check_vicuna(tmp_path, "any")
    change_json(tmp_path / "config.json", model_type="opt")
    with pytest.raises(ModelError, match="a model of type 'opt'"):
        check_vicuna(tmp_path, "any")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        check_vicuna(tmp_path, "any")


# Tokenizers


def test_no_bos(tmp_path: Path) -> None:
    llama_tokenizer().save_pretrained(tmp_path)
    for name in ("bos", "eos"):
        tokens = {f"{n}_token": t for n, t in (("bos", "<s>"), ("eos", "</s>")) if n != name}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokens))
        with pytest.raises(ModelError, match=f"has no {name}_token"):
            read_tokenizer(tmp_path, 420)


def test_blank_special_tokens(tmp_path: Path) -> None:
    """As early conversions of LLaMA wrote them."""
    llama_tokenizer().save_pretrained(tmp_path)
    blank = {"bos_token": "", "eos_token": "", "unk_token": ""}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(blank))
    with pytest.raises(ModelError, match="wrote blank special tokens"):
        read_tokenizer(tmp_path, 420)


def test_more_tokens_than_rows(tmp_path: Path) -> None:
    tokenizer = llama_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    assert len(read_tokenizer(tmp_path, len(tokenizer))) == len(tokenizer)
    with pytest.raises(ModelError, match=f"has {len(tokenizer)} tokens"):
        read_tokenizer(tmp_path, len(tokenizer) - 1)


def test_bos_is_not_put_in_front(tmp_path: Path) -> None:
    tokenizer = llama_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="first, not its BOS '<s>'"):
        read_tokenizer(tmp_path, 420)


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        read_tokenizer(tmp_path, 420)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        read_tokenizer(tmp_path, 420)


@pytest.mark.parametrize("options", [None, {"tokenizer_class": "LlamaTokenizer", "legacy": False}])
def test_tokenizer_json_is_followed(tmp_path: Path, options: dict[str, Any] | None) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    llama_tokenizer().save_pretrained(source)
    if options:
        change_json(source / "tokenizer_config.json", **options)
    read_tokenizer(source, 420).save_pretrained(saved)
    check_saved(saved, source)
    reloaded = AutoTokenizer.from_pretrained(saved)
    assert isinstance(reloaded, PreTrainedTokenizerFast)
    for text in (" dog", "</s>dog", "Who founded it?"):
        assert reloaded(text)["input_ids"] == llama_tokenizer()(text)["input_ids"]


@pytest.fixture(scope="module")
def pieces() -> bytes:
    """A tokenizer.model like Llama's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 5), model_writer=model, vocab_size=340, model_type="bpe",
        byte_fallback=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        hard_vocab_limit=False,
    )  # fmt: skip
    return model.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"tokenizer_class": "LLaMATokenizer"}, {"add_bos_token": True, "legacy": False}],
)
def test_sentencepiece_alone(tmp_path: Path, pieces: bytes, options: dict[str, Any]) -> None:
    """The early form: tokenizer.model, an added pad token, and BOS although no file says so."""
    source, saved = tmp_path / "source", tmp_path / "saved"
    source.mkdir()
    (source / "tokenizer.model").write_bytes(pieces)
    LlamaConfig(vocab_size=400).save_pretrained(source)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    size = theirs.get_piece_size()
    change_json(source / "tokenizer_config.json", **options)
    change_json(source / "added_tokens.json", **{"[PAD]": size})
    read_tokenizer(source, 400).save_pretrained(saved)
    check_saved(saved, source)
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert tokenizer.is_fast
    assert tokenizer.backend_tokenizer.pre_tokenizer is None  # as in Llama's own tokenizer.json
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert tokenizer.convert_tokens_to_ids("[PAD]") == size
    for text in (*TEXT, " dog", "two  spaces", "Zürich"):
        assert tokenizer(text)["input_ids"] == [1, *theirs.encode(text)]
    # Text after a special token has its own leading space, as in transformers 4.
    assert tokenizer("</s>dog")["input_ids"] == [1, 2, *theirs.encode("dog")]


def test_a_changed_tokenizer_is_seen(tmp_path: Path, pieces: bytes) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tokenizer.model").write_bytes(pieces)
    llama_tokenizer().save_pretrained(tmp_path / "saved")
    with pytest.raises(ModelError, match="changes when it is saved"):
        check_saved(tmp_path / "saved", tmp_path / "source")


def test_early_ids_are_corrected(tmp_path: Path) -> None:
    """Early Vicunas name tokens 0, 1 and -1 in config.json."""
    folder = vicuna(tmp_path / "llama", WIDTH)
    change_json(folder / "config.json", bos_token_id=0, eos_token_id=1, pad_token_id=-1)
    words = ("--vicuna-version", "any")
    assert convert(ORIGINALS, folder, tmp_path / "model", *words) == 0
    text = json.loads((tmp_path / "model" / "config.json").read_text())["text_config"]
    tokenizer = llama_tokenizer()
    assert [text[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [
        tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ]  # fmt: skip
