"""Scores of an edited model, as pure functions of its answer positions.

The benchmark scores answers teacher forced: at an answer position t the logits of t - 1 predict
token t (TMKE, ICCV 2025, supplementary material). Every function here works on *flat* positions:
`N` answer positions of a whole batch in any order, and for each the row (one probe of one edit)
that it belongs to. Prompt, padding and picture positions never get here, so nothing has to be
masked, and a score of a row cannot depend on the rows beside it:

    score(r) = 1/|A_r| * sum_{t in A_r} f(t)          A_r: answer positions of row r

Scores are fractions in [0, 1]; the result files report them in percent. Rows without any position
score nan, which `metrics.collection` leaves out of the means.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

IGNORE = -100  # label of a position that is not scored, the convention of torch and transformers


def answer_positions(
    logits: Tensor, labels: Tensor, *, shift: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the answer positions of a padded batch, ready for the other functions of this file.

    Args:
        logits: (B, T, V), any float type.
        labels: (B, T) token ids, -100 where nothing is scored (prompt, pictures, padding).
        shift: True pairs `logits[:, t - 1]` with `labels[:, t]` (causal models); False pairs equal
            positions.

    Returns:
        Logits (N, V), target ids (N,) and row of each position (N,), row by row from left to right.

    Raises:
        ValueError: the shapes do not fit.

    >>> labels = torch.tensor([[-100, 1, 0], [-100, -100, 1]])
    >>> _, target, row = answer_positions(torch.zeros(2, 3, 2), labels)
    >>> target.tolist(), row.tolist()
    ([1, 0, 1], [0, 0, 1])
    """
    if logits.dim() != 3 or logits.shape[:2] != labels.shape:
        raise ValueError(
            f"expected logits (B, T, V) and labels (B, T), got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    row, column = (labels != IGNORE).nonzero(as_tuple=True)  # (N,), (N,)
    return logits[row, column], labels[row, column], row


def row_mean(values: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Mean of the positions of each row.

    Args:
        values: (N,) one number per position; integers and half precision are taken as float32.
        row: (N,) row of each position, integers in [0, n_rows).
        n_rows: number of rows R, also those without a position.

    Returns:
        (R,) means in the unit of `values`; nan for a row without positions.

    Raises:
        ValueError: the shapes differ.

    >>> row_mean(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2]), 3).tolist()
    [2.0, nan, 5.0]
    """
    if values.dim() != 1 or values.shape != row.shape:
        raise ValueError(
            "expected one value and one row per position, got shapes "
            f"{tuple(values.shape)} and {tuple(row.shape)}"
        )
    values = _at_least_float32(values)
    total = values.new_zeros(n_rows).index_add(0, row, values)
    count = values.new_zeros(n_rows).index_add(0, row, torch.ones_like(values))
    return total / count


def token_accuracy(prediction: Tensor, target: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Share of a row's answer tokens that the model predicts.

        accuracy(r) = 1/|A_r| * sum_{t in A_r} [argmax logits(t - 1) = token(t)]

    Source: TMKE, supplementary material (Reliability, Generality, Portability, Stability).

    Args:
        prediction: (N,) predicted ids, `argmax` of the logits.
        target: (N,) ids of the answer that is scored.
        row: (N,) row of each position.
        n_rows: number of rows R.

    Returns:
        (R,) fractions in [0, 1]; nan for a row without positions.

    Raises:
        ValueError: the shapes differ.

    >>> row = torch.tensor([0, 0, 1])
    >>> token_accuracy(torch.tensor([4, 5, 6]), torch.tensor([4, 0, 6]), row, 2).tolist()
    [0.5, 1.0]
    """
    return row_mean(_equal(prediction, target), row, n_rows)


