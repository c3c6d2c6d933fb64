"""How a taught model can be edited: the benchmark's own editors and its causal trace.

The numbers are those of the command line on the same model, such as

    python evaluate.py experiment=demo editor=rome editor.layer=0 scenario=unimodal data.limit=40
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from analysis.causal_trace import TOKENS, Trace, causal_trace
from configs.check import load_config
from configs.schema import EvaluateConfig, PretrainConfig
from datamodules.scenarios import SCENARIOS
from errors import DataError, ModelError
from metrics.collection import headline_metrics
from runner import assembly

log = logging.getLogger(__name__)

EDITS = 40
SCENARIO = "unimodal"
EDITORS = {
    "rome_layer_0": ("editor=rome", "editor.layer=0"),
    "rome_layer_1": ("editor=rome", "editor.layer=1"),
    "ike_0_demonstrations": ("editor=ike", "editor.k=0", "editor.own_copy=false"),
    "ike_4_demonstrations": ("editor=ike", "editor.k=4"),
}
METRICS = (
    "Reliability", "Generality", "Portability", "Locality", "Locality_subject", "Stability",
)  # fmt: skip
TRACED = ("subject_last", "last")

TRACE_FLOOR, EDIT_FLOOR, LOCALITY_FLOOR, CHAIN_FLOOR = 0.7, 90.0, 90.0, 80.0


def measure_editing(cfg: PretrainConfig, folder: Path) -> dict[str, Any]:
    """Edits and traces facts of the test split that a saved model knows.

    Returns:
        `causal_trace` and `editing` of the manifest, both empty for a model that knows no fact.
    """
    device = torch.device("cpu")
    unedited = _configure(cfg, folder, ["editor=none"])
    try:
        parts = assembly.open_parts(unedited, {"test": SCENARIOS[SCENARIO]}, device)
        parts.data.setup("test")
    except DataError as error:
        log.warning("the model was not edited: %s", error)
        return {"causal_trace": {}, "editing": {}}
    facts = parts.data.records("test")
    editing: dict[str, Any] = {"edits": len(facts)}
    for name, words in EDITORS.items():
        try:
            editing[name] = _evaluate(_configure(cfg, folder, words), parts)
        except (DataError, ModelError) as error:  # too few training records, or layers
            log.warning("%s was not measured: %s", name, error)
    trace = causal_trace(parts.model, parts.inputs.encoder, facts)
    return {"causal_trace": _summarise(trace), "editing": editing}


def findings(manifest: Mapping[str, Any]) -> dict[str, bool]:
    """Statements about an assessed model, and whether they are true of it.

    The floors are what makes a finding useful to an editor, not what was reached.

    Args:
        manifest: with `accuracy`, `causal_trace` and `editing`.

    Returns:
        Statement -> whether it held; what was not measured is left out.
    """
    accuracy, trace, editing = (manifest[key] for key in ("accuracy", "causal_trace", "editing"))
    results: dict[str, bool] = {}
    if trace:
        effects = trace["indirect_effect"]["state"]["subject_last"]
        results[f"trace: subject_last brings back >= {TRACE_FLOOR} of the answer in layers 0-1"] = (
            min(effects[:2]) >= TRACE_FLOOR
        )
    if "chain_answer" in accuracy:
        results[f"self-ask chains of unseen pairs: >= {CHAIN_FLOOR:.0f} % by generation"] = (
            accuracy["chain_answer"] >= CHAIN_FLOOR
        )
        results["direct two-hop answers of unseen pairs: above the most frequent answer"] = (
            accuracy["two_hop_direct"] > accuracy["two_hop_majority"]
        )
    for name in [name for name in EDITORS if name in editing]:
        metrics = editing[name]
        label = name.replace("_", " ")
        results[f"{label}: Reliability and Generality >= {EDIT_FLOOR:.0f}"] = (
            min(metrics["Reliability"], metrics["Generality"]) >= EDIT_FLOOR
        )
        for metric in ("Locality", "Locality_subject"):
            if metric in metrics:
                results[f"{label}: {metric} >= {LOCALITY_FLOOR:.0f}"] = (
                    metrics[metric] >= LOCALITY_FLOOR
                )
    return results


def _configure(cfg: PretrainConfig, folder: Path, words: Sequence[str]) -> EvaluateConfig:
    """The evaluation of some edits of the data that the model was taught."""
    scenario = (f"scenario={SCENARIO}", "trainer.enable_progress_bar=false")
    demo = load_config("evaluate", ["experiment=demo", *scenario, *words])
    assert isinstance(demo, EvaluateConfig)
    model = cfg.model.model_copy(update={"path": str(folder)})
    # An alignment by naming reads too few facts from pictures to be asked for them.
    known = "text" if cfg.pretrain.by_naming else "pictures"
    data = cfg.data.model_copy(update={"limit": EDITS, "filter_known": known})
    return demo.model_copy(update={"model": model, "data": data, "seed": cfg.seed})


def _evaluate(cfg: EvaluateConfig, parts: assembly.Parts) -> dict[str, float]:
    """Metrics of an editor in percent."""
    cfg.editor.check_records(parts.data.records("test"), parts.inputs.training)
    assembly.check_base(cfg.editor, cfg.model)
    module = assembly.make_evaluation(cfg, parts, assembly.open_editor(cfg, parts))
    trainer = assembly.make_trainer(cfg.trainer, loggers=(), root=Path(cfg.model.path))
    trainer.test(module, datamodule=parts.data, verbose=False)
    estimates = headline_metrics(module.outcome.scores, SCENARIO)
    return {name: round(estimates[name].mean, 1) for name in METRICS if name in estimates}


def _summarise(trace: Trace) -> dict[str, Any]:
    """Mean probabilities of the first answer token, and what each layer brings back of them."""
    return {
        "facts": trace.facts,
        "clean": round(trace.clean, 3),
        "corrupted": round(trace.corrupted, 3),
        "indirect_effect": {
            kind: {
                token: [round(value, 3) + 0.0 for value in effect[TOKENS.index(token)].tolist()]
                for token in TRACED
            }
            for kind, effect in trace.effect.items()
        },
    }
