"""The content of `summary.json`: the metrics of one evaluation and how they came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from configs.schema import EvaluateConfig
from datamodules.datamodule import EditDataModule
from datamodules.tokenisation import PromptEncoder
from lightning_modules import provenance
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.processes import of_all_processes
from metrics.collection import headline_metrics
from models.editable import EditableModel


def summarise(
    cfg: EvaluateConfig,
    data: EditDataModule,
    module: EvaluationModule,
    model: EditableModel,
    encoder: PromptEncoder,
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Everything that summary.json says about the run; called by every process.

    Args:
        cfg: the configuration.
        data: served the edits.
        module: judged them.
        model: the base model.
        encoder: its prompt function.
        rows: `module.gathered_rows()`.
    """
    known = data.known.get("test")
    seconds = {row["edit_id"]: float(row["seconds"]) for row in rows}
    answering = {k: v for one in of_all_processes(module.answer_seconds) for k, v in one.items()}
    return {
        "editor": cfg.editor.label,
        "model": cfg.model.name,
        "scenario": cfg.scenario.name,
        "data": cfg.data.name,
        "n_edits": data.n_edits("test"),
        "seed": cfg.seed,
        "settings": {
            "editor": cfg.editor.model_dump(),
            "data": cfg.data.model_dump(),
            "prompt": cfg.data.prompt,
            "prompt_templates": dict(zip(("text", "picture"), encoder.templates, strict=True)),
            "positions": "answer",
            "locality_i": cfg.metrics.locality_i,
            "batch_size": cfg.evaluate.batch_size,
            "dtype": cfg.model.dtype,
            "quantise": cfg.model.quantise,
            "model_revision": cfg.model.revision,
            "device": str(model.device),
            "ckpt": cfg.ckpt,
            "data_digest": data.source.digest(),
            "model_digest": model.fingerprint(),
            "known_facts": asdict(known) if known else None,
            "git": provenance.git_state(),
        },
        "versions": provenance.versions(),
        "metrics": headline_metrics(
            module.per_edit_scores(),
            cfg.scenario.name,
            positional_image_locality=cfg.metrics.locality_i == "top10_rank",
            seed=cfg.seed,
        ),
        "editor_report": module.report(),
        "seconds_per_edit": _mean(seconds),
        "answer_seconds_per_edit": _mean(answering),
        "peak_memory_bytes": max(of_all_processes(provenance.peak_memory_bytes(model.device))),
    }


def _mean(of_edits: Mapping[Any, float]) -> float | None:
    return sum(of_edits.values()) / len(of_edits) if of_edits else None
