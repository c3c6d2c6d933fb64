"""IKE's prompts and scores against the authors' code: text for text, perplexity for perplexity.

The vectors record every random decision (which demonstration is of which type, which paraphrase or
neighbour it shows), so the prompt is rebuilt from them with our functions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from editors.ike.demonstrations import (
    answered_prompt,
    demonstrate_edit,
    demonstration_kinds,
    state_fact,
)
from metrics.functional import negative_log_likelihood
from models.context import answer_with_shared_prefix
from models.rows import TEXT_ONLY, Rows
from tests.parity import vectors
from tests.parity.tiny_models import base_model
from tests.text_model import TextModel

pytestmark = pytest.mark.parity
PATTERN = "ike*.json"
COPY, UPDATE, RETAIN = 0, 1, 2
NAMES = {COPY: "copy", UPDATE: "update", RETAIN: "retain"}


def scoring(path: Path) -> Path:
    """The npz beside it: of `ike_b.json`, `ike_b_scoring.npz` or `ike_scoring_b.npz`."""
    names = (f"{path.stem}_scoring.npz", f"{path.stem.replace('ike', 'ike_scoring', 1)}.npz")
    found = [path.with_name(name) for name in names if path.with_name(name).is_file()]
    assert found, f"{path.name} has no {' or '.join(names)} beside it"
    return found[0]


@pytest.fixture(params=vectors.parameters(PATTERN))
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return found | {"path": request.param}


def fact_of(demo: dict[str, Any]) -> tuple[str, str, str]:
    edit = demo["requested_rewrite"]
    fact = edit["prompt"].format(edit["subject"])
    return fact, edit["target_new"]["str"], edit["target_true"]["str"]


def rebuilt(case: dict[str, Any]) -> list[str]:
    """The demonstrations in the order of the prompt, from the recorded decisions."""
    choices = iter(case["paraphrase_or_neighbour_choice_in_call_order"])
    texts = []
    for number, kind in zip(
        case["corpus_ids_nearest_first"], case["type_per_rank_nearest_first"], strict=False
    ):
        demo = case["demos"][number]
        fact, new, true = fact_of(demo)
        if kind == COPY:
            texts.append(answered_prompt(fact, new, fact, new))
        elif kind == UPDATE:
            texts.append(answered_prompt(fact, new, demo["paraphrase_prompts"][next(choices)], new))
        else:
            texts.append(
                answered_prompt(fact, new, demo["neighborhood_prompts"][next(choices)], true)
            )
    return texts[::-1]


def test_vectors_are_there() -> None:
    vectors.assert_shipped(PATTERN)
    assert all(scoring(path) for path in vectors.files(PATTERN))


def test_demonstrations_and_their_order(case: dict[str, Any]) -> None:
    assert rebuilt(case) == case["demos_in_prompt_order"]
    types = case["type_per_rank_nearest_first"]
    assert sorted(demonstration_kinds(len(types))) == sorted(NAMES[kind] for kind in types)


def test_prompts(case: dict[str, Any]) -> None:
    everything = [*case["demos_in_prompt_order"], case["self_demo"]]
    rewrite = next(one for one in case["cases"] if one["kind"] == "rewrite")
    fact = rewrite["query"].removeprefix("New Fact: ").partition("\n")[0]
    question = rewrite["query"].partition("\nPrompt: ")[2]
    new = fact.removeprefix(question).strip()
    assert demonstrate_edit(question, new) == case["self_demo"]
    for one in case["cases"]:
        asked = one["query"].partition("\nPrompt: ")[2]
        before = "".join(everything[-one["n_demos_used"] :]) + state_fact(question, new)
        text = before + asked
        assert one["text_new"].startswith(text)
        assert one["text_new"].removeprefix(text).startswith(" ")


def test_perplexities(case: dict[str, Any]) -> None:
    arrays = vectors.load(scoring(case["path"]))
    model = TextModel(base_model(vectors.below(arrays, "model.")))
    for one in case["cases"]:
        ids = [
            torch.from_numpy(arrays[f"{one['kind']}.input_ids_{which}"]).long()
            for which in ("new", "true")
        ]
        assert [len(row) for row in ids] == one["n_tokens"]
        rows = side_by_side(ids, one["tgt_len"])
        at = rows.answers()
        nll = negative_log_likelihood(answer_with_shared_prefix(model, rows, at), at.target)
        found = at.row_mean(nll).exp().numpy()
        np.testing.assert_allclose(found, arrays[f"{one['kind']}.ppl"], rtol=1e-5)
        np.testing.assert_allclose(found, [one["ppl_new"], one["ppl_true"]], rtol=1e-5)


def side_by_side(ids: list[Tensor], answers: list[int]) -> Rows:
    """Two targets of one prompt, which shares its beginning."""
    width = max(map(len, ids))
    tokens = torch.zeros(len(ids), width, dtype=torch.int64)
    mask, answer = torch.zeros_like(tokens).bool(), torch.zeros_like(tokens).bool()
    for place, (row, length) in enumerate(zip(ids, answers, strict=True)):
        tokens[place, : len(row)] = row
        mask[place, : len(row)] = True
        answer[place, len(row) - length : len(row)] = True
    index = torch.zeros(len(ids), dtype=torch.int64)
    text_only = torch.full_like(index, TEXT_ONLY)
    return Rows(tokens, mask, answer, torch.zeros_like(mask), text_only, None, index)
