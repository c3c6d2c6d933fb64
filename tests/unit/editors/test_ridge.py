"""The least-squares update against the dense solve of its definition."""

import pytest
import torch
from torch import Tensor

from editors.ridge import check_solve, dual_keys, ridge_update, solve_bytes
from errors import ModelError
from models.budget import MemoryBudget


def dense_update(keys: Tensor, changes: Tensor, ridge: float) -> Tensor:
    """(K^T K + lambda I)^-1 K^T D, as it is written: (T, d_in), (T, d_out) -> (d_out, d_in)."""
    gram = keys.mT @ keys + ridge * torch.eye(keys.shape[1], dtype=keys.dtype)
    return (torch.linalg.inv(gram) @ keys.mT @ changes).mT


@pytest.mark.parametrize("n_tokens", [1, 3, 6, 17])
def test_factors_equal_the_dense_solve(n_tokens: int) -> None:
    torch.manual_seed(0)
    keys, changes = torch.randn(2, n_tokens, 6).double(), torch.randn(2, n_tokens, 4).double()
    update = ridge_update(keys, changes, torch.tensor([0.5, 2.0]))
    for edit, ridge in enumerate((0.5, 2.0)):
        dense = dense_update(keys[edit], changes[edit], ridge)
        torch.testing.assert_close(update.dense()[edit], dense, rtol=0, atol=1e-12)


def test_padding_tokens_change_nothing() -> None:
    torch.manual_seed(0)
    keys, changes = torch.randn(1, 3, 6).double(), torch.randn(1, 3, 4).double()
    alone = ridge_update(keys, changes, 0.1).dense()
    padded = torch.cat([keys, torch.zeros(1, 2, 6).double()], 1)
    more = torch.cat([changes, torch.randn(1, 2, 4).double()], 1)
    torch.testing.assert_close(ridge_update(padded, more, 0.1).dense(), alone)


def test_gradients_of_the_ridge_and_of_what_is_asked() -> None:
    torch.manual_seed(0)
    keys = torch.randn(1, 3, 5).double()
    changes = torch.randn(1, 3, 4).double().requires_grad_()
    log_ridge = torch.tensor([0.3]).double().requires_grad_()

    def update(changes: Tensor, log_ridge: Tensor) -> Tensor:
        return ridge_update(keys, changes, log_ridge.exp()).dense()

    assert torch.autograd.gradcheck(update, (changes, log_ridge))


def test_the_type_of_the_keys_is_kept_from_single_precision_on() -> None:
    keys = torch.randn(1, 3, 5)
    assert dual_keys(keys, 1.0).dtype == torch.float32
    assert dual_keys(keys.half(), 1.0).dtype == torch.float32
    assert dual_keys(keys.double(), 1.0).dtype == torch.float64


@pytest.mark.parametrize("n_tokens", [3, 9])
def test_a_ridge_that_is_lost_beside_the_keys_is_named(n_tokens: int) -> None:
    """The same key twice: without a ridge the Gram matrix is singular."""
    keys = torch.full((2, n_tokens, 4), 100.0)
    assert bool(ridge_update(keys, torch.ones(2, n_tokens, 3), 1e-3).dense().isfinite().all())
    with pytest.raises(ModelError, match=r"ridge of 1e-20 .* up to 4e\+04.*larger editor\.ridge"):
        ridge_update(keys, torch.ones(2, n_tokens, 3), 1e-20)


def test_no_token_is_no_change() -> None:
    nothing = ridge_update(torch.zeros(2, 0, 4), torch.zeros(2, 0, 3), 1.0)
    assert torch.equal(nothing.dense(), torch.zeros(2, 3, 4))


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (11, "room for 4 keys, about 2 edits. Make fewer edits in one update"),
        (7, "room for 0 keys, about 0 edits. Make fewer edits in all"),
    ],
)
def test_keys_of_earlier_updates_take_room_that_new_ones_lack(room: int, message: str) -> None:
    """Of 6 keys that 3 edits have; 7 stay from before."""
    budget = MemoryBudget(free=solve_bytes(room, d_in=64), device="this GPU")
    check_solve(budget, 4, 64, 2, earlier=7 if room > 7 else 3)
    with pytest.raises(ModelError, match=f"3 edits with 6 keys beside 7 of earlier .*{message}"):
        check_solve(budget, 6, 64, 3, earlier=7)
