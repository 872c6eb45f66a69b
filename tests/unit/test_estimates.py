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
from pytest_scylla.experiment.expected import Experiment
from pytest_scylla.experiment.journal import MOST_SECONDS, MOST_USD, CallEntry, CallOutcome, call_entry, calls_in
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.calling.estimates import Estimate, estimates

LARGE, SMALL = "judge-large-1", "judge-small-1"
UNKNOWN = Estimate(None, None)
OUTCOMES: tuple[CallOutcome, ...] = get_args(CallOutcome)
CALL = CallEntry(
    time=datetime(2026, 3, 1, tzinfo=timezone.utc),
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


@pytest.fixture(scope="module")
def experiment(pristine_experiment: Path) -> Experiment:
    """An experiment with two judges."""
    loaded = pytest_scylla.load(pristine_experiment)
    return replace(loaded, config=replace(loaded.config, judge_models=(LARGE, SMALL)))


def cost(model: str, usd: float | None, outcome: CallOutcome = "answered") -> CallEntry:
    """A call that reported a cost."""
    return replace(CALL, model=model, cost_usd=usd, outcome=outcome)


def test_where_nothing_tells_every_model_of_the_configuration_is_unknown(experiment: Experiment) -> None:
    assert estimates(experiment, (), ()) == {LARGE: UNKNOWN, SMALL: UNKNOWN}


def test_of_seconds_and_costs_the_mean_is_taken_for_each_model(experiment: Experiment) -> None:
    timings = [(LARGE, 40.0), (SMALL, 5.0), (LARGE, 50.0)]
    calls = [replace(CALL, seconds=90.0, cost_usd=0.5), replace(CALL, seconds=60.0, cost_usd=0.25)]
    assert estimates(experiment, iter(timings), iter(calls)) == {
        LARGE: Estimate(60.0, 0.375),
        SMALL: Estimate(5.0, None),
    }


def test_what_is_not_known_is_no_zero_in_a_mean(experiment: Experiment) -> None:
    calls = [cost(LARGE, None), cost(LARGE, 0.5), cost(LARGE, None), cost(SMALL, None)]
    found = estimates(experiment, (), calls)
    assert (found[LARGE].cost_usd, found[SMALL].cost_usd) == (0.5, None)


def test_what_costs_nothing_is_known_to_cost_nothing(experiment: Experiment) -> None:
    found = estimates(experiment, [(SMALL, 0.0)], [cost(LARGE, 0.0)])
    assert (found[LARGE].cost_usd, found[SMALL].seconds) == (0.0, 0.0)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_calls_that_were_answered_tell_how_long_one_takes(experiment: Experiment, outcome: CallOutcome) -> None:
    found = estimates(experiment, (), [replace(CALL, outcome=outcome)])
    assert found[LARGE].seconds == (60.0 if outcome == "answered" else None)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_calls_that_ran_to_their_end_tell_what_one_costs(experiment: Experiment, outcome: CallOutcome) -> None:
    found = estimates(experiment, (), [cost(LARGE, 0.25, outcome)])
    assert found[LARGE].cost_usd == (0.25 if outcome in ("answered", "unusable", "timeout") else None)


def test_models_that_the_configuration_does_not_name_are_left_out(experiment: Experiment) -> None:
    assert estimates(experiment, [("other", 1.0)], [cost("another", 1.0)]) == {LARGE: UNKNOWN, SMALL: UNKNOWN}


def test_a_model_that_judges_several_slots_has_one_estimate(experiment: Experiment) -> None:
    config = replace(experiment.config, judge_models=(LARGE, SMALL, LARGE))
    found = estimates(replace(experiment, config=config), [(LARGE, 10.0), (LARGE, 20.0)], ())
    assert found == {LARGE: Estimate(15.0, None), SMALL: UNKNOWN}


@pytest.mark.parametrize("seconds", [-1.0, MOST_SECONDS + 1, 1e308, math.inf, -math.inf, math.nan])
def test_a_timing_that_no_call_can_have_taken_is_left_out(experiment: Experiment, seconds: float) -> None:
    assert estimates(experiment, [(LARGE, seconds), (LARGE, seconds)], ())[LARGE] == UNKNOWN
    assert estimates(experiment, [(LARGE, seconds), (LARGE, 3.0)], ())[LARGE].seconds == 3.0


@given(
    st.lists(st.floats(0, MOST_SECONDS), min_size=1),
    st.lists(st.floats(0, MOST_USD), min_size=1),
)
def test_an_estimate_is_the_mean_whatever_the_order(
    experiment: Experiment, timings: list[float], costs: list[float]
) -> None:
    calls = [cost(LARGE, usd, "unusable") for usd in costs]
    found = estimates(experiment, [(LARGE, seconds) for seconds in timings], calls)[LARGE]
    again = estimates(experiment, [(LARGE, seconds) for seconds in reversed(timings)], reversed(calls))[LARGE]
    assert found == again == Estimate(fmean(timings), fmean(costs))


def test_the_journal_of_an_experiment_tells_what_its_calls_took(experiment_dir: Path) -> None:
    experiment = pytest_scylla.load(experiment_dir)
    first, second, third = experiment.config.judge_models
    with Keeping(experiment_dir) as keeping:
        for model, seconds, usd in ((first, 30.0, 0.5), (first, 50.0, 0.25), (second, 20.0, None)):
            keeping.write_journal(
                call_entry(
                    item="T0/00/run_01/judge_01",
                    command="claude",
                    model=model,
                    attempt=1,
                    outcome="answered",
                    seconds=seconds,
                    cost_usd=usd,
                )
            )
    assert estimates(experiment, [(second, 40.0)], calls_in(experiment.root)) == {
        first: Estimate(40.0, 0.375),
        second: Estimate(30.0, None),
        third: UNKNOWN,
    }
