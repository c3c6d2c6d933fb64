"""Answers after a shared beginning, against a whole forward pass of each row by transformers."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.budget import MemoryBudget
from models.context import answer_with_shared_prefix, rest, shared_lengths
from models.deltas import Site
from models.editable import EditableModel
from models.hooks import add_to_output
from models.rows import Answers
from tests.builders import PICTURED, SLOTS, VOCABULARY, Prompt, any_model, ids_of, rows_of
from tests.builders import picture as pixels

KINDS = (*PICTURED, "llama", "opt", "gpt2")
SHARED = (17, 5, 0, 30)  # tokens that the rows of each edit begin with
ROWS = (3, 1, 2, 4)


def drawn_prompts(*, pictures: bool) -> list[Prompt]:
    """Rows of four edits, mixed; with pictures every other row shows one after its beginning."""
    found: list[Prompt] = []
    for edit, (shared, count) in enumerate(zip(SHARED, ROWS, strict=True)):
        draw = random.Random(edit)

        def tokens(n: int, draw: random.Random = draw) -> tuple[int, ...]:
            return tuple(draw.randrange(4, VOCABULARY) for _ in range(n))

        beginning = tokens(shared)
        for number in range(count):
            rest = (4 + number, *tokens(draw.randint(3, 8)))  # no two begin with the same token
            picture = draw.randrange(5) if pictures and number % 2 else None
            picture_at = shared + draw.randint(0, 2)
            found.append(Prompt(beginning + rest, draw.randint(1, 3), edit, picture, picture_at))
    random.Random(9).shuffle(found)
    return found


def alone(model: EditableModel, row: Prompt) -> Tensor:
    """Logits of a row's answer tokens, from a batch of one without a cache: (n, V)."""
    picture = {} if row.picture is None else {"pixel_values": pixels(row.picture)[None]}
    # BLIP-2's own forward asks for a picture, so text alone goes to its language model.
    blind = model.family == "blip2" and not picture
    hf = model.hf.language_model if blind else model.hf
    with torch.no_grad():
        logits = hf(input_ids=torch.tensor([ids_of(row)]), use_cache=False, **picture).logits
    return logits[0, -row.answer - 1 : -1]


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(
    ("kind", "pictures"),
    [*((kind, False) for kind in KINDS), *((kind, True) for kind in PICTURED)],
)
def test_every_row_as_if_it_were_alone(kind: str, pictures: bool, padding: str) -> None:
    model, prompts = any_model(kind), drawn_prompts(pictures=pictures)
    rows = rows_of(prompts, padding=padding, extra=3)
    found = answer_with_shared_prefix(model, rows, rows.answers())
    expected = torch.cat([alone(model, row) for row in prompts])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PICTURED)
@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize(
    ("last", "left"),
    [(4, 3), (6, SLOTS + 2)],  # right before its answer, a picture is not in the beginning
)
def test_beginnings_with_pictures(
    kind: str, last: int, left: int, padding: str, looked: bool
) -> None:
    model = any_model(kind)
    pictures = (1, 1, 2, 2, None, None, 3)  # a group per edit and picture; the last stands alone
    edits = (0, 0, 0, 0, 0, 1, 1)
    prompts = [
        Prompt(
            (4, 5, 6, 7, 8, 20 + number, 9, 10), 2, edit, shown, picture_at=1 if edit == 0 else last
        )
        for number, (edit, shown) in enumerate(zip(edits, pictures, strict=True))
    ]
    rows = rows_of(prompts, padding=padding, extra=2)
    rows = model.encode_pictures(rows) if looked else rows
    group = torch.tensor([2, 2, 0, 0, 1, 4, 7])
    found = answer_with_shared_prefix(model, rows, rows.answers(), group=group)
    expected = torch.cat([alone(model, row) for row in prompts])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    calls = passes(model)
    answer_with_shared_prefix(model, rows, rows.answers(), group=group)
    assert calls[0][0] == len(set(group.tolist()))
    assert calls[1] == (len(pictures), left)


@pytest.mark.parametrize("kind", ["llava", "gpt2"])
def test_some_answers_in_any_order(kind: str) -> None:
    model, prompts = any_model(kind), drawn_prompts(pictures=kind == "llava")
    rows = rows_of(prompts)
    at = rows.answers()
    kept = torch.randperm(len(at.row), generator=torch.Generator().manual_seed(0))[:7]
    some = Answers(at.row[kept], at.position[kept], at.target[kept], at.n_rows)
    expected = torch.cat([alone(model, row) for row in prompts])[kept]
    found = answer_with_shared_prefix(model, rows, some)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("room", [1, 60_000])
