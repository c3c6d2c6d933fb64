"""From scores of single probes to the metrics that a result reports.

`EditScores` keeps the score of every (edit, probe, measure), over batches and processes.
`headline_metrics` computes the named metrics of `metrics.headlines` from them: every metric is the
unweighted mean over records of the mean over the record's own probes,

    M = 100/|R| * sum_{r in R} 1/|P_r| * sum_{p in P_r} score(r, p)          (percent)

(TMKE, ICCV 2025, supplementary material), where R holds the records that have such a probe.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metrics.bootstrap import RESAMPLES, Estimate, estimates
from metrics.headlines import Headline, Scores, headlines_of, record_means, variants_of
from metrics.name_first import name_first_metrics, probe_of, with_direct

Column = tuple[str, str]  # probe and measure


class EditScores(Metric):
    """The scores of edits, by probe and measure.

    An edit may reach two processes where there are fewer edits than processes, and a continued run
    may score a batch again: scores travel with the number of their edit, and the first one counts.

    Args:
        columns: the (probe, measure) pairs that are scored.

    >>> scores = EditScores([("reliability", "exact_match"), ("leak_same", "exact_match")])
    >>> scores.update([(0, ("reliability", "exact_match"), 1.0)])
    >>> scores.update([(1, ("reliability", "exact_match"), 0.5),
    ...                (0, ("reliability", "exact_match"), 0.0)])  # edit 0 again
    >>> scores.compute()
    {('reliability', 'exact_match'): {0: 1.0, 1: 0.5}}
    """

    is_differentiable = False
    higher_is_better = None  # each measure says so for itself
    full_state_update = False

    keys: list[Tensor]
    values: list[Tensor]

    def __init__(self, columns: Sequence[Column], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = tuple(columns)
        self._number = {column: number for number, column in enumerate(self.columns)}
        self.add_state("keys", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self._start_empty()

    def update(self, scored: Iterable[tuple[int, Column, float]]) -> None:
        """Adds scores.

        Args:
            scored: number of the edit, column, and a fraction in [0, 1]; nan where a record has
                no such probe.

        Raises:
            KeyError: a column that was not announced.
        """
        entries = list(scored)
        keys = [(edit, self._number[column]) for edit, column, _ in entries]
        values = [value for _, _, value in entries]
        self.keys.append(torch.tensor(keys, dtype=torch.int64, device=self.device).view(-1, 2))
        self.values.append(torch.tensor(values, dtype=torch.float32, device=self.device))

    def compute(self) -> dict[Column, dict[int, float]]:
        """Column -> edit -> fraction, of all processes; edits and columns in order."""
        first: dict[tuple[int, int], float] = {}
        keys, values = dim_zero_cat(self.keys).tolist(), dim_zero_cat(self.values).tolist()
        for (edit, number), value in zip(keys, values, strict=True):
            first.setdefault((number, edit), value)
        scores: dict[Column, dict[int, float]] = {}
        for number, edit in sorted(first):
            scores.setdefault(self.columns[number], {})[edit] = first[number, edit]
        return scores

    def reset(self) -> None:
        """Forgets all scores."""
        super().reset()
        self._start_empty()

    def _start_empty(self) -> None:
        # torchmetrics gathers a float tensor from a process without scores, which does not go with
        # the int64 keys of the others: the states start as empty tensors of their own type.
        self.keys.append(torch.empty(0, 2, dtype=torch.int64, device=self.device))
        self.values.append(torch.empty(0, dtype=torch.float32, device=self.device))


def headline_metrics(
    scores: Scores,
    scenario: str,
    *,
    positional_image_locality: bool = False,
    everywhere: bool = False,
    generation: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Mapping[int, str] | None = None,
) -> dict[str, Estimate]:
    """All named metrics of a run, in the order in which they are shown.

    Args:
        scores: per (probe, measure) the score of each edit, fractions in [0, 1], as
            `EditScores.compute` gives them. Measures that no metric uses are passed over.
        scenario: "unimodal", "transitive" or "multimodal".
        positional_image_locality: see `headlines_of`, as the next two.
        everywhere: localities compare every token of a row.
        generation: adds the generated answers.
        resamples: of the bootstrap over records.
        seed: of the bootstrap.
        clusters: edit -> what it is drawn together by; None: each edit alone.

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
    unknown = sorted({probe for probe, _ in scores if probe_of(probe) not in known})
    if unknown:
        raise ValueError(
            f"expected probes of the {scenario} scenario ({', '.join(sorted(known))}), got "
            f"{', '.join(unknown)}"
        )
    return _estimated(scores, headlines, resamples, seed, clusters)


def variant_metrics(
    scores: Scores,
    scenario: str,
    *,
    positional_image_locality: bool = False,
    everywhere: bool = False,
    generation: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Mapping[int, str] | None = None,
) -> dict[str, Estimate]:
    """What `variants_of` and `name_first_metrics` tell beside each named metric.

    Arguments are those of `headline_metrics`.

    Returns:
        Gains in points, all else in percent; n = 0 where no record has such a probe.

    >>> scores = {("reliability", "exact_match"): {0: 1.0, 1: 1.0},
    ...           ("reliability", "exact_match_before"): {0: 1.0, 1: 0.0}}
    >>> got = variant_metrics(scores, "unimodal")
    >>> got["Reliability_EM_gain"].mean, got["Reliability_gain"].n
    (50.0, 0)
    """
    headlines = headlines_of(
        scenario,
        positional_image_locality=positional_image_locality,
        everywhere=everywhere,
        generation=generation,
    )
    shown = [line for line in headlines if not line.optional or record_means(scores, line)]
    variants = [replace(line, optional=False) for line in variants_of(scenario, shown)]
    by_name = name_first_metrics([*shown, *variants], (probe for probe, _ in scores))
    return _estimated(with_direct(scores), [*variants, *by_name], resamples, seed, clusters)


def _estimated(
    scores: Scores,
    headlines: Iterable[Headline],
    resamples: int,
    seed: int,
    clusters: Mapping[int, str] | None,
) -> dict[str, Estimate]:
    """Metrics by name; an optional one that no record has is left out."""
    means: dict[str, dict[int, float]] = {}
    for headline in headlines:
        of_records = record_means(scores, headline)
        if of_records or not headline.optional:
            means[headline.name] = of_records
    of_metrics = estimates(
        [list(of_records.values()) for of_records in means.values()],
        resamples=resamples,
        seed=seed,
        scale=100,
        clusters=None
        if clusters is None
        else [[clusters[edit] for edit in of_records] for of_records in means.values()],
    )
    return dict(zip(means, of_metrics, strict=True))
