"""FT's tie: an edit in text changes the same where a picture of its subject is asked about.

    loss_e = NLL_e + w T_e,    T_e = 1/n sum_t |dh(k'_t) - dh(k_t)|^2 / |dh(k_t)|^2

k_t is the key of answer token t, what enters the edited MLP of the last layer there; k'_t is that
of the question about the picture, behind which the same answer stands. dh is what the edit changes
of the layer's output. The denominator counts as a constant, so that the change in text is not
enlarged for it. NLL, and whether an edit is done, are of the question in text alone.

Source: this project; no paper has it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editors.answer_descent import losses_of
from editors.answering import ByLastMLP
from editors.ft.config import FtOptions
from editors.teaching import Lessons
from metrics.functional import row_mean
from models.deltas import Deltas
from models.rows import Answers

SMALLEST = 1e-6  # of the squared change in text, before which nothing is tied


def tied_losses(
    answers: ByLastMLP, before: Tensor, deltas: Deltas, under: Tensor, options: FtOptions
) -> tuple[Tensor, Tensor]:
    """Losses of edits whose text questions are tied to those about their pictures.

    Args:
        answers: of each edit two rows, the text question and the one about the picture.
        before: (N, d) `answers.before`.
        deltas: of the edited maps.
        under: (E,) the number in `deltas` of each edit.
        options: the weight of the tie, and when an edit is done.

    Returns:
        Losses (E,), whether done (E,).
    """
    assert options.tie is not None
    n_edits, at = answers.lessons.n_edits, answers.lessons.at
    edits = torch.arange(n_edits, device=at.row.device)
    text = Lessons(at.select(2 * edits), edits, n_edits)
    outputs = answers.outputs(deltas, under)
    logits = answers.model.predicted(outputs[at.row % 2 == 0])
    losses, done = losses_of(logits, text, options)
    distances = tie_distances(outputs - before, at)
    return losses + options.tie * distances.to(losses.dtype), done


def tie_distances(change: Tensor, at: Answers) -> Tensor:
    """How far edits change something else about the picture than in text: T (E,).

    Args:
        change: (N, d) of the layer's output at each answer token.
        at: the answer tokens of two rows of each edit, in text and about the picture. Where one has
            fewer tokens, those are compared.
    """
    place = at.position - at.prompt_end[at.row]  # along each answer
    key = at.row // 2 * (place.max() + 1) + place
    is_text = at.row % 2 == 0
    in_text = is_text & torch.isin(key, key[~is_text])
    about_picture = ~is_text & torch.isin(key, key[is_text])
    text, picture = change[in_text], change[about_picture]
    size = text.detach().square().sum(-1).clamp_min(SMALLEST)
    distance = (picture - text).square().sum(-1) / size
    return row_mean(distance, at.row[in_text] // 2, at.n_rows // 2)
