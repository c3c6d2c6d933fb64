"""`editor.matrices`: which linear maps of a layer an editor changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editors.options import BaseFacts
from editors.registry import editor_names, registration, with_current_names
from errors import ModelError
from models.sites import MLP_ROLES, ROLES, Role
from runner.assembly import check_base
from tests.editors import editor_options, loaded, refusal

EDITORS = [name for name in editor_names() if "matrices" in registration(name).options.model_fields]
OPT_ROLES = tuple(role for role in ROLES if role != "mlp_gate")


@given(st.permutations(ROLES), st.integers(1, len(ROLES)))
def test_any_order_names_the_same_maps(order: list[Role], count: int) -> None:
    chosen = order[:count]
    options = editor_options("lora", matrices=chosen)
    assert options.matrices == [role for role in ROLES if role in chosen]
    assert options == editor_options("lora", matrices=sorted(chosen))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("[]", "name at least one matrix of a layer"),
        ("[query,query]", "name each matrix once"),
        ("[query,key,query]", "name each matrix once"),
        ("[query,q_proj]", "editor.matrices.1=q_proj: input should be 'query', 'key', 'value'"),
        ("[query,null]", "editor.matrices.1=None: input should be 'query'"),
        ("[[query]]", "input should be 'query'"),
        ("null", "input should be a valid list"),
        ("true", "input should be a valid list"),
        ("[1]", "input should be 'query'"),
        ("MLP_IN", "editor.matrices=MLP_IN: input should be 'query'"),
        ("query,value", "ask for that with -m"),
        ("'query '", "input should be 'query'"),
    ],
)
@pytest.mark.parametrize("editor", EDITORS)
def test_what_names_no_map_is_refused_before_torch_loads(
    editor: str, value: str, said: str
) -> None:
    message = refusal(editor, f"editor.matrices={value}")
    assert "editor.matrices" in message
    assert said in message


@pytest.mark.parametrize("editor", EDITORS)
def test_one_map_needs_no_brackets(editor: str) -> None:
    assert loaded(editor, "editor.matrices=value").editor.matrices == ["value"]


@pytest.mark.parametrize("editor", ["ft", "lora", "mend"])
def test_options_of_before_mean_both_matrices_of_the_mlp(editor: str) -> None:
    now = editor_options(editor).model_dump()
    assert now["matrices"] == [*MLP_ROLES]
    before = {key: value for key, value in now.items() if key != "matrices"}
    assert with_current_names(before) == now


@pytest.mark.parametrize("editor", EDITORS)
def test_a_base_model_without_a_map_is_refused(editor: str) -> None:
    options = editor_options(editor, matrices=["mlp_gate", "query"])
    options = options.model_copy(update={"layers": 1, "rank": 4})
    options.check_base(BaseFacts("llama", 97, 3, 16, roles=ROLES))
    options.check_base(BaseFacts("llama", 97, 3, 16))  # nobody looked
    with pytest.raises(
        ModelError,
        match=r"^editor\.matrices=\[query,mlp_gate\]: a decoder layer of the base model has no "
        r"mlp_gate\. Its linear maps that can be edited are query, key, value, attention_out, "
        r"mlp_in, mlp_out\.$",
    ):
        options.check_base(BaseFacts("opt", 97, 3, 16, roles=OPT_ROLES))


def test_the_maps_of_a_base_model_are_known_before_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.loading._read", lambda *_: pytest.fail("weights were read"))
    gate = loaded("lora", "model=blip2_opt_tiny", "editor.matrices=[mlp_gate]")
    with pytest.raises(ModelError, match=r"has no mlp_gate\. Its .* are query, key"):
        check_base(gate.editor, gate.model)
    for model in ("llava_tiny", "minigpt4_tiny"):
        gate = loaded("lora", f"model={model}", "editor.matrices=[mlp_gate]")
        check_base(gate.editor, gate.model)
