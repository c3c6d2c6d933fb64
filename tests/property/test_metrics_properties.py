"""Scores depend on the answer alone: not on padding, order, batching or the rows beside it."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metrics.bootstrap import bootstrap_ci
from metrics.collection import EditScores
from metrics.functional import (
    IGNORE,
    answer_positions,
    exact_match,
    first_token,
    kl_divergence,
    negative_log_likelihood,
    row_mean,
    token_accuracy,
    token_agreement,
    token_agreement_positional,
)

RUNS = settings(max_examples=50, deadline=None)  # a busy machine must not fail a test
VOCABULARY, TOP = 7, 3
BATCHES = st.tuples(st.integers(1, 5), st.integers(2, 7), st.integers(0, 10_000))


def _batch(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits before and after and labels of rows whose answers have any length, none included."""
    rows, length, seed = shape
    generator = torch.Generator().manual_seed(seed)
    pre = torch.randn(rows, length, VOCABULARY, generator=generator)
    # A small change, so that some of the top tokens stay and some move.
    post = pre + 0.7 * torch.randn(rows, length, VOCABULARY, generator=generator)
    labels = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
    scored = torch.rand(rows, length, generator=generator) < 0.5
    labels[:, 0] = IGNORE
    return pre, post, torch.where(scored, labels, IGNORE)


def _scores(pre: Tensor, post: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Every per-row score, (R,) each."""
    n_rows = len(labels)
    pre_flat, _, _ = answer_positions(pre, labels)
    flat, target, row = answer_positions(post, labels)
    tops = pre_flat.topk(TOP).indices, flat.topk(TOP).indices
    prediction = flat.argmax(-1)
    return {
        "accuracy": token_accuracy(prediction, target, row, n_rows),
        "match": exact_match(prediction, target, row, n_rows),
        "first": first_token(prediction, target, row, n_rows),
        "agreement": token_agreement(*tops, row, n_rows),
        "agreement_3": token_agreement(*tops, row, n_rows, k=TOP),
        "positional": token_agreement_positional(*tops, row, n_rows, k=TOP),
        "kl": row_mean(kl_divergence(pre_flat, flat), row, n_rows),
        "nll": row_mean(negative_log_likelihood(flat, target), row, n_rows),
    }


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], equal_nan=True, msg=name)


def _pad(batch: tuple[Tensor, Tensor, Tensor], left: int, right: int) -> tuple[Tensor, ...]:
    """Padding with logits and labels that would change the scores if they were counted."""
    pre, post, labels = batch
    rows, filler = len(labels), torch.full((len(labels), 1), IGNORE)
    noise = torch.randn(rows, 1, VOCABULARY, generator=torch.Generator().manual_seed(1))
    return (
        torch.cat([*[noise] * left, pre, *[-noise] * right], 1),
        torch.cat([*[-noise] * left, post, *[noise] * right], 1),
        torch.cat([*[filler] * left, labels, *[filler] * right], 1),
    )


@RUNS
@given(BATCHES, st.integers(0, 3), st.integers(0, 3))
def test_padding_side_and_amount_do_not_matter(
    shape: tuple[int, int, int], left: int, right: int
) -> None:
    batch = _batch(shape)
    _same(_scores(*batch), _scores(*_pad(batch, left, right)))


@RUNS
@given(BATCHES, st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(shape: tuple[int, int, int], random: object) -> None:
    batch = _batch(shape)
    order = list(range(shape[0]))
    random.shuffle(order)  # type: ignore[attr-defined]
    permuted = _scores(*(part[order] for part in batch))
    _same({name: value[order] for name, value in _scores(*batch).items()}, permuted)


@RUNS
@given(BATCHES, st.integers(1, 5))
def test_batch_split_does_not_matter(shape: tuple[int, int, int], size: int) -> None:
    batch = _batch(shape)
    pieces = [_scores(*parts) for parts in zip(*(torch.split(p, size) for p in batch), strict=True)]
    _same(_scores(*batch), {name: torch.cat([p[name] for p in pieces]) for name in pieces[0]})


@RUNS
@given(BATCHES)
def test_order_of_the_flat_positions_does_not_matter(shape: tuple[int, int, int]) -> None:
    _, post, labels = _batch(shape)
    logits, target, row = answer_positions(post, labels)
    order = torch.randperm(len(row), generator=torch.Generator().manual_seed(shape[2]))
    prediction = logits.argmax(-1)
    torch.testing.assert_close(
        token_accuracy(prediction[order], target[order], row[order], shape[0]),
        token_accuracy(prediction, target, row, shape[0]),
        equal_nan=True,
    )


@RUNS
@given(BATCHES)
def test_locality_of_an_edit_that_changes_nothing_is_one(shape: tuple[int, int, int]) -> None:
    pre, _, labels = _batch(shape)
    scores = _scores(pre, pre.clone(), labels)
    has_answer = (labels != IGNORE).any(1)
    for name in ("agreement", "agreement_3", "positional"):
        assert scores[name][has_answer].eq(1).all()
        assert scores[name][~has_answer].isnan().all()
    assert scores["kl"][has_answer].eq(0).all()


@RUNS
@given(BATCHES)
def test_scores_keep_their_range_and_order(shape: tuple[int, int, int]) -> None:
    scores = {name: value.nan_to_num(0) for name, value in _scores(*_batch(shape)).items()}
    for name in ("accuracy", "match", "agreement", "agreement_3", "positional"):
        assert ((scores[name] >= 0) & (scores[name] <= 1)).all()
    assert (scores["match"] <= scores["accuracy"]).all()
    assert (scores["positional"] <= scores["agreement_3"] + 1e-6).all()  # ranks are stricter
    assert (scores["kl"] >= -1e-6).all()
    assert (scores["nll"] >= 0).all()


@RUNS
@given(BATCHES)
def test_one_loop_per_position_gives_the_same(shape: tuple[int, int, int]) -> None:
    pre, post, labels = _batch(shape)
    scores = _scores(pre, post, labels)
    for row in range(shape[0]):
        right, kept = [], []
        for t in range(1, shape[1]):
            if labels[row, t] != IGNORE:
                before, after = pre[row, t - 1], post[row, t - 1]
                right.append(int(after.argmax()) == int(labels[row, t]))
                common = set(before.topk(TOP).indices.tolist())
                kept.append(len(common & set(after.topk(TOP).indices.tolist())) / TOP)
        if right:
            assert scores["accuracy"][row].item() == torch.tensor(right).float().mean().item()
            assert scores["match"][row].item() == float(all(right))
            torch.testing.assert_close(scores["agreement_3"][row], torch.tensor(kept).mean())


@RUNS
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12), st.data())
def test_mean_over_edits_ignores_batches_order_and_repeats(
    values: list[float], data: st.DataObject
) -> None:
    column = ("reliability", "token_accuracy")
    whole = EditScores([column])
    whole.update((edit, column, value) for edit, value in enumerate(values))
    repeats = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=5))
    ids = data.draw(st.permutations(range(len(values)))) + repeats
    pieces = EditScores([column])
    size = data.draw(st.integers(1, len(ids)))
    for start in range(0, len(ids), size):
        pieces.update((edit, column, values[edit]) for edit in ids[start : start + size])
    assert pieces.compute() == whole.compute() == {column: dict(enumerate(values))}


@RUNS
@given(st.lists(st.floats(0, 100), min_size=2, max_size=30), st.integers(0, 5))
def test_interval_lies_within_the_scores(values: list[float], seed: int) -> None:
    low, high = bootstrap_ci(values, seed=seed, resamples=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
