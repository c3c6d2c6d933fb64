"""What held and what did not, in one line each, for the manifest.

The recipe combines findings that were made one at a time; whether they hold together is a question
of each run. The floors are what makes a finding useful to an editor, not what was reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRACE_FLOOR, ROME_FLOOR, CHAIN_FLOOR = 70.0, 90.0, 80.0
COPY_FLOOR, LOCALITY_FLOOR = 90.0, 90.0


def findings(result: Mapping[str, Any]) -> dict[str, bool]:
    """Statements about an assessed model, and whether they are true of it.

    Args:
        result: of `assess`.

    Returns:
        Statement -> whether it held; statements that a world cannot test are left out.
    """
    accuracy, trace = result["accuracy"], result["causal_trace"]
    rome, ike = result["rome_check"], result["ike_check"]
    held: dict[str, bool] = {}
    if trace:
        low = min(trace["subject_last"][:2])
        held[f"subject_last carries >= {TRACE_FLOOR:.0f} % of facts in layers 0-1"] = (
            low >= TRACE_FLOOR
        )
    for layer, probes in rome.items():
        name = layer.replace("_", " ")
        held[f"ROME at subject_last, {name}: rel and gen >= {ROME_FLOOR:.0f}"] = (
            min(probes["rel"], probes["gen"]) >= ROME_FLOOR
        )
        held |= _at_least(probes, f"ROME at subject_last, {name}")
    if "chain_answer" in accuracy:
        held[f"self-ask chains of unseen pairs: >= {CHAIN_FLOOR:.0f} % by generation"] = (
            accuracy["chain_answer"] >= CHAIN_FLOOR
        )
        held["direct two-hop answers of unseen pairs: above the most frequent answer"] = (
            accuracy["two_hop_direct"] > accuracy["two_hop_majority"]
        )
    for context, probes in ike.items():
        name = f"IKE, {context.removeprefix('demonstrations_')} demonstrations"
        held[f"{name}: rel and gen >= {COPY_FLOOR:.0f}"] = (
            min(probes["rel"], probes["gen"]) >= COPY_FLOOR
        )
        held |= _at_least(probes, name)
    return held


def _at_least(probes: Mapping[str, float], name: str) -> dict[str, bool]:
    """Locality statements: other subjects' answers, and the subject's other facts."""
    kinds = {"loc_rel": "other subjects", "loc_sub": "the subject's other facts"}
    return {
        f"{name}: {spoken} kept >= {LOCALITY_FLOOR:.0f}": probes[kind] >= LOCALITY_FLOOR
        for kind, spoken in kinds.items()
        if kind in probes
    }
