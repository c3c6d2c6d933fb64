"""What a language model is asked of a world, whether it is right, and where its facts are from."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from configs.around import ProbingOptions
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.world import World
from errors import DataError
from models.language_model import LanguageModel
from pretraining.language.asking import Asker
from pretraining.language.facts import Fact, FactRows, by_relation, teachable
from pretraining.language.perplexity import PARAGRAPHS, perplexity, read_paragraphs
from pretraining.language.probing import FORMS, After, Before, Probing, marks, table
from tests.language_worlds import answered, small_world, text_of, tiny_language
from tests.local_models import LAYERS

KINDS = ("llama", "qwen2", "gemma3_text", "opt")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory.mktemp("knowledge") / "world")


@pytest.fixture(scope="module")
def languages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    root = tmp_path_factory.mktemp("languages")
    return {kind: tiny_language(root / kind, kind) for kind in KINDS}


def rows_of(world: World, language: LanguageModel, shots: int = 2) -> FactRows:
    return FactRows(world, PromptEncoder(language.tokenizer, None), shots=shots, seed=0)


@torch.no_grad()
def slowly_right(language: LanguageModel, row: Encoded) -> bool:
    """One row, the whole model, nothing shared."""
    scores = language.model(input_ids=torch.tensor([row.ids])).logits[0]
    return all(
        int(scores[i - 1].argmax()) == row.ids[i] for i, asked in enumerate(row.answer) if asked
    )


@torch.no_grad()
def greedy(language: LanguageModel, row: Encoded, tokens: int) -> list[int]:
    ids = row.ids[: row.answer.index(True)]
    for _ in range(tokens):
        ids = [*ids, int(language.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-tokens:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_tokens", [1, 40, 4000])
def test_rows_are_judged_as_one_by_one(
    languages: dict[str, LanguageModel], world: World, kind: str, batch_tokens: int
) -> None:
    """Of answers of one to three tokens some are the model's own, some wrong at one place."""
    language = languages[kind]
    rows = rows_of(world, language)
    facts = by_relation(world.facts)["founder"]
    asked = []
    for number, fact in enumerate(facts):
        row = rows.zero_shot(fact, 0)
        tokens = greedy(language, row, 1 + number % 3)
        if number % 2:
            wrong = number // 2 % len(tokens)
            tokens[wrong] = (tokens[wrong] + 1) % 300
        asked.append(answered(row, tokens))
    right = Asker(language, batch_tokens).right(asked)
    assert right == [slowly_right(language, row) for row in asked]
    assert right == [number % 2 == 0 for number in range(len(facts))]


def test_a_group_of_one_and_none(languages: dict[str, LanguageModel], world: World) -> None:
    language = languages["llama"]
    row = rows_of(world, language).zero_shot(teachable(world)[0], 0)
    row = answered(row, greedy(language, row, 2))
    asker = Asker(language, 100)
    assert asker.right([]) == []
    assert asker.right([row]) == [True]
    assert asker.right([row, row, answered(row, [5])]) == [True, True, False]


def test_the_forms_in_words(languages: dict[str, LanguageModel], world: World) -> None:
    rows = rows_of(world, languages["llama"])
    fact = next(f for f in world.facts if f[1] == "founder" and world.split(f[0]) == "test")
    name, value = fact[0], world.facts[fact]
    question = world.question("founder", 0, name)
    said = text_of(rows.encoder, rows.zero_shot(fact, 0).ids)
    assert said == f"Question: {question} Short answer: {value}"
    assert text_of(rows.encoder, rows.cloze(fact).ids) == f"The founder of {name} is {value}"
    first, second = rows.examples(fact)
    shown = "".join(
        f"Question: {world.question('founder', 0, s)} Short answer: {world.facts[s, r]}\n"
        for s, r in (first, second)
    )
    assert text_of(rows.encoder, rows.few_shot(fact).ids) == shown + said
    answer = [i for i, asked in enumerate(rows.few_shot(fact).answer) if asked]
    few = rows.few_shot(fact)
    assert text_of(rows.encoder, [few.ids[i] for i in answer]).strip() == value
    begin = languages["llama"].tokenizer.bos_token_id
    for row in (few, rows.cloze(fact), rows.zero_shot(fact, 1)):
        assert row.ids.count(begin) == 1
        assert row.ids[0] == begin


@pytest.mark.parametrize("shots", [0, 1, 4, 50])
def test_examples_are_other_facts_of_the_training_half(
    languages: dict[str, LanguageModel], world: World, shots: int
) -> None:
    rows = rows_of(world, languages["llama"], shots)
    for fact in world.facts:
        examples = rows.examples(fact)
        there = [f for f in by_relation(teachable(world))[fact[1]] if f != fact]
        assert len(set(examples)) == len(examples) == min(shots, len(there))
        assert fact not in examples
        assert {f[1] for f in examples} <= {fact[1]}
        assert all(world.split(f[0]) != "test" for f in examples)


