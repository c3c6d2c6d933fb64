"""What must hold for any edit by IKE."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.ike.config import PicturePlace
from editors.ike.demonstrations import demonstrate, demonstration_kinds
from editors.ike.editor import IkeEdit
from models.editable import EditableModel
from tests.editors import ike
from tests.ike_cases import TRAINING, InOrder, batch_of, model_and_encoder, retriever

SOME = settings(max_examples=10, deadline=None)
numbers = st.lists(st.integers(0, 40), min_size=2, max_size=5, unique=True)
Where = tuple[str, PicturePlace | None]
where: st.SearchStrategy[Where] = st.sampled_from(
    [("llava", "question"), ("llava", "front"), ("llava", None), ("opt", None), ("gpt2", None)]
)


@cache
def model_of(kind: str) -> tuple[EditableModel, PromptEncoder]:
    return model_and_encoder(kind)


def asked(
    kind: str, place: PicturePlace | None, chosen: Sequence[int], k: int
) -> tuple[IkeEdit, list[Tensor]]:
    """The edits, and the logits of each edit's answers."""
    model, encoder = model_of(kind)
    editor = ike(encoder, retriever(), k=k, picture=place or "question")
    batch = batch_of(encoder, chosen, pictures=place is not None)
    state, at = model.prefix(batch.rows, editor.first_layer(model)), batch.rows.answers()
    edit = editor.edit(model, batch, state)
    logits = edit.answer(model, batch.rows, state, at)
    edit_of = batch.rows.edit_index[at.row]
    return edit, [logits[edit_of == place] for place in range(len(chosen))]


@SOME
@given(where=where, chosen=numbers, k=st.integers(0, 9), data=st.data())
def test_permuting_and_splitting_a_batch_changes_no_edit(
    where: Where, chosen: list[int], k: int, data: st.DataObject
) -> None:
    edit, logits = asked(*where, chosen, k)
    mixed = data.draw(st.permutations(chosen))
    cut = data.draw(st.integers(1, len(mixed) - 1))
    for part in (mixed[:cut], mixed[cut:]):
        again, found = asked(*where, part, k)
        for place, number in enumerate(part):
            whole = chosen.index(number)
            assert again.demonstrations[place] == edit.demonstrations[whole]  # word for word
            assert again.statements[place] == edit.statements[whole]
            torch.testing.assert_close(found[place], logits[whole], rtol=1e-4, atol=1e-5)


@SOME
@given(where=where, chosen=numbers, k=st.integers(0, 9))
def test_the_base_stays_as_it_is_bit_for_bit(where: Where, chosen: list[int], k: int) -> None:
    model, _ = model_of(where[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asked(*where, chosen, k)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@SOME
@given(number=st.integers(0, 40), k=st.integers(0, 12), spare=st.integers(0, 3000))
def test_what_is_shown_are_the_nearest_that_fit_and_one_more_would_not(
    number: int, k: int, spare: int
) -> None:
    model, encoder = model_and_encoder("llama")
    batch = batch_of(encoder, [number])
    state, at = model.prefix(batch.rows, 0), batch.rows.answers()
    editor = ike(encoder, InOrder(), k=k)
    edit = editor.edit(model, batch, state)

    def tokens(shown: int) -> int:
        before = "".join(edit.demonstrations[0][k - shown :]) + edit.statements[0]
        return max(
            len(encoder.tokenizer(f"{before}{text.question} {text.answer}")["input_ids"])
            for text in batch.rows.texts
        )

    limit = tokens(0) + spare
    model.hf.config.max_position_embeddings = limit
    edit.answer(model, batch.rows, state, at)
    shown = int(edit.report()["demonstrations_shown"][0])
    assert edit.report()["demonstrations_dropped"] == [k - shown]
    assert tokens(shown) <= limit
    assert shown == k or tokens(shown + 1) > limit


@SOME
@given(order=st.permutations(range(8)), question=st.text(max_size=20), seed=st.integers(0, 99))
def test_rank_decides_the_place_and_not_the_type(
    order: list[int], question: str, seed: int
) -> None:
    nearest = [TRAINING[number] for number in order]
    said = demonstrate(nearest, question, "Tama", seed=seed)
    for text, one in zip(said, nearest[::-1], strict=True):
        edit = one.knowledge_edit
        assert text.startswith(f"New Fact: {edit.question} {edit.answer_new}\nPrompt: ")
        assert text.endswith("\n\n")
        assert text.count("New Fact: ") == text.count("Prompt: ") == 1
    assert said == demonstrate(nearest, question, "Tama", seed=seed)
    assert len(demonstration_kinds(len(order))) == len(said)
