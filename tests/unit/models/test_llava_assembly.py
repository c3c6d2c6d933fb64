"""A LLaVA around a local language model: it says in text what that says, and is edited as any."""

from __future__ import annotations

import copy
import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import LlavaProcessor, PreTrainedModel, SiglipVisionConfig

from errors import ConfigError, ModelError
from models import building
from models.__main__ import main
from models.building import build
from models.editable import EditableModel
from models.fingerprint import fingerprint
from models.language_model import LanguageSource, open_language_model
from models.llava_assembly import IMAGE, Assembled, assemble, save_assembled
from models.loading import load_model
from models.parts_folder import Adapter, Parts, merge, write_parts
from models.processor import Processor, load_processor
from models.rows import EditBatch, Rows
from tests.builders import padded_rows
from tests.editors import fine_tune
from tests.local_models import (
    LAYERS,
    PATCH,
    SIDE,
    chat_tokenizer,
    language_model,
    random_adapter,
    random_parts,
    random_projector,
    random_tower,
    round_to_half,
    save_language,
    vision_config,
    write_gguf,
)

SLOTS = (SIDE // PATCH) ** 2
# OPT's layers have no MLP of their own, which model=auto looks for.
OPENED = [(kind, "llava") for kind in ("llama", "qwen2", "gemma3_text", "opt", "gguf")]
OPENED += [(kind, "auto") for kind in ("llama", "qwen2", "gemma3_text", "gguf")]
EXACT = {"atol": 5e-6, "rtol": 5e-5}
Build = Callable[[str], tuple[Path, PreTrainedModel]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A folder around a language model of a kind, and that language model, adapter merged."""
    made: dict[str, tuple[Path, PreTrainedModel]] = {}

    def of(kind: str) -> tuple[Path, PreTrainedModel]:
        if kind not in made:
            base = tmp_path_factory.mktemp(kind)
            if kind == "gguf":
                language = language_model("llama").eval()
                write_gguf(base / "language.gguf", language, chat_tokenizer())
                place = base / "language.gguf"
            else:
                place = base / "language"
                language = save_language(kind, place)
            write_parts(base / "parts", random_parts(language, recipe="drawn"))
            build(base / "out", parts=base / "parts", alignment="naming", language_model=place)
            merge(language, random_adapter(language))
            round_to_half(language)
            made[kind] = base / "out", language
        return made[kind]

    return of


def opened(folder: Path, family: str) -> tuple[EditableModel, Processor]:
    return load_model(family, str(folder), dtype="float32"), load_processor(family, str(folder))


def picture(number: int) -> Image.Image:
    draw = np.random.default_rng(number)
    return Image.fromarray(draw.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8))


def rows_for(processor: Processor, padding: str = "right") -> Rows:
    """Three of text and three with pictures, each with an answer of one or two tokens."""
    draw, shown = np.random.default_rng(0), (None, 7, None, 8, 7, None)
    texts = [[0, *draw.integers(3, 300, 6 + 2 * n).tolist()] for n in range(len(shown))]
    slots = [processor.image_token_id] * SLOTS
    ids = [
        row if seen is None else [0, *slots, *row[1:]]
        for row, seen in zip(texts, shown, strict=True)
    ]
    return padded_rows(
        ids,
        answers=[1 + n % 2 for n in range(len(shown))],
        edits=[n % 2 for n in range(len(shown))],
        pictures=shown,
        pixels=lambda number: processor.pixels(picture(number)),
        slot=processor.image_token_id,
        padding=padding,
        extra=1,
    )  # fmt: skip


@torch.no_grad()
def plain(model: EditableModel, rows: Rows) -> Tensor:
    """Transformers' own forward pass."""
    assert rows.pixel_values is not None
    shown = rows.image_index[rows.image_index >= 0]
    return model.hf(
        input_ids=rows.input_ids, attention_mask=rows.attention_mask.long(),
        pixel_values=rows.pixel_values[shown].reshape(-1, 3, SIDE, SIDE),
        vision_feature_layer=-1,
    ).logits  # fmt: skip


@pytest.mark.parametrize(("kind", "family"), OPENED)
@torch.no_grad()
def test_in_text_it_is_the_language_model(built: Build, kind: str, family: str) -> None:
    folder, language = built(kind)
    model, processor = opened(folder, family)
    ids = processor.tokenizer("Question: Who founded it? Short answer:", return_tensors="pt")
    found, expected = model.hf(**ids).logits, language(**ids).logits
    assert torch.equal(found[..., : expected.shape[-1]], expected)
    assert ids.input_ids[0, 0] == processor.tokenizer.bos_token_id == 0
    mean = language.get_input_embeddings().weight.mean(0)
    row = model.hf.get_input_embeddings().weight[processor.image_token_id]
    torch.testing.assert_close(row, mean.half().float(), atol=1e-3, rtol=0)
    assert processor.tokenizer.convert_ids_to_tokens(processor.image_token_id) == IMAGE
    assert processor.image_slots == SLOTS
    assert processor.max_positions == 128


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(("kind", "family"), OPENED)
def test_every_layer_goes_on_from_the_one_below(
    built: Build, kind: str, family: str, padding: str
) -> None:
    model, processor = opened(built(kind)[0], family)
    rows = rows_for(processor, padding)
    expected, real = plain(model, rows), rows.attention_mask
    for layer in range(LAYERS):
        found = model.suffix(model.prefix(rows, layer))
        torch.testing.assert_close(found[real], expected[real], **EXACT)


@pytest.mark.parametrize(("kind", "family"), OPENED)
def test_it_is_edited_by_the_projects_engine(built: Build, kind: str, family: str) -> None:
    model, processor = opened(built(kind)[0], family)
    rows = rows_for(processor)
    chosen, before = torch.tensor([0, 1]), fingerprint(model.hf)
    batch = EditBatch(rows, chosen, {"reliability": chosen}, (0, 1), ("a", "b"))
    editor = fine_tune(layers=2, steps=60, lr=0.02, stop_loss=None)
    state, at = model.prefix(rows, editor.first_layer(model)), rows.answers()
    answers = editor.edit(model, batch, state).answer(model, rows, state, at)
    asked = torch.isin(at.row, chosen)
    assert (answers.argmax(-1) == at.target)[asked].all()
    assert not (model.suffix(state, at=at).argmax(-1) == at.target)[asked].all()
    assert fingerprint(model.hf) == before


def test_the_folder_is_whole(built: Build) -> None:
    folder, _ = built("llama")
    processor = LlavaProcessor.from_pretrained(folder)
    assert (processor.patch_size, processor.num_additional_image_tokens) == (PATCH, 1)
    assert processor.vision_feature_select_strategy == "default"
    said = json.loads((folder / "config.json").read_text())
    assert (said["dtype"], said["tie_word_embeddings"]) == ("float16", True)
    assert "quantization_config" not in json.dumps(said)
    ends = json.loads((folder / "generation_config.json").read_text())
    assert (ends["bos_token_id"], ends["eos_token_id"]) == (0, 2)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["recipe"] == "drawn"
    assert manifest["alignment"] == "naming"
    assert {path.name for path in folder.iterdir()} == {*manifest["sha256"], "manifest.json"}


def test_opt_has_a_head_of_its_own(built: Build) -> None:
    said = json.loads((built("opt")[0] / "config.json").read_text())
    assert not said["tie_word_embeddings"]


def test_two_buildings_are_equal(built: Build, tmp_path: Path) -> None:
    folder, _ = built("gguf")
    base = folder.parent
    again = tmp_path / "again"
    build(again, parts=base / "parts", alignment="naming", language_model=base / "language.gguf")
    assert (again / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_a_vocabulary_with_unused_rows_keeps_its_size(tmp_path: Path) -> None:
    words = len(chat_tokenizer())
    language_model("llama", vocabulary=words + 5).save_pretrained(tmp_path)
    chat_tokenizer().save_pretrained(tmp_path)
    whole = assemble(open_language_model(tmp_path), random_tower(), random_projector())
    table = whole.model.get_input_embeddings().weight
    assert (len(table), whole.model.config.image_token_index) == (words + 5, words)
    torch.testing.assert_close(table[words], table[:words].mean(0))


def test_a_tower_without_a_class_token(tmp_path: Path) -> None:
    sizes = {"image_size": SIDE, "patch_size": PATCH, "hidden_size": 16, "intermediate_size": 24}
    config = SiglipVisionConfig(**sizes, num_hidden_layers=1, num_attention_heads=2)
    save_language("llama", tmp_path / "language")
    language = open_language_model(tmp_path / "language")
    save_assembled(
        tmp_path / "out", assemble(language, random_tower(config), random_projector()), {}
    )
    for family in ("llava", "auto"):
        model, processor = opened(tmp_path / "out", family)
        assert processor.image_slots == SLOTS
        rows = rows_for(processor)
        expected, real = plain(model, rows), rows.attention_mask
        torch.testing.assert_close(
            model.suffix(model.prefix(rows, 0))[real], expected[real], **EXACT
        )


def test_parts_of_another_width_are_refused_by_name(tmp_path: Path) -> None:
    save_language("llama", tmp_path)
    language = open_language_model(tmp_path)
    with pytest.raises(ModelError, match=r"do not fit .*linear_1.weight"):
        assemble(language, random_tower(), random_projector(24))
    with pytest.raises(ModelError, match=r"missing: .*multi_modal_projector\.linear_2"):
        assemble(language, random_tower(), {"linear_1.weight": torch.zeros(32, 16)})
    odd = vision_config(model_type="nonsense").to_dict() | {"model_type": "nonsense"}
    tower = random_tower()
    with pytest.raises(ModelError, match=r"configuration \(nonsense\) cannot be read"):
        assemble(language, type(tower)(odd, tower.state, tower.images), random_projector())


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """The words that name a language model and parts."""
    language = save_language("llama", tmp_path / "language")
    write_parts(tmp_path / "parts", random_parts(language, language_model={"sha256": "0" * 64}))
    return ["--language-model", str(tmp_path / "language"), "--parts", str(tmp_path / "parts")]


def test_the_command(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    output = tmp_path / "out"
    assert main(["smollm", "--output", str(output), "--alignment", "embedding", *sources]) == 0
    told = capsys.readouterr()
    assert f"wrote {output}" in told.out
    assert "bytes of disk" in told.err
    assert "were trained with" in caplog.text  # another file than the manifest names
    assert json.loads((output / "manifest.json").read_text())["alignment"] == "embedding"
    load_model("llava", str(output))
    before = fingerprint(load_model("llava", str(output)).hf)
    assert main(["smollm", "--output", str(output), *sources]) == 2
    assert "already holds a model" in capsys.readouterr().err
    assert fingerprint(load_model("llava", str(output)).hf) == before
    assert main(["smollm", "--output", str(output), "--overwrite", *sources]) == 0
    assert fingerprint(load_model("llava", str(output)).hf) != before  # of the other projector


def test_a_folder_that_is_not_ours_stays(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.tex").write_text("all of it")
    for more in ([], ["--overwrite"]):
        assert main(["smollm", "--output", str(output), *more, *sources]) == 2
        assert "holds no model that was built here" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["thesis.tex"]
    assert main(["smollm", "--output", str(output / "thesis.tex"), *sources]) == 2
    assert "is a file" in capsys.readouterr().err


Usage = namedtuple("Usage", "total used free")


def test_too_small_a_disk_is_told_before_weights(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(building.shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**6))
    monkeypatch.setattr(LanguageSource, "open", lambda _: pytest.fail("weights were read"))
    assert main(["smollm", "--output", str(tmp_path / "out"), *sources]) == 2
    told = capsys.readouterr().err
    assert "bytes of disk" in told
    assert "has 1,000,000 free" in told
    assert not (tmp_path / "out").exists()


def test_parts_of_another_language_model_are_told_before_weights(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(LanguageSource, "open", lambda _: pytest.fail("weights were read"))
    wide = random_adapter(language_model("llama"))
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    tensors = {**wide.tensors, name: torch.zeros(7, 4)}
    for parts, told in (
        (Parts(random_tower(), {"naming": random_projector(24)}), "linear_2 is (24, 24)"),
        (
            Parts(random_tower(), {"naming": random_projector()}, Adapter(tensors, 8)),
            "model.layers.1.mlp.up_proj is (7, 32)",
        ),
    ):
        write_parts(tmp_path / "parts", parts, overwrite=True)
        assert main(["smollm", "--output", str(tmp_path / "out"), *sources]) == 2
        assert told in " ".join(capsys.readouterr().err.split())


def test_a_weight_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    save_language("llama", tmp_path / "language")
    whole = assemble(open_language_model(tmp_path / "language"), random_tower(), random_projector())
    model = copy.deepcopy(whole.model)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_1.bias[0] = 1e6
    with pytest.raises(ModelError, match=r"linear_1\.bias is not finite"):
        save_assembled(tmp_path / "out", Assembled(model, whole.processor), {})
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        save_assembled(tmp_path / "file", whole, {})


def test_parts_without_an_adapter_leave_the_language_model(tmp_path: Path) -> None:
    language = save_language("llama", tmp_path / "language")
    write_parts(tmp_path / "parts", Parts(random_tower(), {"naming": random_projector()}))
    build(
        tmp_path / "out", parts=tmp_path / "parts", alignment="naming",
        language_model=tmp_path / "language",
    )  # fmt: skip
    model, _ = opened(tmp_path / "out", "llava")
    weights = dict(model.hf.model.language_model.named_parameters())
    for name, weight in language.model.named_parameters():
        assert torch.equal(weights[name][: len(weight)], weight)
