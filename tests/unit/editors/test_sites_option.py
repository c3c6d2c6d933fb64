"""`editor.sites`: which linear maps are edited, role by role and layer by layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from editing import open_editor, open_model
from editors.base import Editor
from editors.checkpoint import stamp
from editors.options import BaseFacts
from editors.registry import build_editor, editor_names, registration, with_current_names
from editors.ultraedit.editor import UltraEdit
from errors import ConfigError, ModelError
from models.deltas import Site
from models.sites import ROLES
from runner.training import check_checkpoint
from tests.builders import any_model, edit_batch, inputs, text_model
from tests.editors import editor_options, loaded, refusal
from tests.malmen_cases import slow_changes, slow_tokens, slow_update, trained_malmen, turn_of

EDITORS = [name for name in editor_names() if "sites" in registration(name).options.model_fields]
# As UltraEdit's published choice: gates of some layers, first matrices of others, in two blocks.
APART = {"mlp_gate": [0, 1], "mlp_in": [2], "value": [1]}
APART_SITES = [Site(0, "mlp_gate"), Site(1, "mlp_gate"), Site(1, "value"), Site(2, "mlp_in")]


def built(name: str, **changed: Any) -> Any:
    small = {"warm_up": 0} if name == "ultraedit" else {"rank": 4}
    options = editor_options(name, **small, **changed)
    return build_editor(options, text_model("llama"), inputs())


def test_hypernetworks_and_ultraedit_have_it() -> None:
    assert EDITORS == ["malmen", "mend", "rledit", "ultraedit"]


@pytest.mark.parametrize("editor", EDITORS)
def test_role_by_role_or_the_last_layers(editor: str) -> None:
    named: Any = built(editor, sites=APART)
    assert named.sites == APART_SITES
    every = {"mlp_out": [2, 1], "mlp_in": [1, 2]}
    last = built(editor, layers=2, matrices=["mlp_in", "mlp_out"])
    assert built(editor, sites=every).sites == last.sites
    kept: Editor = built(editor, sites={"key": [1], "mlp_out": [2]})
    assert kept.first_layer(text_model("llama")) == 1


@pytest.mark.parametrize("editor", ["malmen", "mend"])
def test_training_reads_the_base_model_from_the_lowest_layer_on(editor: str) -> None:
    assert editor_options(editor, sites=APART).lowest_layer(3) == 0
    assert editor_options(editor, sites={"mlp_in": [7, 2]}).lowest_layer(9) == 2
    assert editor_options(editor, layers=2).lowest_layer(9) == 7


@pytest.mark.parametrize("kind", ["llama", "llava"])
def test_updates_of_malmen_are_those_of_the_formulas(kind: str) -> None:
    model = any_model(kind).double()
    pictures = kind == "llava"
    seen = edit_batch(range(20, 26), pictures=pictures)
    editor = trained_malmen(model, seen, sites=APART)
    batch = edit_batch([3, 8, 5], pictures=pictures)
    single = editor.edit(model, batch, model.prefix(batch.rows, 0, packed=True)).deltas
    together = editor.edit_together(model, turn_of(model, 0, [batch])).deltas
    assert list(single) == APART_SITES
    for deltas, teams in ((single, [[0], [1], [2]]), (together, [[0, 1, 2]])):
        for number, team in enumerate(teams):
            for site, (keys, grads) in slow_tokens(model, APART_SITES, batch, team).items():
                expected = slow_update(editor, site, keys, slow_changes(editor, site, keys, grads))
                got = deltas[site].dense()[number]
                assert expected.abs().max() > 0
                assert (got - expected).abs().max() <= 1e-6 * expected.abs().max(), (site, team)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{}", "name at least one matrix of a layer"),
        ("{mlp_in:[]}", "name at least one layer of mlp_in, and each once"),
        ("{mlp_in:[1,1]}", "name at least one layer of mlp_in, and each once"),
        ("{mlp_in:3}", "editor.sites.mlp_in=3: input should be a valid list"),
        ("{mlp_in:[-1]}", "editor.sites.mlp_in.0=-1: input should be greater than or equal to 0"),
        ("{up_proj:[1]}", "editor.sites.up_proj=[1]: input should be 'query', 'key', 'value'"),
        ("[mlp_in]", "input should be a valid dictionary"),
    ],
)
@pytest.mark.parametrize("editor", EDITORS)
def test_what_names_no_map_is_refused_before_torch_loads(
    editor: str, value: str, said: str
) -> None:
    assert said in refusal(editor, f"editor.sites={value}")


@pytest.mark.parametrize("editor", EDITORS)
def test_what_is_edited_is_said_once(editor: str) -> None:
    words = ["editor.sites={mlp_in:[1]}", "editor.layers=2", "editor.matrices=key"]
    with pytest.raises(ConfigError, match=r"(?s)2 mistakes.*1\. editor\.layers: editor\.sites"):
        loaded(editor, *words)
    with pytest.raises(ConfigError, match=r"one mistake.*\n.* editor\.matrices: .* leave editor"):
        loaded(editor, words[0], words[2])
    assert loaded(editor, words[0]).editor.sites == {"mlp_in": [1]}
    assert loaded(editor, "editor.sites=null", *words[1:]).editor.matrices == ["key"]


@pytest.mark.parametrize("editor", EDITORS)
def test_a_base_model_without_a_layer_or_a_map_is_refused(editor: str) -> None:
    options = editor_options(editor, sites=APART).model_copy(update={"rank": 4})
    options.check_base(BaseFacts("llama", 97, 3, 16, roles=ROLES))
    with pytest.raises(
        ModelError,
        match=r"^editor\.sites=\{value:\[1\],mlp_gate:\[0,1\],mlp_in:\[2\]\}: the base model has "
        r"decoder layers 0 to 1, and no 2\. Give layers in that range\.$",
    ):
        options.check_base(BaseFacts("llama", 97, 2, 16, roles=ROLES))
    without = tuple(role for role in ROLES if role != "mlp_gate")
    with pytest.raises(ModelError, match=r"^editor\.sites=.* has no mlp_gate\. Its linear maps "):
        options.check_base(BaseFacts("opt", 97, 3, 16, roles=without))


def test_a_model_refuses_maps_that_it_has_not() -> None:
    with pytest.raises(ModelError, match=r"layer 3 was asked for, and this .* layers 0 to 2"):
        text_model("llama").sites_of({"mlp_in": [3]})
    with pytest.raises(ModelError, match=r"^mlp_gate of a decoder layer was asked for"):
        text_model("opt").sites_of({"mlp_gate": [0]})


@pytest.mark.parametrize("editor", EDITORS)
def test_options_of_before_have_none(editor: str) -> None:
    now = editor_options(editor).model_dump()
    assert now["sites"] is None
    assert with_current_names({key: value for key, value in now.items() if key != "sites"}) == now


@pytest.mark.parametrize("trained_on", [None, {"mlp_in": [2]}])
def test_a_checkpoint_of_other_maps_of_the_same_shapes_is_refused(
    trained_on: dict[str, list[int]] | None, tmp_path: Path
) -> None:
    """Its networks fit them as well: no weight would tell."""
    model, path = text_model("llama"), str(tmp_path / "best.ckpt")
    options = editor_options("malmen", layers=1, rank=4, sites=trained_on)
    content: dict[str, Any] = {"state_dict": {}}
    stamp(content, options.model_dump(mode="json"), model)
    torch.save(content, path)
    check_checkpoint(path, options, model)
    others = [{"mlp_in": [2], "mlp_out": [1]}, {"mlp_in": [1], "mlp_out": [1]}, {"mlp_out": [1]}]
    for sites in others:
        now = editor_options("malmen", layers=1, rank=4, sites=sites)
        difference = f"sites is {trained_on} there and {sites} here"
        with pytest.raises(ModelError, match=re.escape(difference)):
            check_checkpoint(path, now, model)


def test_python_takes_them_by_name() -> None:
    model = open_model("llava_tiny", device="cpu")
    editor = open_editor("ultraedit", model, warm_up=2, sites={"mlp_out": [3], "mlp_gate": [1]})
    assert isinstance(editor.editor, UltraEdit)
    assert editor.editor.sites == [Site(1, "mlp_gate"), Site(3, "mlp_out")]
    deltas = editor.edit("Who founded Daven Labs?", "Nigo Vegas").deltas
    assert all(bool(torch.count_nonzero(deltas[site].dense())) for site in editor.editor.sites)
    with pytest.raises(ConfigError, match=r"editor\.sites\.up=.*input should be 'query'"):
        open_editor("ultraedit", model, sites={"up": [1]})
    with pytest.raises(ConfigError, match="name at least one matrix of a layer"):
        open_editor("ultraedit", model, sites={})
