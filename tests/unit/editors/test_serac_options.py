"""SERAC's networks from folders and names, and its options."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, PreTrainedModel

from configs.check import load_config
from configs.schema import TrainConfig
from editors.options import BaseFacts
from editors.serac.config import SeracOptions
from editors.serac.published import published_counterfactual, published_encoder
from editors.serac.similarity import log_similarity
from errors import ConfigError, ModelError
from tests.builders import inputs
from tests.serac_cases import (
    TOKENIZER,
    build,
    looked,
    made,
    opt_model,
    options,
    picture_model,
    stirred,
    worded_batch,
)

EDITS = (1, 2, 4)
SMALL = BaseFacts("llama", 330, 3, 16)


def saved(lm: PreTrainedModel, tokenizer: Any, folder: Path) -> str:
    lm.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_small_model_from_a_folder_answers(tmp_path: Path) -> None:
    """The base has ids that the small one lacks, padding among them; they get no probability."""
    small = opt_model(seed=3)
    base = opt_model(vocabulary=len(TOKENIZER) + 5)
    path = saved(small.hf, TOKENIZER, tmp_path)
    editor = build(base, counterfactual={"path": path})
    batch = worded_batch(EDITS)
    ids = batch.rows.input_ids.masked_fill(~batch.rows.attention_mask, len(TOKENIZER) + 1)
    batch = replace(batch, rows=replace(batch.rows, input_ids=ids))
    editor.encoder.pad_id = len(TOKENIZER) + 1
    edit, _ = made(base, editor, batch)
    with torch.no_grad():
        found = edit.counterfactual(batch.rows, batch.rows.answers(), batch.rows.edit_index)
    assert found.shape[1] == len(TOKENIZER) + 5
    assert not found.softmax(-1)[:, len(TOKENIZER) :].any()
    trained = {name for name, value in editor.named_parameters() if value.requires_grad}
    assert any(name.endswith("embed_tokens.weight") for name in trained)


def test_a_model_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    base = opt_model()
    larger = saved(opt_model(vocabulary=len(TOKENIZER) + 1).hf, TOKENIZER, tmp_path / "larger")
    with pytest.raises(ModelError, match=r"it has \d+ token ids, the base \d+"):
        build(base, counterfactual={"path": larger})
    bare = saved(opt_model().hf, None, tmp_path / "bare")
    with pytest.raises(ModelError, match="tokenizer, which might show the contrary, is not there"):
        build(base, counterfactual={"path": bare})
    other = copy.deepcopy(TOKENIZER)
    vocabulary = json.loads(other.backend_tokenizer.to_str())
    ids = vocabulary["model"]["vocab"]
    ids["Q"], ids["R"] = ids["R"], ids["Q"]
    swapped = saved(opt_model().hf, TOKENIZER, tmp_path / "swapped")
    (tmp_path / "swapped" / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ModelError, match=r"token 'Q' has the id \d+ there and \d+ in the base"):
        build(base, counterfactual={"path": swapped})


@pytest.mark.parametrize(
    ("kind", "vocabulary", "expected"),
    [
        ("opt", 50272, "facebook/opt-125m"),
        ("opt", 50304, "facebook/opt-125m"),
        ("llama", 32000, "JackFram/llama-160m"),
        ("llama", 32064, "JackFram/llama-160m"),
        ("llama", 128256, "fresh"),
        ("llama", 330, "fresh"),
        ("gpt2", 50257, "fresh"),
    ],
)
def test_auto_takes_the_published_model(kind: str, vocabulary: int, expected: str) -> None:
    assert published_counterfactual(kind, vocabulary) == expected
    encoder = "fresh" if expected == "fresh" else "distilbert-base-cased"
    assert published_encoder(kind, vocabulary) == encoder


def test_auto_makes_small_networks_for_a_small_base() -> None:
    editor = build(picture_model(), scope={"encoder": "auto"}, counterfactual={"path": "auto"})
    assert editor.untrained == build(picture_model()).untrained
    options(scope={"encoder": "auto"}, counterfactual={"path": "auto"}).check_base(SMALL)


def bert(folder: Path) -> str:
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "where", "is", "who", "?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words), hidden_size=12, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, initializer_range=0.5,
    )  # fmt: skip
    return saved(BertModel(config), BertTokenizerFast(vocab=str(folder / "vocab.txt")), folder)


@pytest.mark.parametrize("mode", ["embedding", "cross_attention"])
def test_an_encoder_from_a_folder(mode: str, tmp_path: Path) -> None:
    model = picture_model()
    changed = {"encoder": bert(tmp_path / "bert"), "mode": mode, "image": mode == "embedding"}
    editor = stirred(model, scope=changed)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    with torch.no_grad():
        found = edit.scope_probabilities(model, batch.rows, state)
    assert ((found > 0) & (found < 1)).all()
    assert "scope.encoder.embeddings.word_embeddings.weight" in editor.state_dict() or any(
        name.endswith("word_embeddings.weight") for name in editor.state_dict()
    )


@pytest.mark.parametrize("distance", ["square", "l2", "cos"])
def test_equal_embeddings_have_a_finite_gradient(distance: Any) -> None:
    queries = torch.ones(2, 4, requires_grad=True)
    found = log_similarity(queries, torch.ones(3, 4), distance=distance)
    assert torch.equal(found, torch.zeros(2, 3))
    found.sum().backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_missing_networks_are_told_before_a_model_loads(tmp_path: Path) -> None:
    for key, changed in {
        "editor.scope.encoder": {"scope": {"encoder": "/no/such/folder"}},
        "editor.counterfactual.path": {"counterfactual": {"path": "/no/such/folder"}},
        "editor.negatives.encoder": {
            "objective": "supervised", "negatives": {"share": 0.5, "encoder": "/no/such/folder"},
        },
    }.items():  # fmt: skip
        chosen = options(**changed)
        check = chosen.check_training if "negatives" in key else partial(chosen.check_base, SMALL)
        with pytest.raises(ModelError, match=f"^{key}=/no/such/folder: there is no config.json"):
            check()
    with pytest.raises(ModelError, match=r"scope\.encoder=nobody/x: .*HF_HUB_OFFLINE is set"):
        options(scope={"encoder": "nobody/x"}).check_base(SMALL)
    auto = options(scope={"encoder": "fresh"}, counterfactual={"path": "auto"})
    with pytest.raises(ModelError, match=r"counterfactual\.path=JackFram/llama-160m: .*not on"):
        auto.check_base(BaseFacts("llama", 32064, 32, 4096))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds a config.json and no weights"):
        options(scope={"encoder": str(bare)}).check_base(SMALL)
    options().check_training()
    options().check_base(SMALL)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="objective=supervised needs questions out of scope"):
        options(objective="supervised", weights={"locality": 0.0})
    with pytest.raises(ValueError, match="mode=cross_attention has none"):
        options(scope={"mode": "cross_attention"})
    with pytest.raises(ModelError, match="heads=3 does not divide the encoder's width of 16"):
        build(picture_model(), scope={"heads": 3})
    sizes = {"layers": 1, "heads": 5, "mlp_width": 8, "init_std": 0.1}
    for part in ("scope", "counterfactual"):
        with pytest.raises(ModelError, match=rf"editor\.{part}\.sizes\.heads=5 does not divide"):
            build(picture_model(), **{part: {"sizes": sizes}})


def loaded(*overrides: str) -> SeracOptions:
    cfg = load_config("train", ["editor=serac", "model=llava_tiny", *overrides])
    assert isinstance(cfg, TrainConfig)
    assert isinstance(cfg.editor, SeracOptions)
    return cfg.editor


def test_published_settings_are_the_default() -> None:
    chosen = loaded()
    assert (chosen.lr, chosen.counterfactual_lr) == (1e-5, 1e-5)
    assert (chosen.max_iterations, chosen.batch_size, chosen.grad_clip) == (30000, 1, 100.0)
    assert (chosen.objective, chosen.combine) == ("mixture", "soft")
    scope = chosen.scope
    assert (scope.encoder, scope.mode, scope.pooling) == (
        "auto", "embedding", "cls",
    )  # fmt: skip
    assert (scope.distance, scope.scale, scope.learn_scale, scope.threshold) == (
        "square", 1.0, False, 0.5,
    )  # fmt: skip
    assert chosen.weights.model_dump() == {
        "reliability": 0.0, "generality": 0.1, "portability": 0.1, "image": 0.1, "transfer": 0.1,
        "named": 0.0, "locality": 1.0, "specificity": 1.0,
    }  # fmt: skip
    demo = loaded("experiment=demo")
    assert (demo.objective, demo.scope.encoder) == ("supervised", "fresh")


def test_questions_follow_the_scenario_unless_named() -> None:
    assert options().questions_for("transitive") == "text"
    for shown in ("multimodal", "reverse", "joint"):
        assert options().questions_for(shown) == "image_text"
    assert options(questions="image_text").questions_for("transitive") == "image_text"
    with pytest.raises(ConfigError, match=r"editor\.questions"):
        loaded("editor.questions=both")


def test_the_run_knows_its_encoder() -> None:
    editor = build(picture_model())
    assert editor.encoder.form == inputs().encoder.form
    assert editor.first_layer(picture_model()) == 2
