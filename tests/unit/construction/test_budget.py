"""A budget is never passed, whatever comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.construction import BudgetOptions, PriceOptions
from construction.budget import Budget, Usage, estimated, most, price, usage_of
from construction.replies import Reply
from construction.requests import Request, questions
from tests.unit.construction.test_replies import ROW, reply
from tests.unit.construction.test_requests import ENDPOINT, request_of

PRICES = PriceOptions(model="gpt-4o", input=2.5, output=10.0, batch=0.5)
REQUESTS = [request_of(question.step({})) for question in questions(ROW, ENDPOINT)]
FREE = BudgetOptions(dollars=None, tokens=None)


def test_the_price_of_a_million_tokens() -> None:
    assert price(Usage(1, 1_000_000, 1_000_000), PRICES) == 12.5


def test_an_estimate_is_below_the_most() -> None:
    for request in REQUESTS:
        about, at_most = estimated(request, 20), most(request)
        assert 50 < about.input_tokens < at_most.input_tokens
        assert at_most.output_tokens == ENDPOINT.max_tokens


@pytest.mark.parametrize("in_batches", [False, True])
@given(
    share=st.floats(0.1, 6.0),
    taken=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=12, max_size=12),
)
def test_no_budget_is_passed(
    in_batches: bool, share: float, taken: list[tuple[float, float]]
) -> None:
    """Requests take any part of their most; up to three are under way at one time."""
    limit = share * price(most(REQUESTS[0]), PRICES)
    limits = BudgetOptions(dollars=limit, tokens=None)
    budget = Budget(limits, PRICES, in_batches=in_batches)
    under_way: list[Request] = []
    for number, (of_input, of_output) in enumerate(taken):
        request = Request(
            {**REQUESTS[0].body, "seed": number}, "row", "prompt", is_repair=False, attempt=0
        )
        if budget.admit(request):
            under_way.append(request)
        if under_way and len(under_way) == 3:
            done = under_way.pop(0)
            budget.settle(done.key, part_of(most(done), of_input, of_output))
        assert budget.spent.dollars(PRICES) <= limit * (1 + 1e-9)
    for request in under_way:
        budget.settle(request.key, part_of(most(request), 1.0, 1.0))
    assert budget.spent.dollars(PRICES) <= limit * (1 + 1e-9)
    assert not budget.has_reserved


def part_of(usage: Usage, of_input: float, of_output: float) -> Reply:
    tokens = int(of_input * usage.input_tokens), int(of_output * usage.output_tokens)
    return reply("x")._replace(input_tokens=tokens[0], output_tokens=tokens[1])


def test_what_earlier_runs_spent_counts() -> None:
    before = [reply("x")._replace(input_tokens=900, output_tokens=0)]
    limits = BudgetOptions(dollars=None, tokens=1000)
    budget = Budget(limits, PRICES, single=before)
    assert not budget.admit(REQUESTS[0])
    assert "budget.tokens=1000 is reached: 900 are spent" in budget.refusal(REQUESTS[0])


def test_a_batch_costs_a_part() -> None:
    paid = reply("x")._replace(input_tokens=1_000_000, output_tokens=0)
    budget = Budget(FREE, PRICES, single=[paid], batched=[paid])
    assert budget.spent.dollars(PRICES) == 2.5 + 1.25
    assert budget.spent.total == usage_of(paid) + usage_of(paid)


def test_a_request_that_failed_costs_nothing() -> None:
    budget = Budget(BudgetOptions(dollars=None, tokens=most(REQUESTS[0]).tokens), PRICES)
    assert budget.admit(REQUESTS[0])
    assert not budget.admit(REQUESTS[1])
    budget.settle(REQUESTS[0].key, None)
    assert budget.spent.total == Usage()
    assert budget.admit(REQUESTS[0])


def test_a_refusal_says_how_much_more_is_needed() -> None:
    budget = Budget(BudgetOptions(dollars=0.0001, tokens=None), PRICES)
    assert not budget.admit(REQUESTS[0])
    assert "budget.dollars=0.0001 is reached: 0.0000 are spent, and the next request may take" in (
        budget.refusal(REQUESTS[0])
    )
