"""The options of MEMIT and AlphaEdit: published values, files of second moments, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from configs.check import load_config
from editors.base import EditorInputs
from editors.memit.config import MemitOptions
from editors.memit.editor import build
from editors.memit.update import NullSpace, Whitening, update_inputs
from editors.options import BaseFacts
from editors.rome.moments import save_second_moment
from errors import ConfigError, ModelError
from models.deltas import Site
from models.editable import EditableModel
from tests.rome_cases import model_and_encoder

THREE_LAYERS = BaseFacts("llama", 97, 3, 16, 160)


def options(*words: str, editor: str = "memit") -> MemitOptions:
    config: Any = load_config("evaluate", [f"editor={editor}", "scenario=unimodal", *words])
    assert isinstance(config.editor, MemitOptions)
    return config.editor


def test_without_an_experiment_they_are_the_published_ones() -> None:
    memit, alpha = options(), options(editor="alphaedit")
    for given, layers, lr in ((memit, [3, 4, 5, 6, 7, 8], 0.5), (alpha, [4, 5, 6, 7, 8], 0.1)):
        assert (given.layers, given.lr, given.steps, given.clamp) == (layers, lr, 25, 0.75)
        assert (given.weight_decay, given.kl, given.fact_token) == (0.5, 0.0625, "subject_last")
    assert (alpha.null_space, alpha.ridge, alpha.threshold) == (True, 10.0, 0.02)
    assert (memit.label, alpha.label) == ("memit", "alphaedit")
    assert options("editor.fact_token=last", editor="alphaedit").label == "alphaedit_at_prompt_last"


def test_files_are_named_one_by_one_or_by_the_layer_s_number() -> None:
    two = "editor.layers=[3,5]"
    assert options().files == {}
    pattern = options(two, "editor.second_moments=m/c_layer-*_of.safetensors")
    assert pattern.files == {3: "m/c_layer-3_of.safetensors", 5: "m/c_layer-5_of.safetensors"}
    assert options(two, "editor.second_moments=[a.st,b.st]").files == {3: "a.st", 5: "b.st"}
    assert options("editor.layers=[3]", "editor.second_moments=a.st").files == {3: "a.st"}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["editor.layers=[]"], ["editor.layers", "ascending"]),
        (["editor.layers=[3,3]"], ["editor.layers", "ascending"]),
        (["editor.layers=[-1,3]"], ["editor.layers", "from 0"]),
        (["editor.ridge=0"], ["editor.ridge", "greater than 0"]),
        (["editor.second_moments=[a,b]"], ["2 file(s) for 6 layers", "*"]),
        (["editor.second_moments=a"], ["1 file(s) for 6 layers", "*"]),
        (["scenario=multimodal"], ["MEMIT needs the tokens of the subject's name"]),
    ],
)
def test_a_wrong_option_is_named(words: list[str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        options(*words)
    for part in parts:
        assert part in str(caught.value)


def test_missing_second_moments_are_refused_before_the_model_loads(tmp_path: Path) -> None:
    (tmp_path / "c3").touch()
    named = options("editor.layers=[3,4]", f"editor.second_moments={tmp_path}/c*")
    with pytest.raises(ConfigError, match=r"no file .*c4\. Make it with `.*--layer 3,4 --text"):
        named.check_records((), ())
    with pytest.raises(ConfigError, match=r"editor\.null_space=true .*--layer 4,5,6,7,8 --text"):
        options(editor="alphaedit").check_records((), ())
    options().check_records((), ())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[0,2]", r"layer 2 of editor.layers=\[0,2\] is the last one.*subject_last"),
        ("[0,5]", r"layer 5 of editor.layers=\[0,5\]: .* layers 0 to 2"),
    ],
)
def test_a_layer_outside_the_model_or_at_its_end_is_named(layers: str, message: str) -> None:
    given = options(f"editor.layers={layers}", "editor.contexts=[]")
    with pytest.raises(ModelError, match=message):
        given.check_base(THREE_LAYERS)
    options("editor.layers=[0,2]", "editor.fact_token=last", "editor.contexts=[]").check_base(
        THREE_LAYERS
    )
    with pytest.raises(ModelError, match=r"prefix of 200 tokens"):
        options("editor.layers=[0]", "editor.contexts=[[200,1]]").check_base(THREE_LAYERS)


def moments(model: EditableModel, folder: Path, *layers: int) -> dict[int, Tensor]:
    found = {}
    for layer in layers:
        keys = torch.randn(90, 24, generator=torch.Generator().manual_seed(layer)).double()
        found[layer] = keys.mT @ keys / len(keys)
        facts = {"model": model.fingerprint(), "layer": str(layer)}
        save_second_moment(folder / f"c{layer}", found[layer], facts=facts)
    return found


def test_build_reads_the_files_of_its_own_model_and_layers_alone(tmp_path: Path) -> None:
    model, encoder = model_and_encoder("llama")
    found, inputs = moments(model, tmp_path, 0, 1), EditorInputs(encoder)
    words = ["editor.layers=[0,1]", "editor.contexts=[[4,2]]", "editor.seed=3"]
    editor = build(options(*words, f"editor.second_moments={tmp_path}/c*"), model, inputs)
    assert len(editor.prefixes) == 2
    for layer, moment in found.items():
        read = editor.coordinates[Site(layer, "mlp_out")]
        assert isinstance(read, Whitening)
        torch.testing.assert_close(read.lower @ read.lower.mT, moment)
    swapped = options(*words, f"editor.second_moments=[{tmp_path}/c1,{tmp_path}/c0]")
    with pytest.raises(ModelError, match=r"editor\.second_moments=.*c1 was made for the layer 1"):
        build(swapped, model, inputs)
    other, _ = model_and_encoder("opt")
    with pytest.raises(ModelError, match="was made for the model"):
        build(options(*words, f"editor.second_moments={tmp_path}/c*"), other, inputs)


def test_a_singular_moment_and_an_empty_null_space_are_refused() -> None:
    keys = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moment = keys.mT @ keys / len(keys)
    with pytest.raises(ModelError, match=r"that of layer 3 is singular.* 8 dimensions"):
        Whitening.of(moment, 3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):  # of one missing direction the last pivot is rounding, of either sign
        few = torch.randn(127, 128, dtype=torch.float64, generator=draw)
        with pytest.raises(ModelError, match=r"layer 3 is singular"):
            Whitening.of(few.mT @ few / len(few), 3)
    kept = NullSpace.of(moment, 1e-6, 3)  # the three directions that no key has
    assert kept.above.shape == (8, 5)
    assert kept.coordinates(keys).abs().max() < 1e-12
    with pytest.raises(ModelError, match=r"editor\.threshold=0\.02: no eigenvalue .* of layer 3"):
        NullSpace.of(moment + torch.eye(8), 0.02, 3)
    with pytest.raises(ModelError, match=r"threshold=100: all eigenvalues .* layer 3.* smaller"):
        NullSpace.of(moment, 100, 3)


def test_what_is_projected_leaves_the_keys_of_the_text_alone() -> None:
    draw = torch.Generator().manual_seed(1)
    text = torch.randn(4, 9, generator=draw, dtype=torch.float64)
    keys = torch.randn(1, 3, 9, generator=draw, dtype=torch.float64)
    kept = NullSpace.of(text.mT @ text / 4, 1e-9, 0)
    inputs = update_inputs(keys, 0.1, kept)[0]
    assert (text @ inputs.mT).abs().max() < 1e-12
    assert (keys[0] @ inputs.mT).diagonal().min() > 0.5
    later = update_inputs(keys[:, :1], 1e-8, kept, earlier=keys[:, 1:])[0]
    said = keys[0] @ later.mT  # lambda -> 0: 1 at its key, 0 at the earlier ones
    torch.testing.assert_close(said, torch.tensor([[1.0], [0], [0]]).double(), atol=1e-6, rtol=0)
