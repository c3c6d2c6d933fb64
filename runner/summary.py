"""The content of `summary.json`: the metrics of one evaluation and how they came to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from configs.rundir import settings_that_decide
from configs.schema import EvaluateConfig
from configs.stored import stored_config, training_settings
from datamodules.checking.tally import Tally
from datamodules.datamodule import EditDataModule
from datamodules.prompts import Prompt
from datamodules.reading import naming_counts, naming_question, reading_questions
from datamodules.records import Record, name_key
from datamodules.relations import cluster_of, relation_of
from datamodules.scenarios import DRAWN_FIELDS
from editors.base import Editor
from editors.hub import checkpoint_file
from lightning_modules.evaluation import EvaluationModule
from metrics.bootstrap import Estimate
from metrics.collection import headline_metrics, variant_metrics
from metrics.concentration import Concentration
from metrics.headlines import variant_of
from models.sites import MLP_ROLES
from results import provenance
from results.outcome import Outcome
from runner.assembly import Parts
from runner.caching import total
from runner.learnt import learnt_by, overlap_counts, terms_of_training
from runner.start import Placement

# How rows are read and answers scored, as far as no setting says it; raised where that changes
# numbers, so that no result is half of one and half of another version.
SCORING_VERSION = 5
# The only choices once, which runs of earlier versions did not note.
_CHOSEN_ONCE = {
    "metrics.cluster": "record", "editor.teach_end": False, "editor.matrices": [*MLP_ROLES],
    "editor.sites": None, "editor.layer": None, "editor.breadth_first": False,
    "editor.minibatch": 100, "editor.tie": None, "protocol.turn": 1,
    "protocol.contradictions": "last",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One evaluation, ready to start.

    Attributes:
        parts: data, set up, and base model.
    """

    cfg: EvaluateConfig
    parts: Parts
    editor: Editor
    placement: Placement[EvaluateConfig]

    @property
    def data(self) -> EditDataModule:
        return self.parts.data

    @property
    def n_edits(self) -> int:
        """Edits that are made: all, or as many as the last point of the protocol asks for."""
        points = self.cfg.protocol.n
        return self.data.n_edits("test") if points is None else points[-1]

    def prompts(self) -> Iterator[tuple[int, str, Prompt, Record]]:
        """Every probe of every edit that is made."""
        return (prompt for prompt in self.data.probe_prompts("test") if prompt[0] < self.n_edits)

    @cached_property
    def digests(self) -> dict[str, str | None]:
        """Short hashes of what the numbers depend on."""
        prompts = (
            (number, probe, prompt.question, prompt.answer, prompt.image, *prompt.aliases)
            for number, probe, prompt, _ in self.prompts()
        )
        ckpt = self.cfg.ckpt
        return {
            "data_digest": self.data.source.digest(),
            "model_digest": self.parts.model.fingerprint(),
            "probe_digest": provenance.digest_of(prompts),
            "ckpt_digest": None if ckpt is None else provenance.file_digest(checkpoint_file(ckpt)),
        }

    def identity(self) -> dict[str, Any]:
        """What a continuation of this run must have in common with its beginning.

        `model.dtype=auto` and `trainer.accelerator=auto` count as what they have come to.
        """
        noted = {
            "dtype": str(self.parts.model.hf.dtype).removeprefix("torch."),
            "device": self.placement.device.type,
            "scoring_version": SCORING_VERSION,
        }
        matmul = torch.get_float32_matmul_precision()
        if matmul != "highest":  # which runs of earlier versions had, and did not note
            noted["matmul"] = matmul
        deciding = settings_that_decide(self.cfg.plain())
        for key, once in _CHOSEN_ONCE.items():
            if deciding.get(key) in (once, None):
                deciding.pop(key, None)
        return deciding | noted | self.digests

    def probes(self) -> Iterator[dict[str, object]]:
        """Lines of probes.parquet: what was taught, and what was asked."""
        teach, by = self.data.scenarios["test"].edit, self.cfg.metrics.cluster
        for number, record in enumerate(self.edited):
            for nth, prompt in enumerate(teach(record), 1):
                name = "edit" if nth == 1 else f"edit_{nth}"
                yield _line(number, name, prompt, self.data.taught.marks.of(record)) | {
                    "relation": relation_of(record),
                    "target": record.knowledge_edit.answer_new,
                    "cluster": cluster_of(record, by),
                }
        for number, probe, prompt, record in self.prompts():
            hops = record.hops if probe.startswith("portability") else None
            is_drawn = DRAWN_FIELDS.get(probe) in record.drawn
            line = _line(number, probe, prompt, self.data.taught.marks.of(record), hops, is_drawn)
            yield line | _naming(record, probe, prompt)

    def metrics(self, outcome: Outcome) -> dict[str, Estimate]:
        """The named metrics."""
        return self._made_of(outcome, headline_metrics)

    def variants(self, outcome: Outcome) -> dict[str, Estimate]:
        """Their gains, and their parts by pictures that were read."""
        return self._made_of(outcome, variant_metrics)

    def _made_of(
        self, outcome: Outcome, make: Callable[..., dict[str, Estimate]]
    ) -> dict[str, Estimate]:
        return make(
            outcome.with_hops(self.data.hops("test")),
            self.cfg.scenario.name,
            **variant_of(self.settings()),
            seed=self.cfg.seed,
            clusters=self.clusters,
        )

    @property
    def edited(self) -> Sequence[Record]:
        """The records of the edits that are made, by their number."""
        return self.data.records("test")[: self.n_edits]

    @cached_property
    def clusters(self) -> dict[int, str] | None:
        """Edit -> what its scores are drawn together by; None: each edit is drawn alone."""
        of_edits = ((n, cluster_of(r, self.cfg.metrics.cluster)) for n, r in enumerate(self.edited))
        return {number: cluster for number, cluster in of_edits if cluster is not None} or None

    @cached_property
    def targets(self) -> Concentration | None:
        """How the edits are spread over their targets."""
        spelled: dict[str, str] = {}
        taught = [record.knowledge_edit.answer_new for record in self.edited]
        return Concentration.of(
            Counter(spelled.setdefault(name_key(target), target) for target in taught)
        )

    def settings(self) -> dict[str, Any]:
        """Everything besides editor, model, scenario, data and seed that fixes the numbers."""
        cfg = self.cfg
        return {
            "editor": cfg.editor.model_dump(),
            "data": cfg.data.model_dump(),
            "image_root": str(self.data.source.image_root.resolve()),
            "prompt": cfg.data.prompt,
            "prompt_templates": dict(
                zip(("text", "picture"), self.parts.inputs.encoder.templates, strict=True)
            ),
            "positions": cfg.metrics.positions,
            "locality_i": cfg.metrics.locality_i,
            "generation": cfg.metrics.generation,
            "cluster": cfg.metrics.cluster,
            **({"name_first": True} if cfg.evaluate.name_first else {}),
            "batch_size": self.data.eval_batch_size,
            "dtype": cfg.model.dtype,
            "quantise": cfg.model.quantise,
            "model_revision": cfg.model.revision,
            "device": str(self.placement.device),
            "ckpt": cfg.ckpt,
            "training": None if cfg.ckpt is None else training_settings(stored_config(cfg.ckpt)),
            **self.digests,
            "known_facts": self.data.fact_counts("test"),
        }

    def records(self) -> dict[str, Any]:
        """Where the records come from, by whose licence, and what of them was drawn from others.

        `trained_on` says the same of the records of the checkpoint's training, `shown` of those
        that the editor shows, `overlap` what the edits share with what was learnt from, `check`
        what is worth knowing of the edits.
        """
        edited = self.edited
        drawn = Counter(field for record in edited for field in record.drawn)
        source, ckpt = self.data.source, self.cfg.ckpt
        learnt = learnt_by(ckpt, source, shows_records=self.cfg.editor.shows_records)
        return {
            **source.terms,
            "drawn": dict(sorted(drawn.items())),
            **({"naming": naming_counts(edited)} if self._shows_pictures else {}),
            "with_aliases": sum(bool(r.knowledge_edit.answer_new_aliases) for r in edited),
            "trained_on": None if ckpt is None else terms_of_training(ckpt),
            **({"shown": source.of("train").terms} if self.cfg.editor.shows_records else {}),
            "overlap": overlap_counts(learnt, edited, source),
            "check": Tally.of(edited, self._place).as_dict("test"),
            "targets": self.targets and self.targets.as_dict(),
        }

    @property
    def _shows_pictures(self) -> bool:
        """Whether a probe of any edit shows one."""
        return any(prompt.image is not None for _, _, prompt, _ in self.prompts())

    def _place(self, number: int) -> str:
        """Where the record of an edit stands."""
        return self.data.source.place("test", self.data.served["test"][number])

    def summary(self, module: EvaluationModule) -> dict[str, Any]:
        """Everything that summary.json says of a finished evaluation."""
        cfg, outcome = self.cfg, module.outcome
        return {
            "editor": cfg.editor.label,
            "model": cfg.model.name,
            "scenario": cfg.scenario.name,
            "data": cfg.data.name,
            "n_edits": self.n_edits,
            "records": self.records(),
            "left_out_records": [record._asdict() for record in self.data.left_out("test")],
            "seed": cfg.seed,
            "protocol": cfg.protocol.model_dump(exclude_none=True),
            "settings": self.settings(),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
            "environment": provenance.environment(
                self.placement.device, self.parts.model.dtype, self.placement.processes
            ),
            "metrics": {name: value.as_dict() for name, value in self.metrics(outcome).items()},
            "variants": {name: value.as_dict() for name, value in self.variants(outcome).items()},
            "editor_report": outcome.report,
            "seconds_per_edit": _mean(outcome.seconds),
            "answer_seconds_per_edit": _mean(outcome.answer_seconds),
            "peak_memory_bytes": module.peak_memory_bytes,
            "from_cache": total(module.from_cache),
            "trained_parameters": trained_parameters(self.editor) if cfg.editor.trained else 0,
            "config": cfg.plain(),
            **module.summary_fields(self.metrics),
        }


def _line(
    number: int,
    probe: str,
    prompt: Prompt,
    mark: str | None,
    hops: int | None = None,
    is_drawn: bool = False,
) -> dict[str, object]:
    return {
        "edit_id": number,
        "probe": probe,
        "question": prompt.question,
        "image": prompt.image,
        "hops": hops,
        "mark": mark,
        "drawn": is_drawn,
        "naming": None,
        "naming_built": None,
        "relation": None,
        "target": None,
        "cluster": None,
        "said": None,
    }


def _naming(record: Record, probe: str, prompt: Prompt) -> dict[str, object]:
    """Who the picture of a probe shows: how that is asked, where it is."""
    question = naming_question(record)
    if question is None or reading_questions(record, probe, prompt).naming is None:
        return {}
    return {"naming": question.question, "naming_built": question.is_built}


def trained_parameters(editor: Editor) -> int:
    """Number of weights that training moves."""
    if not isinstance(editor, nn.Module):
        return 0
    fixed: frozenset[str] = getattr(editor, "untrained", frozenset())
    return sum(p.numel() for name, p in editor.named_parameters() if name not in fixed)


def _mean(of_edits: Mapping[Any, float]) -> float | None:
    return sum(of_edits.values()) / len(of_edits) if of_edits else None
