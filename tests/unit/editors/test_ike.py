"""IKE the editor: what stands in the context, what is dropped, and what the model then answers."""

from __future__ import annotations

import logging
import random
from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datamodules.prompt_encoder import PictureLayout, PromptEncoder
from editors.base import EditorInputs, Reporting
from editors.ike.config import PicturePlace
from editors.ike.demonstrations import demonstrate, demonstration, demonstration_kinds
from editors.ike.editor import Ike, IkeEdit, build
from editors.ike.retrieval import fact
from errors import DataError, ModelError
from models.editable import EditableModel
from models.rows import EditBatch
from tests import editors
from tests.builders import IMAGE_TOKEN, SLOTS, blip2
from tests.ike_cases import (
    ENCODER,
    POSITIONS,
    TRAINING,
    InOrder,
    batch_of,
    model_and_encoder,
    picture,
    record,
    retriever,
)
from tests.tokenizers_small import opt_tokenizer

EDITS = (3, 14, 8)
K = 6


def ike(
    encoder: PromptEncoder,
    *,
    k: int = K,
    own_copy: bool = True,
    picture: PicturePlace = "question",
) -> Ike:
    return editors.ike(encoder, InOrder(), k=k, own_copy=own_copy, picture=picture)


def made(model: EditableModel, editor: Ike, batch: EditBatch) -> IkeEdit:
    return editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))


def answers_of(model: EditableModel, editor: Ike, batch: EditBatch) -> Tensor:
    return answered(model, editor, batch)[0]


def answered(model: EditableModel, editor: Ike, batch: EditBatch) -> tuple[Tensor, IkeEdit]:
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    return edit.answer(model, batch.rows, state, batch.rows.answers()), edit


# What a demonstration says


def test_a_demonstration_of_each_type() -> None:
    draw = random.Random(0)
    one = record(2)  # Lisburg is now in Gofin; its neighbour Image Bank in Sol
    first = "New Fact: Where is Lisburg located? Gofin\nPrompt: "
    assert demonstration("copy", one, draw) == f"{first}Where is Lisburg located? Gofin\n\n"
    assert demonstration("update", one, draw) == f"{first}Which place is Lisburg in? Gofin\n\n"
    retained = Tally(demonstration("retain", one, draw) for _ in range(60))
    assert set(retained) == {
        f"{first}Where is Image Bank located? Sol\n\n",
        f"{first}Who founded Image Bank? Lisburg\n\n",
        f"{first}Who founded Lisburg? Image Bank\n\n",
    }


def test_one_copy_to_three_updates_to_four_retains() -> None:
    assert Tally(demonstration_kinds(32)) == {"copy": 4, "update": 12, "retain": 16}
    assert Tally(demonstration_kinds(16)) == {"copy": 2, "update": 6, "retain": 8}
    assert demonstration_kinds(0) == []
    for k in range(100):
        count = Tally(demonstration_kinds(k))
        assert len(demonstration_kinds(k)) == k
        for kind, part in (("copy", 1), ("update", 3), ("retain", 4)):
            assert abs(count[kind] - part * k / 8) <= 1, (k, kind)  # type: ignore[index]


def types_of(demonstrations: Sequence[str]) -> tuple[str, ...]:
    """C, U or R of each demonstration, read from its text."""
    found = []
    for text in demonstrations:
        stated, asked = text.strip().split("\n")
        stated, asked = stated.removeprefix("New Fact: "), asked.removeprefix("Prompt: ")
        found.append("C" if stated == asked else "U" if asked.startswith("Which place") else "R")
    return tuple(found)


def test_types_are_shuffled_for_each_edit_by_its_own_words() -> None:
    nearest = [record(number) for number in range(8)]

    def types(name: str, *, new: str = "Tama", seed: int = 0) -> tuple[str, ...]:
        return types_of(demonstrate(nearest, f"Where is {name}?", new, seed=seed))

    drawn = [types(f"house {number}") for number in range(40)]
    assert all(sorted(one) == sorted("CUUURRRR") for one in drawn)
    assert len(set(drawn)) > 20  # of 280 orders
    assert {one.index("C") for one in drawn} == set(range(8))  # rank does not tell the type
    assert types("house 3") == drawn[3]
    assert len({types("house 3", seed=seed) for seed in range(5)}) > 1
    assert len({types("house 3", new=new) for new in ("Duva", "Sol", "Gofin")}) > 1


