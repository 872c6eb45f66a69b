"""What a session's calls may cost, and how many there may be: a budget that all its workers keep together."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_scylla.calling.ledger import Allowance, Ledger, MustWait, Refused, Reservation, Spent
from pytest_scylla.experiment.journal import CallOutcome
from pytest_scylla.experiment.keeping import KEEPING, host_name
from pytest_scylla.experiment.records import Blob, Folder
from pytest_scylla.experiment.schemas import load_schema
from pytest_scylla.experiment.writing import CannotWrite

from .locking import prepare
from .repairing import tree

SESSION = "session-1"
FILE = f"{KEEPING}/budget/{SESSION}.jsonl"
UNKNOWN = "; so it is not known what was spent"
OUTCOMES: tuple[CallOutcome, ...] = get_args(CallOutcome)
RAN_TO_THEIR_END = ("answered", "unusable", "timeout")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An experiment's directory; of what else it holds, a ledger knows nothing."""
    (tmp_path / "exp").mkdir()
    return tmp_path / "exp"


def ledger(root: Path, budget: float | None = None, calls: int | None = None, **rest: Any) -> Ledger:
    """The session's ledger, as every process of the session makes its own."""
    return Ledger(root, rest.pop("session", SESSION), Allowance(budget, calls), **rest)


def reserved(answer: Reservation | Refused | MustWait) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def refused(answer: Reservation | Refused | MustWait) -> Refused:
    assert isinstance(answer, Refused), answer
    return answer


def spend(
    kept: Ledger,
    model: str,
    cost: float | None,
    estimate: float | None = None,
    outcome: CallOutcome = "answered",
) -> Reservation:
    """Make one call from beginning to end."""
    reservation = reserved(kept.reserve(model, estimate))
    kept.settle(reservation, cost, outcome)
    return reservation


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / FILE).read_bytes().splitlines()]


def rewrite(root: Path, number: int, **changes: Any) -> None:
    """Change what a line of the ledger says, by its number from 0; a change to ``...`` takes the key away."""
    entries = lines(root)
    entries[number] = {key: value for key, value in {**entries[number], **changes}.items() if value is not ...}
    (root / FILE).write_text("".join(json.dumps(entry) + "\n" for entry in entries))


# ----------------------------------------------------------------------------------------------------------- the budget


