"""Hand-computed values of the pure metric functions, and the inputs that they refuse."""

import math

import pytest
import torch

from metrics.functional import (
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

ROW = torch.tensor([0, 0, 0, 2])
PRE = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]])
POST = torch.tensor([[1, 3, 2], [5, 4, 6], [0, 8, 9], [1, 2, 3]])


def test_accuracy_is_the_share_of_right_tokens_per_row() -> None:
    got = token_accuracy(torch.tensor([5, 6, 9, 1]), torch.tensor([5, 6, 7, 1]), ROW, 3)
    assert got[0].item() == pytest.approx(2 / 3)
    assert math.isnan(got[1])  # a row without positions
    assert got[2] == 1


def test_exact_match_needs_every_token() -> None:
    got = exact_match(torch.tensor([5, 6, 9, 1]), torch.tensor([5, 6, 7, 1]), ROW, 3)
    assert got[0] == 0
    assert math.isnan(got[1])
    assert got[2] == 1


def test_the_first_token_decides_alone() -> None:
    prediction, target = torch.tensor([3, 5, 9, 1, 2]), torch.tensor([3, 5, 4, 7, 2])
    row = torch.tensor([2, 0, 2, 3, 3])  # of row 3 the second token is right, row 1 has none
    got = first_token(prediction, target, row, 4)
    assert got[[0, 2, 3]].tolist() == [1, 1, 0]
    assert got[1].isnan()


def test_agreement_compares_the_likeliest_token_or_the_set() -> None:
    assert token_agreement(PRE, POST, ROW, 3)[[0, 2]].tolist() == pytest.approx([1 / 3, 1])
    # Row 0: {1,2} and {1,3} share one of two, {4,5} and {5,4} both, {7,8} and {0,8} one.
    assert token_agreement(PRE, POST, ROW, 3, k=2)[[0, 2]].tolist() == pytest.approx([2 / 3, 1])
    assert token_agreement(PRE, POST, ROW, 3, k=3)[0].item() == pytest.approx((3 + 3 + 2) / 9)
    assert math.isnan(token_agreement(PRE, POST, ROW, 3)[1])


def test_positional_agreement_counts_a_swap_as_two_changes() -> None:
    got = token_agreement_positional(PRE, POST, ROW, 3, k=3)
    assert got[[0, 2]].tolist() == pytest.approx([(1 + 1 + 2) / 9, 1])
    assert math.isnan(got[1])


def test_positional_agreement_compares_ten_ranks_by_default() -> None:
    pre = torch.arange(12)[None]
    post = pre.clone()
    post[0, 10:] = 99  # beyond the tenth rank
    assert token_agreement_positional(pre, post, torch.tensor([0]), 1).item() == 1
    post[0, 9] = 99
    assert token_agreement_positional(pre, post, torch.tensor([0]), 1).item() == pytest.approx(0.9)


def test_kl_of_two_known_distributions() -> None:
    pre = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    post = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]])) + 3  # a shift changes no softmax
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(pre, post).tolist() == pytest.approx([expected, 0], abs=1e-6)


def test_kl_is_not_symmetric_and_takes_the_unedited_model_as_the_truth() -> None:
    sharp, flat = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    p = 1 / (1 + math.exp(-4))
    expected = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    assert kl_divergence(sharp, flat).item() == pytest.approx(expected, rel=1e-5)
    assert kl_divergence(flat, sharp).item() != pytest.approx(expected, rel=0.1)


def test_nll_of_known_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    got = negative_log_likelihood(logits, torch.tensor([1, 2]))
    assert got.tolist() == pytest.approx([-math.log(0.3), -math.log(0.8)], rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_losses_of_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)).to(dtype)
    target = torch.arange(4)
    nll = negative_log_likelihood(logits, target)
    assert nll.dtype == torch.float32
    assert torch.equal(nll, negative_log_likelihood(logits.float(), target))
    kl = kl_divergence(logits, logits.flip(0))
    assert kl.dtype == torch.float32
    assert torch.equal(kl, kl_divergence(logits.float(), logits.float().flip(0)))


def test_losses_are_differentiable() -> None:
    logits = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        negative_log_likelihood(logits, torch.tensor([0])).sum(), logits
    )
    assert gradient.tolist() == [[-0.5, 0.5]]


def test_answer_positions_shift_logits_against_labels() -> None:
    logits = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    labels = torch.tensor([[-100, 1, -100], [7, -100, 0]])
    got, target, row = answer_positions(logits, labels)
    # The label at position 0 has no logits before it.
    assert (target.tolist(), row.tolist()) == ([1, 0], [0, 1])
    assert got.tolist() == [logits[0, 0].tolist(), logits[1, 1].tolist()]
    got, target, row = answer_positions(logits, labels, shift=False)
    assert (target.tolist(), row.tolist()) == ([1, 7, 0], [0, 1, 1])
    assert got.tolist() == [logits[0, 1].tolist(), logits[1, 0].tolist(), logits[1, 2].tolist()]


def test_no_positions_at_all() -> None:
    empty = torch.zeros(0, dtype=torch.long)
    for score in (token_accuracy, exact_match, first_token):
        assert score(empty, empty, empty, 2).isnan().all()
    assert row_mean(torch.zeros(0), empty, 0).shape == (0,)


def test_shapes_that_would_broadcast_are_refused() -> None:
    one, two = torch.tensor([1]), torch.tensor([1, 2])
    with pytest.raises(ValueError, match="as many predictions"):
        token_accuracy(one, two, two, 2)
    with pytest.raises(ValueError, match="one row per position"):
        row_mean(torch.ones(2), one, 1)
    with pytest.raises(ValueError, match="one row per position"):
        first_token(two, two, one, 1)
    with pytest.raises(ValueError, match="before and after"):
        token_agreement(PRE, POST[:1], ROW, 3)
    with pytest.raises(ValueError, match="before and after"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="targets"):
        negative_log_likelihood(torch.zeros(2, 3), one)
    with pytest.raises(ValueError, match="labels"):
        answer_positions(torch.zeros(2, 3, 4), torch.zeros(2, 4))


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_given_tokens_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=r"k in 1\.\.3"):
        token_agreement(PRE, POST, ROW, 3, k=k)
    with pytest.raises(ValueError, match=r"k in 1\.\.3"):
        token_agreement_positional(PRE, POST, ROW, 3, k=k)