def test_little_memory_changes_nothing(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = any_model("llama")
    rows = rows_of(drawn_prompts(pictures=False))
    whole = answer_with_shared_prefix(model, rows, rows.answers())
    monkeypatch.setattr(model, "budget", MemoryBudget(2 * room))
    calls = passes(model)
    parts = answer_with_shared_prefix(model, rows, rows.answers())
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    assert len(calls) > 2, "everything was read at once"


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_rows_is_read_as_in_whole_rows(kind: str, layer: int, padding: str) -> None:
    model, draw = any_model(kind), torch.Generator().manual_seed(0)
    if kind == "gpt2" and padding == "left":
        pytest.skip("GPT-2 counts its positions from the padding")
    rows = rows_of(drawn_prompts(pictures=False), padding=padding, extra=3)
    at, every, module = (
        rows.answers(),
        torch.arange(len(rows)),
        model.linear(Site(layer, "mlp_out")),
    )
    before = torch.tensor([(at.position[at.row == row].min()) for row in every.tolist()])
    begin = rows.attention_mask.int().argmax(1)
    first = torch.where(every % 3 == 0, begin, torch.maximum(begin, before - every % 4))
    last = torch.zeros_like(first).scatter_reduce(0, at.row, at.position, "amax")
    whole, (part, cut) = model.prefix(rows, layer), rest(model, rows, layer, first, last)
    assert part.hidden.shape[1] == int((last - first).max()) + 1
    vectors = torch.randn(len(rows), whole.hidden.shape[-1], generator=draw)
    moved = replace(at, position=at.position - cut[at.row])
    with add_to_output(module, every, first, vectors, len(rows)):
        expected = model.suffix(whole, at=at)
    some = torch.tensor([5, 2, 7])
    with add_to_output(module, every, first - cut, vectors, len(rows)):
        for _ in range(2):  # a pass leaves the beginning as it is
            torch.testing.assert_close(model.suffix(part, at=moved), expected, rtol=1e-5, atol=1e-5)
    with add_to_output(module, torch.arange(3), (first - cut)[some], vectors[some], 3):
        found = model.suffix(part.select(some), at=moved.select(some))
    order = torch.cat([(at.row == row).nonzero()[:, 0] for row in some.tolist()])
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-5)


def passes(model: EditableModel) -> list[tuple[int, int]]:
    """Filled with (rows, tokens) of every pass through the language model."""
    seen: list[tuple[int, int]] = []

    def note(_module: nn.Module, _args: object, given: dict[str, Tensor]) -> None:
        seen.append(tuple(given["inputs_embeds"].shape[:2]))  # type: ignore[arg-type]

    model.decoder.body.register_forward_pre_hook(note, with_kwargs=True)
    return seen


def test_a_beginning_is_read_once_per_edit() -> None:
    model = any_model("gpt2")
    rows = rows_of(drawn_prompts(pictures=False))
    calls = passes(model)
    answer_with_shared_prefix(model, rows, rows.answers())
    longest_rest = int(
        (rows.attention_mask.sum(1) - shared_lengths(rows, rows.answers(), rows.edit_index)).max()
    )
    assert calls == [(len(SHARED), max(SHARED)), (sum(ROWS), longest_rest)]


def test_what_rows_share_ends_where_they_part_at_a_picture_and_before_an_answer() -> None:
    rows = rows_of(
        [
            Prompt((4, 5, 6, 7, 8), 1, 0),
            Prompt((4, 5, 6, 9, 8, 7), 1, 0),  # they part after three tokens
            Prompt((4, 5, 6, 7), 2, 1),  # alone: all but the token that predicts the first answer
            Prompt((4, 5, 6, 7, 8), 1, 2, picture=0, picture_at=2),
            # the same slots, another picture
            Prompt((4, 5, 6, 7, 8), 1, 2, picture=1, picture_at=2),
            Prompt((4, 5, 6, 7, 8), 3, 3),
            Prompt((4, 5, 6, 7, 8), 1, 3),  # the same tokens, and one row answers earlier
            Prompt((4, 5), 1, 4),
            Prompt((6, 5), 1, 4),
            Prompt((4, 5, 6, 7, 8), 1, 5, picture=0, picture_at=1),
            # the same picture, shared as well
            Prompt((4, 5, 6, 9, 8), 1, 5, picture=0, picture_at=1),
            Prompt((4, 5, 6), 1, 6, picture=0, picture_at=2),  # the answer stands right behind it
        ]
    )
    found = shared_lengths(rows, rows.answers(), rows.edit_index).tolist()
    assert found == [3, 3, 1, 2, 2, 1, 1, 0, 0, 3 + SLOTS, 3 + SLOTS, 2]


def test_pictures_that_were_looked_at_are_not_looked_at_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, prompts = any_model("llava"), drawn_prompts(pictures=True)
    rows = model.encode_pictures(rows_of(prompts))
    expected = torch.cat([alone(model, row) for row in prompts])

    def blind(_pixel_values: Tensor) -> Tensor:
        raise AssertionError("the vision tower ran again")

    monkeypatch.setattr(model, "picture_features", blind)
    found = answer_with_shared_prefix(model, rows, rows.answers())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(AssertionError, match="ran again"):
        answer_with_shared_prefix(model, replace(rows, features=None), rows.answers())


def test_double_precision_stays_double() -> None:
    model, prompts = any_model("opt"), drawn_prompts(pictures=False)
    model.double()
    rows = rows_of(prompts, padding="left")
    found = answer_with_shared_prefix(model, rows, rows.answers())
    expected = torch.cat([alone(model, row) for row in prompts])
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
