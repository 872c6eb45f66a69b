"""What a call of a judge is estimated to take and to cost, by what earlier ones did."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_scylla
from pytest_scylla.calling.estimates import Estimate, estimates
from pytest_scylla.experiment.journal import MOST_SECONDS, MOST_USD, CallEntry, CallOutcome, call_entry, calls_in
from pytest_scylla.experiment.keeping import Keeping

LARGE, SMALL = "judge-large-1", "judge-small-1"
UNKNOWN = Estimate(None, None)
OUTCOMES: tuple[CallOutcome, ...] = get_args(CallOutcome)
CALL = CallEntry(
    time=datetime(2026, 3, 1, tzinfo=timezone.utc),
    what="judge-call",
    item="T0/00/run_01/judge_01",
    command="claude",
    model=LARGE,
    attempt=1,
    outcome="answered",
    reason=None,
    cost_usd=None,
    usage=None,
    seconds=60.0,
)


MODELS = (LARGE, SMALL)


def cost(model: str, usd: float | None, outcome: CallOutcome = "answered") -> CallEntry:
    """A call that reported a cost."""
    return replace(CALL, model=model, cost_usd=usd, outcome=outcome)


def test_where_nothing_tells_every_model_of_the_configuration_is_unknown() -> None:
    assert estimates(MODELS, (), (), ()) == {LARGE: UNKNOWN, SMALL: UNKNOWN}


def test_of_seconds_and_costs_the_mean_is_taken_for_each_model() -> None:
    timings = [(LARGE, 40.0), (SMALL, 5.0), (LARGE, 50.0)]
    calls = [replace(CALL, seconds=90.0, cost_usd=0.5), replace(CALL, seconds=60.0, cost_usd=0.25)]
    assert estimates(MODELS, iter(timings), (), iter(calls)) == {
        LARGE: Estimate(60.0, 0.375),
        SMALL: Estimate(5.0, None),
    }


def test_what_is_not_known_is_no_zero_in_a_mean() -> None:
    calls = [cost(LARGE, None), cost(LARGE, 0.5), cost(LARGE, None), cost(SMALL, None)]
    found = estimates(MODELS, (), (), calls)
    assert (found[LARGE].cost_usd, found[SMALL].cost_usd) == (0.5, None)


def test_what_costs_nothing_is_known_to_cost_nothing() -> None:
    found = estimates(MODELS, [(SMALL, 0.0)], (), [cost(LARGE, 0.0)])
    assert (found[LARGE].cost_usd, found[SMALL].seconds) == (0.0, 0.0)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_calls_that_were_answered_tell_how_long_one_takes(outcome: CallOutcome) -> None:
    found = estimates(MODELS, (), (), [replace(CALL, outcome=outcome)])
    assert found[LARGE].seconds == (60.0 if outcome == "answered" else None)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_calls_that_ran_to_their_end_tell_what_one_costs(outcome: CallOutcome) -> None:
    found = estimates(MODELS, (), (), [cost(LARGE, 0.25, outcome)])
    assert found[LARGE].cost_usd == (0.25 if outcome in ("answered", "unusable", "timeout") else None)


def test_models_that_the_configuration_does_not_name_are_left_out() -> None:
    assert estimates(MODELS, [("other", 1.0)], (), [cost("another", 1.0)]) == {LARGE: UNKNOWN, SMALL: UNKNOWN}


def test_a_model_that_judges_several_slots_has_one_estimate() -> None:
    found = estimates((LARGE, SMALL, LARGE), [(LARGE, 10.0), (LARGE, 20.0)], (), ())
    assert found == {LARGE: Estimate(15.0, None), SMALL: UNKNOWN}


@pytest.mark.parametrize("seconds", [-1.0, MOST_SECONDS + 1, 1e308, math.inf, -math.inf, math.nan])
def test_a_timing_that_no_call_can_have_taken_is_left_out(seconds: float) -> None:
    assert estimates(MODELS, [(LARGE, seconds), (LARGE, seconds)], (), ())[LARGE] == UNKNOWN
    assert estimates(MODELS, [(LARGE, seconds), (LARGE, 3.0)], (), ())[LARGE].seconds == 3.0


@given(
    st.lists(st.floats(0, MOST_SECONDS), min_size=1),
    st.lists(st.floats(0, MOST_USD), min_size=1),
)
def test_an_estimate_is_the_mean_whatever_the_order(timings: list[float], costs: list[float]) -> None:
    calls = [cost(LARGE, usd, "unusable") for usd in costs]
    found = estimates(MODELS, [(LARGE, seconds) for seconds in timings], (), calls)[LARGE]
    again = estimates(MODELS, [(LARGE, seconds) for seconds in reversed(timings)], (), reversed(calls))[LARGE]
    assert found == again == Estimate(fmean(timings), fmean(costs))


def test_what_the_records_of_an_experiment_tell_of_costs_counts_as_well() -> None:
    found = estimates(MODELS, (), [(LARGE, 0.25), (LARGE, -1.0), (LARGE, math.nan)], [cost(LARGE, 0.75)])
    assert found == {LARGE: Estimate(60.0, 0.5), SMALL: UNKNOWN}


def test_the_journal_of_an_experiment_tells_what_its_calls_took(experiment_dir: Path) -> None:
    experiment = pytest_scylla.load(experiment_dir)
    first, second, third = experiment.config.judge_models
    with Keeping(experiment_dir) as keeping:
        for model, seconds, usd in ((first, 30.0, 0.5), (first, 50.0, 0.25), (second, 20.0, None)):
            keeping.write_journal(
                call_entry(
                    what="judge-call",
                    item="T0/00/run_01/judge_01",
                    command="claude",
                    model=model,
                    attempt=1,
                    outcome="answered",
                    seconds=seconds,
                    cost_usd=usd,
                )
            )
    assert estimates(experiment.config.judge_models, [(second, 40.0)], (), calls_in(experiment.root)) == {
        first: Estimate(40.0, 0.375),
        second: Estimate(30.0, None),
        third: UNKNOWN,
    }
