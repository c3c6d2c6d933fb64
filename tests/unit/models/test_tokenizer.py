"""Tokenizers follow their tokenizer.json, whether a folder holds it or the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
from transformers import AutoTokenizer, LlamaConfig

from models.tokenizer import load_tokenizer
from tests.tokenizers_small import llama_tokenizer

REVISION = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ("Who founded it?", " blank in front", "  two", "line\nline", "ASSISTANT: it")


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Llama's tokenizer as `hf download some/llama` leaves it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--some--llama"
    folder = repository / "snapshots" / REVISION
    llama_tokenizer().save_pretrained(folder)
    LlamaConfig().save_pretrained(folder)
    settings = folder / "tokenizer_config.json"
    content = json.loads(settings.read_text()) | {"tokenizer_class": "LlamaTokenizer"}
    settings.write_text(json.dumps(content))
    file = folder / "tokenizer.json"  # which also says what no Llama's pre-tokeniser does
    words = json.loads(file.read_text())
    digits = {"type": "Digits", "individual_digits": True}
    words["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits]}
    file.write_text(json.dumps(words))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    return folder


@pytest.mark.parametrize("revision", [None, REVISION])
def test_a_llama_of_the_hub_reads_as_its_folder_does(snapshot: Path, revision: str | None) -> None:
    of_hub = load_tokenizer("some/llama", revision, LlamaConfig())
    of_folder = load_tokenizer(str(snapshot), None, LlamaConfig())
    rebuilt = AutoTokenizer.from_pretrained(snapshot)
    differing = 0
    for text in TEXTS:
        expected = of_folder(text)["input_ids"]
        assert of_hub(text)["input_ids"] == expected
        differing += rebuilt(text)["input_ids"] != expected
    assert differing, "else the test could not fail"


def test_a_repository_that_is_not_there_is_an_error_of_transformers(snapshot: Path) -> None:
    with pytest.raises(OSError, match="couldn't find them in the cached files"):
        load_tokenizer("some/other", None, LlamaConfig())