def test_the_nearest_stands_last_and_the_edit_itself_after_it() -> None:
    model, encoder = model_and_encoder("llama")
    edit = made(model, ike(encoder), batch_of(encoder, EDITS))
    for number, shown, tail in zip(EDITS, edit.demonstrations, edit.statements, strict=True):
        stated = [text.partition("\n")[0] for text in shown]
        expected = [
            f"New Fact: {fact(one.knowledge_edit.question, one.knowledge_edit.answer_new)}"
            for one in TRAINING[:K]
        ]
        assert stated == expected[::-1]
        question, new = batch_of(encoder, [number]).rows.texts[0][:2]
        own = f"New Fact: {question} {new}\nPrompt: "
        assert tail == f"{own}{question} {new}\n\n{own}"
    bare = made(model, ike(encoder, k=0, own_copy=False), batch_of(encoder, [3]))
    question, new = batch_of(encoder, [3]).rows.texts[0][:2]
    assert (bare.demonstrations, bare.statements) == (
        ((),),
        (f"New Fact: {question} {new}\nPrompt: ",),
    )


# Which facts are near


def test_retrieval_finds_what_brute_force_finds() -> None:
    from sentence_transformers import SentenceTransformer

    from editors.encoders import encoder_folder

    queries = ["Where is Lake Sol located? Gofin", "Who builds cars? General Motors", "Mira"]
    plain = SentenceTransformer(str(encoder_folder(ENCODER, key="k")), device="cpu")
    facts = [fact(r.knowledge_edit.question, r.knowledge_edit.answer_new) for r in TRAINING]
    for query, found in zip(queries, retriever().nearest(queries, 5), strict=True):
        asked = plain.encode(query)
        cosine = [
            float(asked @ other / (asked @ asked * (other @ other)) ** 0.5)
            for other in (plain.encode(one) for one in facts)
        ]
        nearest_first = sorted(range(len(facts)), key=lambda place: -cosine[place])
        assert [TRAINING.index(one) for one in found] == nearest_first[:5]
    own = fact(TRAINING[7].knowledge_edit.question, TRAINING[7].knowledge_edit.answer_new)
    assert retriever().nearest([own], 1) == [[TRAINING[7]]]


# What the model answers


def tokens_of(encoder: PromptEncoder, text: str) -> list[int]:
    return list(encoder.tokenizer(text)["input_ids"])


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(
    ("kind", "place"),
    [("llava", "question"), ("llava", "front"), ("llava", None), ("llama", None), ("opt", None),
     ("gpt2", None)],
)  # fmt: skip
def test_answers_of_whole_prompts_read_one_by_one(
    kind: str, place: PicturePlace | None, padding: str
) -> None:
    """Slow reference: a prompt written by hand, a batch of one, transformers' own forward."""
    model, encoder = model_and_encoder(kind, padding=padding)  # type: ignore[arg-type]
    batch = batch_of(encoder, EDITS, pictures=place is not None)
    found = answers_of(model, ike(encoder, picture=place or "question"), batch)
    at = batch.rows.answers()
    done = 0
    for number, edit in zip(EDITS, batch.edit_rows.tolist(), strict=True):
        question, new = batch.rows.texts[edit][:2]
        shown = "".join(demonstrate(list(TRAINING[:K]), question, new, seed=0))
        stated = f"New Fact: {question} {new}\nPrompt: "
        before = f"{shown}{stated}{question} {new}\n\n{stated}"
        for row in (batch.rows.edit_index == batch.rows.edit_index[edit]).nonzero()[:, 0].tolist():
            text = batch.rows.texts[row]
            ids = tokens_of(encoder, f"{before}{text.question} {text.answer}")
            if text.picture:
                assert encoder.layout is not None
                # BOS, or all that stands before the question; the space belongs to the question
                stop = 1 if place == "front" else len(tokens_of(encoder, before[:-1]))
                ids[stop:stop] = [encoder.layout.token_id] * encoder.layout.slots
            seen = {"pixel_values": picture(number)[None]} if text.picture else {}
            with torch.no_grad():
                logits = model.hf(input_ids=torch.tensor([ids]), use_cache=False, **seen).logits[0]
            n = int((at.row == row).sum())
            assert at.target[done : done + n].tolist() == ids[-n:]
            torch.testing.assert_close(
                found[done : done + n], logits[-n - 1 : -1], rtol=1e-5, atol=1e-5
            )
            done += n
    assert done == len(found)