def test_all_forms_are_asked_as_one_by_one(
    languages: dict[str, LanguageModel], world: World
) -> None:
    """With the model's own answers as the objects of half of the facts."""
    language = of_words(languages["llama"])
    rows = rows_of(world, language)
    facts = dict(world.facts)
    for number, fact in enumerate(world.facts):
        if number % 2:
            said = language.tokenizer.decode(greedy(language, rows.zero_shot(fact, 0), 1))
            facts[fact] = said.strip() or facts[fact]
    known = World.__new__(World)
    known.__dict__ = {**world.__dict__, "facts": facts}
    rows = rows_of(known, language)
    probing = Probing(known, ProbingOptions(shots=2, batch_tokens=64, texts=None), seed=0)
    before, after = probing.before(language), probing.after(language)
    forms = {
        "cloze": rows.cloze,
        "few_shot": rows.few_shot,
        "zero_shot": lambda fact: rows.zero_shot(fact, 0),
    }
    for form, row in forms.items():
        expected = {fact for fact in facts if slowly_right(language, row(fact))}
        assert getattr(before, form) == expected, form
    assert 3 < len(before.zero_shot) < len(facts)
    assert before.zero_shot == after.first
    for fact in facts:
        wordings = range(len(known.relations[fact[1]].wordings))
        each = [slowly_right(language, rows.zero_shot(fact, wording)) for wording in wordings]
        assert list(after.wordings[fact]) == each


def of_words(language: LanguageModel) -> LanguageModel:
    """The same with larger rows for tokens that begin with a blank: it answers words."""
    model = copy.deepcopy(language.model)
    with torch.no_grad():
        for token, number in language.tokenizer.get_vocab().items():
            if token.startswith("Ġ") and token[1:].isalnum():
                model.get_input_embeddings().weight[number] *= 8
    return replace(language, model=model)


def some(world: World) -> st.SearchStrategy[frozenset[Fact]]:
    return st.frozensets(st.sampled_from(list(world.facts)))


@given(data=st.data())
def test_marks_are_disjoint_and_say_what_they_promise(world: World, data: st.DataObject) -> None:
    before = Before(*(data.draw(some(world)) for _ in FORMS))
    wordings = {
        fact: data.draw(st.lists(st.booleans(), min_size=3, max_size=3)) for fact in world.facts
    }
    after = After(wordings)
    marked = {mark: set(facts) for mark, facts in marks(world, before, after).items()}
    assert not any(a & b for a, b in combinations(marked.values(), 2))
    taught = set(teachable(world))
    assert marked["known_before"] == before.cloze | before.few_shot
    assert marked["taught"] == taught - marked["known_before"]
    assert not marked["unlocked"] & taught
    rest = set(world.facts).difference(*marked.values())
    for fact in rest | marked["unlocked"]:
        right = wordings[fact]
        assert (fact in marked["unlocked"]) == (right[0] and any(right[1:]))
    again = json.loads(json.dumps({"before": before.plain(), "after": after.plain()}))
    assert Before.of_plain(again["before"]) == before
    assert After.of_plain(again["after"]).wordings == wordings


def test_the_table_counts(world: World) -> None:
    facts = [fact for fact in world.facts if fact[1] == "founder"]
    held, trained = (
        [f for f in facts if (world.split(f[0]) == "test") == is_test] for is_test in (True, False)
    )
    before = Before(frozenset(held[:1]), frozenset(trained[:1]), frozenset())
    after = After({f: [f in trained or f == held[1], f in trained] for f in world.facts})
    lines = table(world, before, after)
    assert set(lines) == {"test", "training"}
    line = lines["test"]["founder"]
    assert (line["n"], line["cloze"], line["few_shot"]) == (2, 50.0, 0.0)
    assert (line["known_before"], line["after"], line["after_all_wordings"]) == (50.0, 50.0, 25.0)
    assert line["kept"] == 0.0
    assert lines["training"]["founder"]["after"] == 100.0
    total = lines["test"]["all"]["n"] + lines["training"]["all"]["n"]
    assert total == len(world.facts)


def test_majority_is_what_the_training_half_says_most(world: World) -> None:
    empty = Before(frozenset(), frozenset(), frozenset())
    after = After({fact: [False] for fact in world.facts})
    line = table(world, empty, after)["test"]["style"]
    counts: dict[str, int] = {}
    for fact in teachable(world):
        if fact[1] == "style":
            counts[world.facts[fact]] = counts.get(world.facts[fact], 0) + 1
    most = min(counts, key=lambda value: (-counts[value], value))
    held = [f for f in world.facts if f[1] == "style" and world.split(f[0]) == "test"]
    right = sum(world.facts[fact] == most for fact in held)
    assert line["majority"] == round(100 * right / len(held), 1)


def test_perplexity_is_the_library_s_loss(languages: dict[str, LanguageModel]) -> None:
    language = languages["llama"]
    texts = ["Question: Who founded Gofin Works?", "Tama Duva lives in Lisburg."]
    loss, count = 0.0, 0
    for text in texts:
        ids = language.tokenizer(text, return_tensors="pt").input_ids
        scores = language.model(input_ids=ids).logits[0, :-1]
        loss += float(cross_entropy(scores, ids[0, 1:], reduction="sum").detach())
        count += ids.shape[1] - 1
    found = perplexity(language, texts)
    assert found["tokens"] == count
    assert found["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-4)


def test_the_paragraphs_of_the_project(tmp_path: Path) -> None:
    paragraphs = read_paragraphs(PARAGRAPHS)
    assert len(paragraphs) == 10
    assert 900 < sum(len(text.split()) for text in paragraphs) < 1100
    (tmp_path / "empty.txt").write_text("\n\n \n")
    with pytest.raises(DataError, match="has no text"):
        read_paragraphs(tmp_path / "empty.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read_paragraphs(tmp_path / "bytes.txt")


def test_the_tiny_models_are_the_architectures(languages: dict[str, LanguageModel]) -> None:
    assert {language.model.config.model_type for language in languages.values()} == set(KINDS)
    assert all(each.model.config.num_hidden_layers == LAYERS for each in languages.values())