def exact_match(prediction: Tensor, target: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Whether all answer tokens of a row are predicted, the strict twin of `token_accuracy`.

        match(r) = [accuracy(r) = 1]

    Source: the exact-match option of EasyEdit's evaluation; the `acc` of MEND's released code
    (Mitchell et al. 2022) is its mean over rows.

    Args:
        prediction: (N,) predicted ids.
        target: (N,) ids of the answer that is scored.
        row: (N,) row of each position.
        n_rows: number of rows R.

    Returns:
        (R,) values 0 or 1; nan for a row without positions.

    Raises:
        ValueError: the shapes differ.

    >>> row = torch.tensor([0, 0, 1])
    >>> exact_match(torch.tensor([4, 5, 6]), torch.tensor([4, 0, 6]), row, 2).tolist()
    [0.0, 1.0]
    """
    accuracy = token_accuracy(prediction, target, row, n_rows)
    return torch.where(accuracy.isnan(), accuracy, (accuracy == 1).to(accuracy.dtype))


def first_token(prediction: Tensor, target: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Whether the first answer token of a row is predicted.

        first(r) = [argmax logits(t - 1) = token(t)],    t = min A_r

    Teacher forcing gives the later tokens away one by one; the first has the prompt alone to go by,
    and decides what a model says when it answers freely.

    Args:
        prediction: (N,) predicted ids; the positions of a row stand from left to right.
        target: (N,) ids of the answer that is scored.
        row: (N,) row of each position.
        n_rows: number of rows R.

    Returns:
        (R,) values 0 or 1; nan for a row without positions.

    Raises:
        ValueError: the shapes differ.

    >>> row = torch.tensor([0, 1, 0])
    >>> first_token(torch.tensor([4, 5, 6]), torch.tensor([4, 0, 0]), row, 3).tolist()
    [1.0, 0.0, nan]
    """
    correct = _equal(prediction, target)
    if correct.shape != row.shape:
        raise ValueError(
            f"expected one row per position, got {tuple(row.shape)} for {tuple(correct.shape)}"
        )
    after_all = len(row)
    order = torch.arange(after_all, device=row.device)
    first = order.new_full((n_rows,), after_all).scatter_reduce(0, row, order, "amin")
    scores = torch.cat([correct.float(), correct.new_full((1,), torch.nan, dtype=torch.float32)])
    return scores[first]


def token_agreement(
    pre_topk: Tensor, post_topk: Tensor, row: Tensor, n_rows: int, k: int = 1
) -> Tensor:
    """Share of a row's answer positions whose k likeliest tokens the edit left unchanged.

        agreement_k(r) = 1/|A_r| * sum_{t in A_r} |top_k(pre_t) ∩ top_k(post_t)| / k

    The order within the k does not matter; k = 1 compares the likeliest token alone, as the
    benchmark does for Locality_T (TMKE, supplementary material). Always compare with the unedited
    model.

    Args:
        pre_topk: (N, K) ids of the likeliest tokens before the edit, likeliest first, K >= k.
        post_topk: (N, K) the same after the edit.
        row: (N,) row of each position.
        n_rows: number of rows R.
        k: how many of the K are compared.

    Returns:
        (R,) fractions in [0, 1]; nan for a row without positions.

    Raises:
        ValueError: the shapes differ or k is outside 1..K.

    >>> pre, post = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[2, 1], [3, 5]])
    >>> row = torch.tensor([0, 1])
    >>> token_agreement(pre, post, row, 2).tolist()
    [0.0, 1.0]
    >>> token_agreement(pre, post, row, 2, k=2).tolist()
    [1.0, 0.5]
    """
    pre, post = _first_k(pre_topk, post_topk, k)
    common = (pre[:, :, None] == post[:, None, :]).any(-1)  # (N, k)
    return row_mean(common.float().mean(-1), row, n_rows)


def token_agreement_positional(
    pre_topk: Tensor, post_topk: Tensor, row: Tensor, n_rows: int, k: int = 10
) -> Tensor:
    """Share of the k likeliest tokens that kept their rank: the published picture locality.

        agreement(r) = 1/(k |A_r|) * sum_{t in A_r} sum_{i=1..k} [pre_t's i-th = post_t's i-th]

    Two tokens that swap ranks count as two changes, so this is stricter than `token_agreement`.
    Source: the evaluation code of MMEdit, VLKEB and TMKE (k = 10, picture locality).

    Args:
        pre_topk: (N, K) ids of the likeliest tokens before the edit, likeliest first, K >= k.
        post_topk: (N, K) the same after the edit.
        row: (N,) row of each position.
        n_rows: number of rows R.
        k: how many ranks are compared.

    Returns:
        (R,) fractions in [0, 1]; nan for a row without positions.

    Raises:
        ValueError: the shapes differ or k is outside 1..K.

    >>> pre, post = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 3, 2, 4]])
    >>> token_agreement_positional(pre, post, torch.tensor([0]), 1, k=4).tolist()
    [0.5]
    """
    pre, post = _first_k(pre_topk, post_topk, k)
    return row_mean((pre == post).float().mean(-1), row, n_rows)


def kl_divergence(pre_logits: Tensor, post_logits: Tensor) -> Tensor:
    """Divergence of the edited model's next-token distribution from the unedited one's.

        KL(t) = sum_v p(v) (log p(v) - log q(v)),    p = softmax(pre_t), q = softmax(post_t)

    Source: the locality loss of MEND (Mitchell et al. 2022); over the tokens of a whole batch its
    released `kl_loc_loss` is the plain mean of these values.

    Args:
        pre_logits: (N, V) before the edit.
        post_logits: (N, V) after the edit.

    Returns:
        (N,) nats, >= 0, computed in float32 (float64 stays float64); differentiable.

    Raises:
        ValueError: the shapes differ.

    >>> kl_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [0.0]
    """
    if pre_logits.dim() != 2 or pre_logits.shape != post_logits.shape:
        raise ValueError(
            "expected logits (N, V) before and after the edit, got "
            f"{tuple(pre_logits.shape)} and {tuple(post_logits.shape)}"
        )
    log_p = log_softmax(_at_least_float32(pre_logits), dim=-1)
    log_q = log_softmax(_at_least_float32(post_logits), dim=-1)
    return kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def negative_log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """Surprise at each answer token: the loss that MEND and FT train and edit on.

        nll(t) = -log softmax(logits_t)[target_t]

    Its plain mean is `nll` of MEND's released `multiclass_log_probs` (every token weighs the same);
    `row_mean` of it is the mean per row.

    Args:
        logits: (N, V), the ones that predict the target.
        target: (N,) token ids.

    Returns:
        (N,) nats, >= 0, computed in float32 (float64 stays float64); differentiable.

    Raises:
        ValueError: the shapes do not fit.

    >>> negative_log_likelihood(torch.zeros(1, 8), torch.tensor([3])).exp().round().tolist()
    [8.0]
    """
    if logits.dim() != 2 or logits.shape[:1] != target.shape:
        raise ValueError(
            f"expected logits (N, V) and targets (N,), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}"
        )
    return cross_entropy(_at_least_float32(logits), target, reduction="none")


def _equal(prediction: Tensor, target: Tensor) -> Tensor:
    """Position by position, without the broadcasting that would hide a wrong shape."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"expected as many predictions as targets, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    return prediction == target


def _first_k(pre_topk: Tensor, post_topk: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if pre_topk.dim() != 2 or pre_topk.shape != post_topk.shape:
        raise ValueError(
            "expected top tokens (N, K) before and after the edit, got "
            f"{tuple(pre_topk.shape)} and {tuple(post_topk.shape)}"
        )
    if not 1 <= k <= pre_topk.shape[1]:
        raise ValueError(f"expected k in 1..{pre_topk.shape[1]}, the tokens given, got {k}")
    return pre_topk[:, :k], post_topk[:, :k]


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision has too few digits for sums over a vocabulary; float64 is kept."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()