def test_demonstrations_change_answers_and_not_the_model() -> None:
    model, encoder = model_and_encoder("llava")
    batch = batch_of(encoder, EDITS, pictures=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        base = model(batch.rows, at=batch.rows.answers())
    without = answers_of(model, ike(encoder, k=0), batch)
    with_some = answers_of(model, ike(encoder), batch)
    assert (base - without).abs().max() > 1e-2
    assert (with_some - without).abs().max() > 1e-2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(base, model(batch.rows, at=batch.rows.answers()))


def test_answers_that_are_other_tokens_after_demonstrations_are_refused() -> None:
    model, encoder = model_and_encoder("llama")
    batch = batch_of(encoder, [3])
    texts = batch.rows.texts
    other = (*texts[:2], texts[2]._replace(answer="General Motors"))
    broken = replace(batch, rows=replace(batch.rows, texts=other))
    with pytest.raises(ModelError) as caught:
        answers_of(model, ike(encoder), broken)
    for part in ("'General Motors'", texts[2].question, "data.prompt"):
        assert part in str(caught.value)


# What fits


def length(encoder: PromptEncoder, edit: IkeEdit, shown: int, batch: EditBatch) -> int:
    """Tokens of the longest prompt with the nearest `shown` demonstrations."""
    kept = edit.demonstrations[0][len(edit.demonstrations[0]) - shown :]
    before = "".join(kept) + edit.statements[0]
    slots = 0 if encoder.layout is None else encoder.layout.slots
    return max(
        len(tokens_of(encoder, f"{before}{text.question} {text.answer}")) + slots * text.picture
        for text in batch.rows.texts
    )


@pytest.mark.parametrize("fit", [0, 1, 4, K])
@pytest.mark.parametrize("place", [None, "question", "front"])
def test_the_farthest_are_dropped_until_the_longest_question_fits(
    fit: int, place: PicturePlace | None, caplog: pytest.LogCaptureFixture
) -> None:
    model, encoder = model_and_encoder("llava")
    batch, where = batch_of(encoder, [3], pictures=place is not None), place or "question"
    whole = made(model, ike(encoder, picture=where), batch)
    limit = length(encoder, whole, fit, batch)
    config = model.hf.config.get_text_config()
    nearest = replace(whole, demonstrations=(whole.demonstrations[0][K - fit :],))
    state, at = model.prefix(batch.rows, 0), batch.rows.answers()
    expected = nearest.answer(model, batch.rows, state, at)
    config.max_position_embeddings = limit
    editor = ike(encoder, picture=where)
    with caplog.at_level(logging.WARNING):
        found, edit = answered(model, editor, batch)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert isinstance(edit, Reporting)
    assert edit.report() == {"demonstrations_shown": [fit], "demonstrations_dropped": [K - fit]}
    assert (f"only {fit} of {K} demonstrations fit" in caplog.text) == (fit < K)
    if fit < K:  # one token less, one demonstration less
        config.max_position_embeddings = length(encoder, whole, fit + 1, batch) - 1
        _, again = answered(model, ike(encoder, picture=where), batch)
        assert again.report()["demonstrations_shown"] == [fit]


def test_some_rows_of_an_edit_are_shown_what_all_were_shown() -> None:
    """As where locality is compared at every token: the longest question is not among them."""
    model, encoder = model_and_encoder("llama")
    batch = batch_of(encoder, [3])
    limit = length(encoder, made(model, ike(encoder), batch), 2, batch)
    model.hf.config.max_position_embeddings = limit - 1
    every, edit = answered(model, ike(encoder), batch)
    state, at = model.prefix(batch.rows, 0), batch.rows.answers()
    shortest = min(range(len(batch.rows)), key=lambda row: len(batch.rows.texts[row].question))
    some = torch.tensor([shortest])
    found = edit.answer(model, batch.rows.select(some), state.select(some), at.select(some))
    torch.testing.assert_close(found, every[at.row == shortest], rtol=1e-5, atol=1e-6)
    assert edit.report()["demonstrations_shown"] == [1]


@pytest.mark.parametrize("place", ["question", "front"])
def test_a_full_context_of_blip2_opt_asks_for_no_position_past_the_last(
    place: PicturePlace,
) -> None:
    """Groups of rows whose beginnings differ in length are padded to their longest rest."""
    slot = PictureLayout(SLOTS, IMAGE_TOKEN, before_bos=True)
    encoder = PromptEncoder(opt_tokenizer(), slot)
    batch, demonstrations = batch_of(encoder, [3, 8, 14], pictures=True), set[float]()
    for limit in range(300, 420, 20):
        model = blip2(vocabulary=len(encoder.tokenizer), positions=limit)
        _, edit = answered(model, ike(encoder, picture=place), batch)
        demonstrations |= set(edit.report()["demonstrations_shown"])
    assert demonstrations == {2.0, 3.0, 4.0}


def test_the_edit_itself_is_never_dropped() -> None:
    model, encoder = model_and_encoder("llama")
    batch = batch_of(encoder, [3])
    needed = length(encoder, made(model, ike(encoder), batch), 0, batch)
    model.hf.config.max_position_embeddings = needed - 1
    with pytest.raises(DataError) as caught:
        answers_of(model, ike(encoder), batch)
    longest = max(batch.rows.texts, key=lambda text: len(text.question))
    for part in (longest.question, f"takes {needed} tokens", f"reads {needed - 1}"):
        assert part in str(caught.value)


def test_each_edit_says_what_it_was_shown(caplog: pytest.LogCaptureFixture) -> None:
    model, encoder = model_and_encoder("llama")
    editor = ike(encoder)
    _, both = answered(model, editor, batch_of(encoder, [3, 8]))
    assert both.report() == {"demonstrations_shown": [6, 6], "demonstrations_dropped": [0, 0]}
    batch = batch_of(encoder, [14])
    whole = made(model, ike(encoder), batch)
    model.hf.config.max_position_embeddings = length(encoder, whole, 3, batch)
    for _ in range(2):
        _, cut = answered(model, editor, batch)
        assert cut.report() == {"demonstrations_shown": [3], "demonstrations_dropped": [3]}
    assert caplog.text.count("demonstrations fit") == 1


# From options to the editor


def test_every_option_reaches_the_editor() -> None:
    model, encoder = model_and_encoder("llama")
    assert model.max_positions == POSITIONS
    inputs = EditorInputs(encoder, TRAINING)

    def built(**changed: object) -> Ike:
        return build(editors.editor_options("ike", **{"k": 3} | changed), model, inputs)

    batch = batch_of(encoder, EDITS)
    usual = made(model, built(), batch)
    questions = [batch.rows.texts[row].question for row in batch.edit_rows.tolist()]
    new = [batch.rows.texts[row].answer for row in batch.edit_rows.tolist()]
    nearest = retriever().nearest([fact(*pair) for pair in zip(questions, new, strict=True)], 3)
    assert usual.demonstrations == tuple(
        tuple(demonstrate(near, *pair, seed=0))
        for near, *pair in zip(nearest, questions, new, strict=True)
    )
    assert made(model, built(seed=1), batch).demonstrations != usual.demonstrations
    assert [len(shown) for shown in made(model, built(k=5), batch).demonstrations] == [5] * len(
        EDITS
    )
    assert len(made(model, built(own_copy=False), batch).statements[0]) < len(usual.statements[0])
    assert made(model, built(picture="front"), batch).editor.options.picture == "front"
    without = built(k=0, encoder="no such encoder")
    assert without.retriever is None
    with pytest.raises(ModelError, match=r"editor\.encoder"):
        built(encoder="no such encoder")
