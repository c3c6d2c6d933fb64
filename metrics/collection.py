"""From scores of single probes to the metrics that a result reports.

`PerEditScores` keeps one score per edit, over batches and processes. `headline_metrics` computes
the named metrics of `metrics.headlines` from such scores: every metric is the unweighted mean over
records of the mean over the record's own probes,

    M = 100/|R| * sum_{r in R} 1/|P_r| * sum_{p in P_r} score(r, p)          (percent)

(TMKE, ICCV 2025, supplementary material), where R holds the records that have such a probe.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.bootstrap import RESAMPLES, Estimate, estimates
from metrics.headlines import Scores, headlines_of, record_means


class PerEditScores(Metric):
    """Mean over edits of one probe's score, in percent.

    A distributed sampler repeats samples to fill its last batch, so scores travel with the number
    of their edit, and an edit that occurs again counts once (the first occurrence). Scores of nan
    (the record has no such probe) are left out.

    >>> metric = PerEditScores()
    >>> metric.update(torch.tensor([0, 1]), torch.tensor([1.0, 0.0]))
    >>> metric.update(torch.tensor([1, 2]), torch.tensor([0.0, 1.0]))  # edit 1 again: padding
    >>> round(metric.compute().item(), 2)
    66.67
    >>> metric.per_edit()
    {0: 1.0, 1: 0.0, 2: 1.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    edit_ids: list[Tensor]
    scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("edit_ids", default=[], dist_reduce_fx="cat")
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self._hold_empty_tensors()

    def update(self, edit_ids: Tensor, scores: Tensor) -> None:
        """Add the scores of a batch.

        Args:
            edit_ids: (B,) integers that name the edits.
            scores: (B,) fractions in [0, 1] or nan.

        Raises:
            ValueError: the shapes differ or the ids are not integers.
        """
        if edit_ids.dim() != 1 or edit_ids.shape != scores.shape:
            raise ValueError(
                "expected one id and one score per edit, got shapes "
                f"{tuple(edit_ids.shape)} and {tuple(scores.shape)}"
            )
        if edit_ids.is_floating_point():
            raise ValueError(f"expected integers as edit ids, got {edit_ids.dtype}")
        self.edit_ids.append(edit_ids.detach().to(self.device, torch.int64))
        self.scores.append(scores.detach().to(self.device, torch.float32))

    def compute(self) -> Tensor:
        """Mean over edits in percent, a float32 scalar; nan without scores."""
        scores = list(self._first_scores().values())
        return torch.tensor(100 * float(np.mean(scores)) if scores else float("nan"))

    def per_edit(self) -> dict[int, float]:
        """Score of each edit, as a fraction, of all processes, in the order of the ids."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self._first_scores()

    def reset(self) -> None:
        """Forget all scores."""
        super().reset()
        self._hold_empty_tensors()

    def _first_scores(self) -> dict[int, float]:
        ids = dim_zero_cat(self.edit_ids).tolist()
        scores = dim_zero_cat(self.scores).tolist()
        # Later items win in a dict, so going backwards keeps the first occurrence of an edit.
        first = dict(zip(reversed(ids), reversed(scores), strict=True))
        return {edit: first[edit] for edit in sorted(first) if not np.isnan(first[edit])}

    def _hold_empty_tensors(self) -> None:
        # torchmetrics gathers a float tensor from a process without scores, which does not go with
        # the int64 ids of the others, so the states start as empty tensors of their own type.
        self.edit_ids.append(torch.empty(0, dtype=torch.int64, device=self.device))
        self.scores.append(torch.empty(0, dtype=torch.float32, device=self.device))


class PerEditLeak(PerEditScores):
    """The same for leaks, the edit's answer given about other entities: less is better."""

    higher_is_better = False


def headline_metrics(
    scores: Scores,
    scenario: str,
    *,
    positional_image_locality: bool = False,
    everywhere: bool = False,
    generation: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """All named metrics of a run, in the order in which they are shown.

    Args:
        scores: per (probe, measure) the score of each edit, fractions in [0, 1], as
            `PerEditScores.per_edit` gives them. Measures that no metric uses are passed over.
        scenario: "unimodal", "transitive" or "multimodal".
        positional_image_locality: see `headlines_of`, as the next two.
        everywhere: localities compare every token of a row.
        generation: adds the generated answers.
        resamples: of the bootstrap over records.
        seed: of the bootstrap.

    Returns:
        Estimates in percent. The contract's metrics are always there, with n = 0 where no record
        has the probe; the parts of Locality only where a record has them.

    Raises:
        ValueError: an unknown scenario, or a probe that the scenario does not have.

    >>> got = headline_metrics({("reliability", "token_accuracy"): {0: 1.0, 1: 0.5}}, "unimodal")
    >>> got["Reliability"].mean, got["Reliability"].n, got["Portability"].n
    (75.0, 2, 0)
    """
    headlines = headlines_of(
        scenario,
        positional_image_locality=positional_image_locality,
        everywhere=everywhere,
        generation=generation,
    )
    known = {probe for headline in headlines for probe in headline.probes}
    unknown = sorted({probe for probe, _ in scores} - known)
    if unknown:
        raise ValueError(
            f"expected probes of the {scenario} scenario ({', '.join(sorted(known))}), got "
            f"{', '.join(unknown)}"
        )
    means: dict[str, list[float]] = {}
    for headline in headlines:
        of_records = list(record_means(scores, headline).values())
        if of_records or not headline.optional:
            means[headline.name] = of_records
    found = estimates(list(means.values()), resamples=resamples, seed=seed, scale=100)
    return dict(zip(means, found, strict=True))