def test_calls_are_granted_as_long_as_they_fit_into_the_budget(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    for _ in range(4):
        assert reserved(kept.reserve("opus", 0.25)).estimate_usd == 0.25
    assert kept.reserve("opus", 0.25) == Refused(
        "budget", "budget of 1.00 USD: 1.00 spent or reserved, the next call is estimated at 0.25"
    )


def test_what_adding_up_loses_refuses_no_call(root: Path) -> None:
    kept = ledger(root, budget=0.3)
    for _ in range(3):
        spend(kept, "opus", 0.1, 0.1)
    assert 0.1 + 0.1 + 0.1 > 0.3
    assert refused(kept.reserve("opus", 0.1)).what == "budget"


def test_a_call_that_does_not_fit_leaves_room_for_a_cheaper_one(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.75, 0.75)
    assert isinstance(kept.reserve("opus", 0.75), Refused)
    assert isinstance(kept.reserve("haiku", 0.25), Reservation)


def test_a_refusal_tells_small_amounts_as_well(root: Path) -> None:
    kept = ledger(root, budget=0.001)
    spend(kept, "haiku", 0.0008, 0.0005)
    assert refused(kept.reserve("haiku", 0.0005)).reason == (
        "budget of 0.0010 USD: 0.0008 spent or reserved, the next call is estimated at 0.0008"
    )


def test_what_a_call_cost_takes_the_place_of_its_estimate(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    first = reserved(kept.reserve("opus", 0.9))
    assert isinstance(kept.reserve("haiku", 0.2), Refused)
    kept.settle(first, 0.1, "answered")
    assert isinstance(kept.reserve("haiku", 0.9), Reservation)
    assert isinstance(kept.reserve("haiku", 0.01), Refused)


def test_what_a_call_cost_beyond_its_estimate_counts_too(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 1.5, 0.1)
    assert refused(kept.reserve("haiku", 0.1)).reason == (
        "budget of 1.00 USD: 1.50 spent or reserved, the next call is estimated at 0.10"
    )


def test_a_cost_that_was_not_reported_counts_as_the_estimate(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", None, 0.75)
    assert kept.spent() == Spent(1, 0.75, 0.0, 1)
    assert isinstance(kept.reserve("opus", 0.5), Refused)
    assert isinstance(kept.reserve("opus", 0.25), Reservation)


@pytest.mark.parametrize("cost", [-0.1, math.nan, math.inf, -math.inf, 1e300, 10**400, True, "0.1"])
def test_a_cost_that_is_none_counts_as_not_reported(root: Path, cost: Any) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", cost, 0.75)
    assert kept.spent() == Spent(1, 0.75, 0.0, 1)
    assert reserved(kept.reserve("opus", 0.25)).estimate_usd == 0.25


def test_the_mean_of_what_calls_of_the_model_cost_in_this_session_is_the_estimate_of_the_next(root: Path) -> None:
    kept = ledger(root, budget=100.0)
    spend(kept, "opus", 0.5, 3.0)
    assert spend(kept, "opus", 1.0, 3.0).estimate_usd == 0.5
    spend(kept, "haiku", 0.01, 0.02)
    spend(kept, "opus", None, 3.0)
    assert reserved(kept.reserve("opus", 3.0)).estimate_usd == 0.75
    assert reserved(kept.reserve("opus", 0.0)).estimate_usd == 0.75
    assert reserved(kept.reserve("haiku", None)).estimate_usd == 0.01
    assert reserved(kept.reserve("sonnet", 3.0)).estimate_usd == 3.0


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_calls_that_ran_to_their_end_tell_what_the_next_one_costs(root: Path, outcome: CallOutcome) -> None:
    kept = ledger(root, budget=100.0)
    spend(kept, "opus", 0.0, 0.25, outcome)
    assert reserved(kept.reserve("opus", 0.25)).estimate_usd == (0.0 if outcome in RAN_TO_THEIR_END else 0.25)


def test_a_failure_that_cost_nothing_does_not_make_calls_that_follow_free(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.0, 0.25, "transient")
    assert [type(kept.reserve("opus", 0.25)) for _ in range(5)] == [*[Reservation] * 4, Refused]


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(("cost", "charged"), [(0.5, 0.5), (0.0, 0.0), (None, 0.25)])
def test_whatever_came_of_a_call_it_counts_as_what_it_cost(
    root: Path, outcome: CallOutcome, cost: float | None, charged: float
) -> None:
    kept = ledger(root, budget=1.0, calls=9)
    spend(kept, "opus", cost, 0.25, outcome)
    assert kept.spent() == Spent(1, charged, 0.0, int(cost is None))


def test_calls_that_cost_nothing_fit_into_a_budget_of_nothing(root: Path) -> None:
    kept = ledger(root, budget=0.0)
    for _ in range(3):
        spend(kept, "local", 0.0, 0.0)
    assert isinstance(kept.reserve("opus", 0.01), Refused)


def test_a_call_that_was_not_made_counts_for_nothing(root: Path) -> None:
    kept = ledger(root, budget=1.0, calls=1)
    kept.withdraw(reserved(kept.reserve("opus", 1.0)))
    assert kept.spent() == Spent(0, 0.0, 0.0, 0)
    assert reserved(kept.reserve("opus", 0.5)).estimate_usd == 0.5


# ------------------------------------------------------------------------------------------------ what is not known yet


def test_where_nothing_is_known_one_call_goes_first_and_the_others_wait_for_what_it_cost(root: Path) -> None:
    kept, other = ledger(root, budget=1.0), ledger(root, budget=1.0)
    first = reserved(kept.reserve("opus", None))
    assert first.estimate_usd is None
    for asking in (kept, other):
        answer = asking.reserve("opus", None)
        assert answer == MustWait('what a call of "opus" costs is not known until the first one has ended')
    kept.settle(first, 0.4, "answered")
    assert reserved(other.reserve("opus", None)).estimate_usd == 0.4
    assert refused(kept.reserve("opus", None)).reason == (
        "budget of 1.00 USD: 0.80 spent or reserved, the next call is estimated at 0.40"
    )


def test_each_model_has_a_first_call_of_its_own(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    reserved(kept.reserve("opus", None))
    reserved(kept.reserve("haiku", None))
    assert isinstance(kept.reserve("opus", None), MustWait)
    assert isinstance(kept.reserve("haiku", None), MustWait)


def test_whoever_knows_what_a_call_costs_need_not_wait_and_the_first_call_counts_as_much(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    reserved(kept.reserve("opus", None))
    assert reserved(kept.reserve("opus", 0.5)).estimate_usd == 0.5
    assert refused(kept.reserve("opus", 0.5)).reason.startswith("budget of 1.00 USD: 1.00 spent or reserved")


@pytest.mark.parametrize("outcome", ["answered", "unusable"])
def test_where_an_answer_reports_no_cost_no_budget_can_be_kept(root: Path, outcome: CallOutcome) -> None:
    kept = ledger(root, budget=2.0)
    spend(kept, "opus", None, outcome=outcome)
    assert kept.reserve("opus", None) == Refused(
        "budget",
        'a budget of 2.00 USD cannot be kept: "opus" reports no cost; limit its calls with --repair-max-calls instead',
    )
    assert isinstance(kept.reserve("haiku", None), Reservation)


FAILURES = [outcome for outcome in OUTCOMES if outcome not in ("answered", "unusable")]


@pytest.mark.parametrize("outcome", FAILURES)
def test_after_a_first_call_that_failed_and_told_no_cost_another_one_goes_first(
    root: Path, outcome: CallOutcome
) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", None, outcome=outcome)
    second = reserved(kept.reserve("opus", None))
    assert second.estimate_usd is None
    assert isinstance(kept.reserve("opus", None), MustWait)
    kept.settle(second, 0.25, "answered")
    assert kept.spent() == Spent(2, 0.5, 0.0, 1)


@pytest.mark.parametrize("outcome", FAILURES)
def test_calls_that_fail_and_tell_no_cost_are_not_made_again_and_again(root: Path, outcome: CallOutcome) -> None:
    kept = ledger(root, budget=2.0)
    for _ in range(4):
        spend(kept, "opus", None, outcome=outcome)
    assert kept.reserve("opus", None) == Refused(
        "budget",
        'a budget of 2.00 USD cannot be kept: 4 calls of "opus" gave no answer, and what they cost is not known; '
        "limit its calls with --repair-max-calls instead",
    )
    assert isinstance(kept.reserve("haiku", None), Reservation)
    assert reserved(kept.reserve("opus", 0.25)).estimate_usd == 0.25


def test_failures_that_cost_nothing_leave_a_first_call_to_be_made(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    for _ in range(9):
        assert spend(kept, "opus", 0.0, outcome="transient").estimate_usd is None
    assert reserved(kept.reserve("opus", None)).estimate_usd is None
    assert isinstance(kept.reserve("opus", None), MustWait)


def test_a_call_of_unknown_cost_counts_as_soon_as_another_one_tells_what_such_a_call_costs(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", None)
    assert kept.spent() == Spent(1, 0.0, 0.0, 1)
    spend(kept, "opus", 0.3, 0.2)
    assert kept.spent() == Spent(2, 0.6, 0.0, 1)
    assert reserved(kept.reserve("haiku", 0.4))
    assert isinstance(kept.reserve("haiku", 0.01), Refused)


def test_after_a_first_call_that_was_not_made_another_one_goes_first(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    kept.withdraw(reserved(kept.reserve("opus", None)))
    assert reserved(kept.reserve("opus", None)).estimate_usd is None
    assert isinstance(kept.reserve("opus", None), MustWait)


def test_a_call_of_unknown_cost_is_not_begun_once_the_budget_is_used_up(root: Path) -> None:
    kept = ledger(root, budget=0.3)
    for _ in range(2):
        spend(kept, "haiku", 0.1, 0.1)
    kept.withdraw(reserved(kept.reserve("opus", None)))
    open_one = reserved(kept.reserve("haiku", 0.1))
    expected = Refused("budget", "budget of 0.30 USD: 0.30 spent or reserved, what the next call costs is not known")
    assert kept.reserve("opus", None) == expected
    kept.settle(open_one, 0.1, "answered")
    assert kept.reserve("opus", None) == expected


@pytest.mark.parametrize("estimate", [-0.1, math.nan, math.inf])
def test_an_estimate_that_is_no_amount_is_none(root: Path, estimate: float) -> None:
    kept = ledger(root, budget=1.0)
    assert reserved(kept.reserve("opus", estimate)).estimate_usd is None
    assert isinstance(kept.reserve("opus", estimate), MustWait)


def test_a_model_is_named_in_printable_words(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    name = "opus\n::error::\ud800"
    first = reserved(kept.reserve(name, None))
    waiting = kept.reserve(name, None)
    assert isinstance(waiting, MustWait)
    assert waiting.reason.isprintable()
    assert '"opus\\n:\\x3aerror:\\x3a\\ud800"' in waiting.reason
    kept.settle(first, None, "answered")
    assert refused(kept.reserve(name, None)).reason.isprintable()


# -------------------------------------------------------------------------------------------------- the number of calls


def test_so_many_calls_are_granted_and_no_more_whether_they_have_ended_or_not(root: Path) -> None:
    kept = ledger(root, calls=3)
    spend(kept, "opus", 0.1)
    spend(kept, "haiku", None)
    reserved(kept.reserve("opus", None))
    assert kept.reserve("haiku", 0.0) == Refused("calls", "at most 3 calls: 3 made or under way")


def test_without_a_budget_no_call_waits_for_what_another_one_costs(root: Path) -> None:
    kept = ledger(root, calls=2)
    reserved(kept.reserve("opus", None))
    reserved(kept.reserve("opus", None))


@pytest.mark.parametrize("most", [0, 1])
def test_few_calls_may_be_none_or_one(root: Path, most: int) -> None:
    kept = ledger(root, calls=most)
    for _ in range(most):
        reserved(kept.reserve("opus", None))
    assert refused(kept.reserve("opus", None)).reason.startswith(f"at most {most} call{'s' * (most == 0)}: {most} made")


def test_of_both_allowances_the_one_that_is_used_up_is_named(root: Path) -> None:
    kept = ledger(root, budget=1.0, calls=2)
    spend(kept, "opus", 0.6, 0.6)
    assert refused(kept.reserve("opus", 0.6)).what == "budget"
    spend(kept, "haiku", 0.1, 0.1)
    assert refused(kept.reserve("haiku", 0.1)).what == "calls"


# ----------------------------------------------------------------------------------- whose process is no longer there


@contextmanager
def gone_process(*, reaped: bool) -> Iterator[int]:
    """The id of a process of this host that was killed, whether or not its parent has looked at its end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process.kill()
    if reaped:
        process.wait()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        yield process.pid
    finally:
        process.wait()


@pytest.mark.parametrize("reaped", [True, False])
def test_nobody_waits_for_a_call_whose_process_is_gone(root: Path, reaped: bool) -> None:
    if not (reaped or Path("/proc/self/stat").exists()):
        pytest.skip("whether a process that nobody waits for has ended is known on Linux only")
    kept = ledger(root, budget=1.0)
    reserved(kept.reserve("opus", None))
    with gone_process(reaped=reaped) as pid:
        rewrite(root, 0, pid=pid)
        assert reserved(kept.reserve("opus", None)).estimate_usd is None
        assert isinstance(kept.reserve("opus", None), MustWait)
        assert kept.spent() == Spent(2, 0.0, 0.0, 1)


def test_a_process_of_another_host_or_user_counts_as_alive(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ledger(root, budget=1.0)
    reserved(kept.reserve("opus", None))
    with gone_process(reaped=True) as pid:
        rewrite(root, 0, pid=pid, host=host_name() + "x")
        assert isinstance(kept.reserve("opus", None), MustWait)
        rewrite(root, 0, host=host_name())

        def refuse(*arguments: int) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "kill", refuse)
        assert isinstance(kept.reserve("opus", None), MustWait)


def test_nobody_waits_for_a_call_longer_than_any_call_takes(root: Path) -> None:
    kept = ledger(root, budget=1.0, stale_after=100.0)
    reserved(kept.reserve("opus", None))
    now = datetime.now(timezone.utc)
    for seconds, age in ((90, MustWait), (-90, MustWait), (110, Reservation), (-110, Reservation)):
        entries = (root / FILE).read_bytes()
        rewrite(root, 0, time=(now - timedelta(seconds=seconds)).isoformat(), host="another")
        assert type(kept.reserve("opus", None)) is age
        (root / FILE).write_bytes(entries)


def test_a_call_whose_process_is_gone_counts_as_its_estimate(root: Path) -> None:
    kept = ledger(root, budget=1.0, calls=2)
    reserved(kept.reserve("opus", 0.6))
    with gone_process(reaped=True) as pid:
        rewrite(root, 0, pid=pid)
        assert kept.spent() == Spent(1, 0.6, 0.0, 1)
        assert refused(kept.reserve("opus", 0.6)).what == "budget"
        reserved(kept.reserve("opus", 0.4))
        assert refused(kept.reserve("opus", 0.0)).what == "calls"


def test_a_call_that_was_given_up_and_ends_after_all_counts_as_what_it_cost(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    late = reserved(kept.reserve("opus", None))
    rewrite(root, 0, time="2026-01-01T00:00:00+00:00")
    second = reserved(kept.reserve("opus", None))
    kept.settle(second, 0.25, "answered")
    assert kept.spent() == Spent(2, 0.5, 0.0, 1)
    kept.settle(late, 0.75, "answered")
    assert kept.spent() == Spent(2, 1.0, 0.0, 0)
    assert isinstance(kept.reserve("opus", None), Refused)


# -------------------------------------------------------------------------------------------------------- what is shown


def test_what_was_spent_tells_what_ended_apart_from_what_is_under_way(root: Path) -> None:
    kept = ledger(root, budget=10.0)
    spend(kept, "opus", 0.5, 0.4)
    spend(kept, "haiku", None, 0.125)
    reserved(kept.reserve("opus", 0.4))
    reserved(kept.reserve("sonnet", None))
    assert ledger(root, budget=10.0).spent() == Spent(calls=4, settled_usd=0.625, reserved_usd=0.5, unknown_calls=1)


def test_before_the_first_call_nothing_was_spent_and_nothing_is_made(root: Path) -> None:
    assert ledger(root, budget=1.0).spent() == Spent(0, 0.0, 0.0, 0)
    assert not list(root.iterdir())


def test_showing_what_was_spent_writes_nothing(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.5, 0.4)
    before = tree(root, but=None)
    kept.spent()
    assert tree(root, but=None) == before


def test_a_line_that_is_just_being_written_is_not_looked_at(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.5, 0.4)
    with (root / FILE).open("ab") as file:
        file.write(b'{"time": "2026-')
    assert kept.spent() == Spent(1, 0.5, 0.0, 0)


def test_of_a_ledger_that_cannot_be_relied_on_nothing_is_told(root: Path, tmp_path: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.5, 0.4)
    rewrite(root, 1, usd=-0.5)
    assert kept.spent() is None
    assert ledger(tmp_path / "gone", budget=1.0).spent() is None


# ------------------------------------------------------------------------------------------------ without any allowance


def test_without_any_allowance_every_call_is_granted_and_nothing_is_written(root: Path) -> None:
    kept = ledger(root)
    for model, estimate in (("opus", None), ("opus", None), ("haiku", 1e6)):
        reservation = reserved(kept.reserve(model, estimate))
        assert (reservation.model, reservation.estimate_usd) == (model, estimate)
        kept.settle(reservation, 1e6, "answered")
    kept.withdraw(reserved(kept.reserve("opus", None)))
    assert kept.spent() is None
    assert not list(root.iterdir())


# ----------------------------------------------------------------------------------------------------- where it is kept


def test_each_session_has_a_ledger_of_its_own(root: Path) -> None:
    one, other = ledger(root, calls=1, session="a"), ledger(root, calls=1, session="b")
    reserved(one.reserve("opus", None))
    reserved(other.reserve("opus", None))
    assert isinstance(one.reserve("opus", None), Refused)
    assert sorted(os.listdir(root / KEEPING / "budget")) == ["a.jsonl", "b.jsonl"]
    assert {"budget-a.lock", "budget-b.lock"} <= set(os.listdir(root / KEEPING / "locks"))


@pytest.mark.parametrize("session", ["", "..", "../../elsewhere", "a b", "a\n", "x" * 65, "\udcff", "é", "a.b"])
def test_a_session_of_any_name_keeps_its_ledger_in_its_place(root: Path, tmp_path: Path, session: str) -> None:
    kept = ledger(root, calls=1, session=session)
    reserved(kept.reserve("opus", None))
    assert isinstance(ledger(root, calls=1, session=session).reserve("opus", None), Refused)
    (name,) = os.listdir(root / KEEPING / "budget")
    assert len(name) == len("0" * 64 + ".jsonl")
    assert os.listdir(tmp_path) == ["exp"]
    reserved(ledger(root, calls=1, session="other").reserve("opus", None))


def test_the_longest_name_of_a_session_is_kept_as_it_is(root: Path) -> None:
    session = "Az09_-" + "x" * 58
    reserved(ledger(root, calls=1, session=session).reserve("opus", None))
    assert os.listdir(root / KEEPING / "budget") == [f"{session}.jsonl"]


def test_a_ledger_tells_who_called_what_when(root: Path) -> None:
    before = datetime.now(timezone.utc)
    kept = ledger(root, budget=1.0)
    reservation = spend(kept, "opus", 0.5, 0.4)
    after = datetime.now(timezone.utc)
    first, second = lines(root)
    assert before <= datetime.fromisoformat(first.pop("time")) <= datetime.fromisoformat(second.pop("time")) <= after
    who = {"call": reservation.call, "model": "opus", "host": host_name(), "pid": os.getpid()}
    assert first == {"what": "reserve", "usd": 0.4, **who}
    assert second == {"what": "settle", "usd": 0.5, "outcome": "answered", **who}


def test_what_came_of_a_call_is_told_in_the_words_of_the_journal() -> None:
    assert tuple(load_schema("ledger-entry")["properties"]["outcome"]["enum"]) == OUTCOMES


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_call_that_cannot_be_reserved_is_not_granted(root: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ledger(root, budget=1.0)
    reservation = reserved(kept.reserve("opus", 0.4))
    before = (root / FILE).read_bytes()

    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        expected = f"^{FILE}: {os.strerror(code)}$".replace(".", r"\.")
        with pytest.raises(CannotWrite, match=expected):
            kept.reserve("opus", 0.4)
        with pytest.raises(CannotWrite, match=expected):
            kept.settle(reservation, 0.1, "answered")
        with pytest.raises(CannotWrite, match=expected):
            kept.withdraw(reservation)
    assert (root / FILE).read_bytes() == before
    assert kept.spent() == Spent(1, 0.0, 0.4, 0)


# ------------------------------------------------------------------------------------------------ it is input like all


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"usd": -0.01}, " /usd: expected at least 0, found -0.01"),
        ({"usd": 1e7}, " /usd: expected at most 1000000, found 10000000.0"),
        ({"usd": "0.5"}, ' /usd: expected number or null, found "0.5"'),
        ({"usd": True}, " /usd: expected number or null, found true"),
        ({"usd": ...}, " /usd: expected this key, found it absent"),
        ({"what": "refund"}, ' /what: expected one of "reserve", "settle", "withdraw", found "refund"'),
        ({"what": "reserve"}, " /call: expected another call than before"),
        ({"model": "haiku"}, " /call: expected a call of this model that is under way"),
        ({"call": "another"}, " /call: expected a call of this model that is under way"),
        ({"time": "soon\n"}, ' /time: expected a moment, found "soon\\n"'),
        ({"pid": 0}, " /pid: expected at least 1, found 0"),
        ({"pid": 2**31}, " /pid: expected at most 2147483647, found 2147483648"),
        ({"outcome": "lost"}, f' /outcome: expected one of {", ".join(map(json.dumps, OUTCOMES))}, found "lost"'),
        ({"outcome": ...}, " /outcome: expected this key, found it absent"),
        ({"host": None}, " /host: expected string, found null"),
    ],
)
@pytest.mark.parametrize(("budget", "calls", "what"), [(9.0, None, "budget"), (9.0, 9, "budget"), (None, 9, "calls")])
def test_an_entry_that_is_not_sound_grants_nothing(
    root: Path, changes: dict[str, Any], told: str, budget: float | None, calls: int | None, what: str
) -> None:
    kept = ledger(root, budget, calls)
    spend(kept, "opus", 0.5, 0.4)
    rewrite(root, 1, **changes)
    answer = refused(kept.reserve("opus", 0.4))
    assert (answer.what, answer.reason) == (what, f"{FILE} line 2{told}{UNKNOWN}")
    assert answer.reason.isprintable()
    assert len(lines(root)) == 2


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b"null", b"{}", b"\xff", b'{"usd": NaN}', b'{"usd": 1e999}', b"{" * 2000, b" "]
)
def test_a_line_that_is_no_entry_grants_nothing(root: Path, line: bytes) -> None:
    kept = ledger(root, budget=9.0)
    spend(kept, "opus", 0.5, 0.4)
    sound = (root / FILE).read_bytes()
    for data in (sound + line + b"\n", sound + line, line + b"\n" + sound):
        (root / FILE).write_bytes(data)
        answer = refused(kept.reserve("opus", 0.4))
        assert answer.reason.startswith(f"{FILE} line {1 if data.endswith(sound) else 3}")
        assert answer.reason.endswith(UNKNOWN)
        assert (root / FILE).read_bytes() == data


def test_no_call_ends_twice_or_after_it_was_not_made(root: Path) -> None:
    kept = ledger(root, budget=9.0)
    whole = spend(kept, "opus", 0.5, 0.4)
    sound = (root / FILE).read_bytes()
    for once_more in (kept.withdraw, lambda reservation: kept.settle(reservation, 0.0, "answered")):
        once_more(whole)
        assert refused(kept.reserve("opus", 0.4)).reason.startswith(f"{FILE} line 3 /call: ")
        (root / FILE).write_bytes(sound)
    other = reserved(kept.reserve("opus", 0.4))
    kept.withdraw(other)
    kept.settle(other, 0.0, "answered")
    assert refused(kept.reserve("opus", 0.4)).reason.startswith(f"{FILE} line 5 /call: ")
    entries = (root / FILE).read_bytes().splitlines(keepends=True)
    (root / FILE).write_bytes(b"".join([*entries[:4], entries[2]]))
    assert refused(kept.reserve("opus", 0.4)).reason.startswith(f"{FILE} line 5 /call: ")


def test_unknown_keys_and_empty_lines_say_nothing(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.5, 0.4)
    rewrite(root, 0, a_later_version={"any": 1})
    with (root / FILE).open("ab") as file:
        file.write(b"\n\n")
    assert reserved(kept.reserve("opus", 0.4)).estimate_usd == 0.5


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "directory"])
def test_what_is_no_file_of_its_own_is_not_written_to(root: Path, tmp_path: Path, kind: str) -> None:
    kept = ledger(root, budget=1.0)
    reservation = reserved(kept.reserve("opus", 0.4))
    other = tmp_path / "other.jsonl"
    (root / FILE).rename(other)
    if kind == "link":
        (root / FILE).symlink_to(other)
    elif kind == "hard link":
        os.link(other, root / FILE)
    elif kind == "pipe":
        os.mkfifo(root / FILE)
    else:
        (root / FILE).mkdir()
    before = other.read_bytes()
    if kind == "hard link":
        with pytest.raises(CannotWrite, match="expected a file with no other name"):
            kept.reserve("opus", 0.4)
    else:
        assert refused(kept.reserve("opus", 0.4)).reason.startswith(f"{FILE}: expected a file, found a ")
        assert kept.spent() is None
    with pytest.raises(CannotWrite):
        kept.settle(reservation, 0.1, "answered")
    assert other.read_bytes() == before


@pytest.mark.parametrize("name", ["", "/budget"])
def test_a_directory_that_is_a_link_is_not_followed(root: Path, tmp_path: Path, name: str) -> None:
    kept = ledger(root, budget=1.0)
    spend(kept, "opus", 0.5, 0.4)
    place = root / f"{KEEPING}{name}"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    before = tree(tmp_path, but=None)
    with pytest.raises(CannotWrite, match="link"):
        kept.reserve("opus", 0.4)
    assert tree(tmp_path, but=None) == before


# ----------------------------------------------------------------------------------------------- many processes at once


@pytest.mark.parametrize(
    ("allowance", "estimate", "second"),
    [(Allowance(1.0, None), 0.6, Refused), (Allowance(None, 1), None, Refused), (Allowance(1.0, None), None, MustWait)],
)
def test_between_looking_and_reserving_nobody_else_reserves(
    root: Path, allowance: Allowance, estimate: float | None, second: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = threading.current_thread()
    answers = []
    other = threading.Thread(target=lambda: answers.append(Ledger(root, SESSION, allowance).reserve("opus", estimate)))
    read_before = Folder.read

    def read(self: Folder, *arguments: Any) -> Blob:
        found = read_before(self, *arguments)
        if threading.current_thread() is first:
            other.start()
            other.join(0.3)  # it cannot get further than to the lock
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "read", read)
        assert isinstance(Ledger(root, SESSION, allowance).reserve("opus", estimate), Reservation)
    other.join(60)
    assert [type(answer) for answer in answers] == [second]


def hold_all(root: str, allowance: Allowance, lock: str, pipe: Connection) -> None:
    """Reserve until nothing is granted any more, and settle when told to."""
    prepare(lock)
    kept = Ledger(Path(root), SESSION, allowance)
    pipe.send("ready")
    pipe.recv()
    granted = []
    while isinstance(answer := kept.reserve("opus", 0.25), Reservation):
        granted.append(answer)
    pipe.send((len(granted), answer))
    pipe.recv()
    for reservation in granted:
        kept.settle(reservation, 0.25, "answered")
    pipe.send("settled")


def call_all(root: str, allowance: Allowance, lock: str, pipe: Connection) -> None:
    """Call until nothing is granted any more; each call costs half of what it was expected to."""
    prepare(lock)
    kept = Ledger(Path(root), SESSION, allowance)
    pipe.send("ready")
    pipe.recv()
    calls = 0
    while isinstance(answer := kept.reserve(f"model of {os.getpid()}", 0.25), Reservation):
        kept.settle(answer, 0.125, "answered")
        calls += 1
    pipe.send(calls)


def ask_once(root: str, allowance: Allowance, lock: str, pipe: Connection) -> None:
    """Ask for one call of unknown cost whenever told to."""
    prepare(lock)
    kept = Ledger(Path(root), SESSION, allowance)
    pipe.send("ready")
    while pipe.recv() != "end":
        pipe.send(kept.reserve("opus", None))


@contextmanager
def racing(work: Any, root: Path, allowance: Allowance, lock: str) -> Iterator[list[Connection]]:
    """Eight processes at work on the session's ledger, all ready to go on."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(8):
        here, there = spawn.Pipe()
        process = spawn.Process(target=work, args=(os.fspath(root), allowance, lock, there), daemon=True)
        process.start()
        there.close()
        pipes.append(here)
        processes.append(process)
    try:
        assert [hear(pipe) for pipe in pipes] == ["ready"] * 8
        yield pipes
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * 8
    finally:
        for process in processes:
            process.kill()


def hear(pipe: Connection) -> Any:
    assert pipe.poll(60)
    return pipe.recv()


def tell(pipes: list[Connection], what: str = "go on") -> None:
    for pipe in pipes:
        pipe.send(what)


@pytest.mark.parametrize(
    ("allowance", "expected", "what", "lock"),
    [
        (Allowance(10.2, None), 40, "budget", "flock"),
        (Allowance(None, 41), 41, "calls", "flock"),
        (Allowance(10.2, 39), 39, "calls", "lease"),
        (Allowance(10.2, 50), 40, "budget", "lease"),
    ],
)
def test_however_many_processes_ask_at_once_just_as_many_calls_are_granted_as_fit(
    root: Path, allowance: Allowance, expected: int, what: str, lock: str
) -> None:
    with racing(hold_all, root, allowance, lock) as pipes:
        tell(pipes)
        granted, answers = zip(*[hear(pipe) for pipe in pipes], strict=True)
        assert sum(granted) == expected
        assert {refused(answer).what for answer in answers} == {what}
        assert Ledger(root, SESSION, allowance).spent() == Spent(expected, 0.0, expected * 0.25, 0)
        tell(pipes)
        assert [hear(pipe) for pipe in pipes] == ["settled"] * 8
    assert Ledger(root, SESSION, allowance).spent() == Spent(expected, expected * 0.25, 0.0, 0)
    assert len(lines(root)) == 2 * expected


@pytest.mark.parametrize(
    ("allowance", "at_least", "at_most"), [(Allowance(5.0, None), 39, 40), (Allowance(9e3, 60), 60, 60)]
)
def test_while_processes_call_at_once_no_more_is_spent_than_fits(
    root: Path, allowance: Allowance, at_least: int, at_most: int
) -> None:
    with racing(call_all, root, allowance, "flock") as pipes:
        tell(pipes)
        calls = sum(hear(pipe) for pipe in pipes)
    assert at_least <= calls <= at_most
    assert Ledger(root, SESSION, allowance).spent() == Spent(calls, calls * 0.125, 0.0, 0)
    reserved_ones: dict[str, float] = {}
    settled = 0.0
    for entry in lines(root):
        if entry["what"] == "reserve":
            reserved_ones[entry["call"]] = entry["usd"]
        else:
            del reserved_ones[entry["call"]]
            settled += entry["usd"]
        assert settled + sum(reserved_ones.values()) <= (allowance.budget_usd or 0)


def test_of_many_processes_that_do_not_know_what_a_call_costs_one_goes_first(root: Path) -> None:
    allowance = Allowance(1.0, None)
    with racing(ask_once, root, allowance, "flock") as pipes:
        tell(pipes)
        answers = [hear(pipe) for pipe in pipes]
        (first,) = [answer for answer in answers if isinstance(answer, Reservation)]
        assert sum(isinstance(answer, MustWait) for answer in answers) == 7
        Ledger(root, SESSION, allowance).settle(first, 0.3, "answered")
        tell(pipes)
        answers = [hear(pipe) for pipe in pipes]
        assert sum(isinstance(answer, Reservation) for answer in answers) == 2
        assert sum(isinstance(answer, Refused) for answer in answers) == 6
        tell(pipes, "end")


def test_a_process_that_is_killed_while_it_calls_holds_nobody(root: Path) -> None:
    kept = ledger(root, budget=1.0)
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=ask_once, args=(os.fspath(root), Allowance(1.0, None), "flock", there))
    process.start()
    assert hear(here) == "ready"
    tell([here])
    assert isinstance(hear(here), Reservation)
    assert isinstance(kept.reserve("opus", None), MustWait)
    process.kill()
    process.join(60)
    assert isinstance(kept.reserve("opus", None), Reservation)


# -------------------------------------------------------------------------------------------------------------- always

USD = st.integers(0, 40).map(lambda cents: cents / 100)


@settings(max_examples=60, deadline=None)
@given(
    budget=USD.map(lambda usd: 5 * usd),
    most=st.integers(0, 12) | st.none(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            USD | st.none(),
            st.sampled_from(["keep", "settle", "withdraw", "lose"]),
            st.sampled_from(OUTCOMES),
        ),
        max_size=25,
    ),
)
def test_whatever_is_asked_in_whatever_order_what_is_granted_fits(
    budget: float,
    most: int | None,
    steps: list[tuple[str, float | None, str, CallOutcome]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("exp")
    kept = ledger(root, budget, most)
    charges: list[float] = []
    unknown = made = 0
    for model, estimate, then, outcome in steps:
        answer = kept.reserve(model, estimate)
        if not isinstance(answer, Reservation):
            assert answer.reason.isprintable()
            continue
        known = answer.estimate_usd
        if then == "withdraw":
            kept.withdraw(answer)
            continue
        made += 1
        if known is None:
            unknown += 1
            assert then != "keep" or isinstance(kept.reserve(model, None), (MustWait, Refused))
        else:
            charges.append(known)
        if then == "settle":
            kept.settle(answer, known, outcome)
        elif then == "lose":
            kept.settle(answer, None, outcome)
        assert math.fsum(charges) <= budget + 1e-6
        assert most is None or made <= most
        spent = kept.spent()
        assert spent is not None
        assert spent.calls == made
        if not unknown:
            assert spent.settled_usd + spent.reserved_usd == pytest.approx(math.fsum(charges))
