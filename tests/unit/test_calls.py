"""The calls of one item: when one is made, what it counts for, and what is told of it."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.calling.calls import Called, Calls, NotGranted, Waiting
from pytest_scylla.calling.estimates import Estimate
from pytest_scylla.calling.failures import CallFailed, CallLimit, CallPermanent, CallTimeout, CallTransient
from pytest_scylla.calling.ledger import Allowance, Ledger, Reservation, Spent
from pytest_scylla.calling.pauses import set_pause
from pytest_scylla.calling.terms import Terms
from pytest_scylla.experiment.keeping import Keeping
from pytest_scylla.experiment.writing import CannotWrite

from .repairing import journal

ITEM, MODEL, COMMAND = "T0/00/run_01/judge_01", "judge-large-1", "scripted"
Kind = type[CallFailed]


@dataclass
class Bench:
    """An experiment, and the calls for one of its items, which end in one way after the other."""

    keeping: Keeping
    terms: Terms
    ways: list[Callable[[], Called[str]]] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.calls = Calls(self.terms, ITEM)

    def make(self, *ways: Callable[[], Called[str]]) -> str | Waiting:
        """Ask for an answer; the calls for it end in these ways."""
        self.ways = [*ways]
        return self.calls.make(self.keeping, MODEL, 1, self._call)

    def _call(self) -> Called[str]:
        self.asked += 1
        return self.ways.pop(0)()

    @property
    def spent(self) -> Spent:
        found = self.terms.ledger.spent()
        assert found is not None
        return found

    @property
    def told(self) -> list[tuple[str, Any]]:
        """What the journal tells of calls, and what each cost, once it has ended."""
        return [(entry.get("outcome", "begun"), entry.get("cost_usd", ...)) for entry in journal(self.keeping.root)]


def bench_with(root: Path, keeping: Keeping, budget: float | None = None, calls: int | None = None) -> Bench:
    terms = Terms("judge-call", Ledger(root, "session", Allowance(budget, calls)), 30.0, 0.0, COMMAND)
    return Bench(keeping, terms)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    """What repairs keep of an experiment with nothing in it."""
    (tmp_path / "exp").mkdir()
    with Keeping(tmp_path / "exp") as opened:
        yield opened


@pytest.fixture
def bench(keeping: Keeping) -> Bench:
    """Calls that may be as many as a test makes."""
    return bench_with(keeping.root, keeping, calls=100)


def answers(cost: Any = 0.25, unusable: str | None = None) -> Callable[[], Called[str]]:
    return lambda: Called("answer", cost, None, unusable)


def fails(kind: Kind, cost: Any = None, then: Callable[[], object] = lambda: None) -> Callable[[], Called[str]]:
    def fail() -> Called[str]:
        then()
        raise kind("it failed", cost_usd=cost)

    return fail


FAILURES = (CallLimit, CallTransient, CallTimeout, CallPermanent)


# Limits that others meet


def test_a_pause_that_is_set_between_two_calls_keeps_the_second_from_being_made(bench: Bench) -> None:
    until = datetime.now(timezone.utc) + timedelta(hours=1)

    def elsewhere() -> None:
        set_pause(bench.keeping, COMMAND, MODEL, until, "met elsewhere")

    assert bench.make(fails(CallTransient, then=elsewhere), answers()) == Waiting(until, "met elsewhere")
    assert bench.asked == 1
    assert bench.spent.calls == 1


# Failures that may pass


def test_one_answer_takes_four_calls_at_most_and_the_next_one_as_many(bench: Bench) -> None:
    for asked in (4, 8):
        with pytest.raises(CallTransient):
            bench.make(*[fails(CallTransient)] * 4)
        assert bench.asked == asked


def test_calls_before_another_one_had_to_go_first_are_among_the_four(keeping: Keeping) -> None:
    bench = bench_with(keeping.root, keeping, budget=1.0)
    ledger = bench.terms.ledger
    elsewhere: list[Reservation] = []

    def begins_elsewhere() -> None:
        answer = ledger.reserve(MODEL, 0.25)
        assert isinstance(answer, Reservation)
        elsewhere.append(answer)

    for _ in range(3):
        assert isinstance(bench.make(fails(CallTransient, cost=0.0, then=begins_elsewhere)), Waiting)
        ledger.settle(elsewhere.pop(), 0.0, "transient")
    with pytest.raises(CallTransient):
        bench.make(fails(CallTransient, cost=0.0))
    assert bench.asked == 4


def test_whatever_else_comes_of_a_call_begins_the_count_anew(bench: Bench) -> None:
    assert bench.make(*[fails(CallTransient)] * 3, answers()) == "answer"
    assert bench.make(*[fails(CallTransient)] * 3, answers()) == "answer"


# What a call counts for


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("cost", [None, 0.0, 0.25])
def test_every_call_that_was_made_counts_and_what_it_cost_is_told_as_far_as_it_is_known(
    keeping: Keeping, kind: Kind, cost: float | None
) -> None:
    bench = bench_with(keeping.root, keeping, calls=1)
    if kind is CallLimit:
        assert isinstance(bench.make(fails(kind, cost)), Waiting)
    else:
        with pytest.raises(NotGranted if kind is CallTransient else kind):
            bench.make(fails(kind, cost))
    assert bench.spent == Spent(1, cost or 0.0, 0.0, int(cost is None))
    assert (bench.calls.made, bench.calls.cost_usd) == (1, cost)
    assert [told for told in bench.told if told[0] != "begun"] == [(kind.__name__[4:].lower(), cost)]


def test_where_nobody_was_called_nothing_counts_and_nothing_was_paid(keeping: Keeping) -> None:
    bench = bench_with(keeping.root, keeping, calls=1)

    def cannot_start() -> Called[str]:
        raise CallPermanent("there is no such command", "all", made=False)

    with pytest.raises(CallPermanent):
        bench.make(cannot_start)
    assert bench.spent == Spent(0, 0.0, 0.0, 0)
    assert (bench.calls.made, bench.calls.cost_usd) == (0, 0.0)
    assert bench.make(answers()) == "answer"


def test_a_limit_that_tells_no_cost_counts_as_what_a_call_is_expected_to_cost(keeping: Keeping) -> None:
    bench = bench_with(keeping.root, keeping, budget=1.0)
    bench.terms.estimates[keeping.root, MODEL] = Estimate(None, 0.25)
    bench.make(fails(CallLimit))
    assert bench.spent == Spent(1, 0.25, 0.0, 1)


def test_what_a_call_is_expected_to_cost_is_that_of_its_experiment(keeping: Keeping, tmp_path: Path) -> None:
    bench = bench_with(keeping.root, keeping, budget=1.0)
    bench.terms.estimates[tmp_path / "another", MODEL] = Estimate(None, 0.75)
    bench.terms.estimates[keeping.root, MODEL] = Estimate(None, 0.25)
    bench.make(fails(CallLimit))
    assert bench.spent.settled_usd == 0.25


@pytest.mark.parametrize("cost", [math.nan, -0.5, math.inf, 1e300, True, "0.25"])
def test_what_is_no_cost_is_not_known(keeping: Keeping, cost: Any) -> None:
    for way in (answers(cost), fails(CallLimit, cost)):
        bench = bench_with(keeping.root, keeping, calls=100)
        bench.make(way)
        assert bench.calls.cost_usd is None
        assert bench.told[-1][1] is None


# What is told


def test_a_call_is_told_of_before_it_is_made_and_when_it_has_ended(bench: Bench) -> None:
    told: list[Any] = []
    bench.make(fails(CallTransient, then=lambda: told.append(bench.told)), answers())
    assert told == [[("begun", ...)]]
    assert bench.told == [("begun", ...), ("transient", None), ("begun", ...), ("answered", 0.25)]
    begun, ended = journal(bench.keeping.root)[:2]
    about = {"item": ITEM, "command": COMMAND, "model": MODEL, "attempt": 1}
    assert begun == {"time": begun["time"], "tool": begun["tool"], "what": "judge-call-begun", **about}
    assert ended == {**ended, "what": "judge-call", **about}


def test_a_call_that_cannot_be_told_of_is_not_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CannotWrite(os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Keeping, "write_journal", refuse)
        with pytest.raises(CannotWrite):
            bench.make(answers())
    assert bench.asked == 0
    assert bench.spent == Spent(0, 0.0, 0.0, 0)
