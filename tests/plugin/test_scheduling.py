"""How items are handed out to xdist's workers: a run to one worker, nothing twice, whatever dies."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdist.remote import Producer  # type: ignore[import-untyped]

from pytest_scylla.scheduling import Distribution, RunScheduling

from .support import (
    FREE,
    Project,
    counted_ids,
    damaged_for_free,
    damaged_in_several_ways,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    lose_judgment,
    node_id,
    node_ids,
    outcomes,
    printed,
    report_of_repair,
    without_durations,
    without_times,
)

REPORT = "--scylla-report=report.json"


def run(name: str, items: int = 4) -> list[str]:
    """The node ids of a run of the experiment exp."""
    return [f"exp/{name}::judge_{number:02d}" for number in range(1, items)] + [f"exp/{name}::run"]


def runs(names: str, items: int = 4) -> list[str]:
    return [nodeid for name in names for nodeid in run(name, items)]


CHECKPOINT, AGGREGATES = "exp/checkpoint::checkpoint", "exp/aggregates::aggregates"


def others(count: int) -> list[str]:
    return [f"test_a.py::test_{number}" for number in range(count)]


def is_whole(nodeid: str) -> bool:
    return nodeid.endswith(("::checkpoint", "::aggregates"))


@dataclass(eq=False)
class Worker:
    """A worker as xdist's is: it starts an item once it knows which is next, or that none is."""

    name: str
    collection: list[str]
    queue: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    shutting_down: bool = False
    unreachable: bool = False

    @property
    def gateway(self) -> SimpleNamespace:
        return SimpleNamespace(id=self.name)

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        if self.unreachable:
            raise OSError("cannot send (already closed?)")
        assert not self.shutting_down
        self.queue += [self.collection[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def able_to_start(self) -> bool:
        return len(self.queue) >= 2 or (self.shutting_down and bool(self.queue))

    @property
    def ended(self) -> bool:
        return self.shutting_down and not self.queue


class Session:
    """What xdist does with a scheduler, without processes; and which items were completed, or crashed."""

    def __init__(self, collection: list[str], workers: int, maxschedchunk: int | None = None) -> None:
        self.reports: list[pytest.CollectReport] = []
        self.completed: list[str] = []
        self.crashed: list[str] = []
        self.collection = collection
        self.workers: list[Worker] = []
        self.everybody: list[Worker] = []
        config = SimpleNamespace(
            getoption={"maxschedchunk": maxschedchunk}.__getitem__,
            hook=SimpleNamespace(pytest_collectreport=lambda report: self.reports.append(report)),
        )
        log = Producer("test", enabled=False)
        self.scheduler = RunScheduling(cast(Any, config), log, lambda i: i if i.startswith("exp/") else None, workers)
        assert not self.scheduler.collection_is_completed
        assert not self.scheduler.tests_finished

    @classmethod
    def begun(cls, collection: list[str], workers: int, maxschedchunk: int | None = None) -> Session:
        session = cls(collection, workers, maxschedchunk)
        for _ in range(workers):
            session.add_worker()
        for worker in session.workers:
            session.collected(worker)
        return session

    def add_worker(self, collection: list[str] | None = None) -> Worker:
        worker = Worker(f"gw{len(self.everybody)}", self.collection if collection is None else collection)
        self.workers.append(worker)
        self.everybody.append(worker)
        self.scheduler.add_node(worker)
        return worker

    def collected(self, worker: Worker) -> None:
        self.scheduler.add_node_collection(worker, worker.collection)
        if self.scheduler.collection_is_completed:
            self.scheduler.schedule()

    def run_one(self, worker: Worker) -> None:
        assert worker.able_to_start
        nodeid = worker.queue.pop(0)
        worker.started.append(nodeid)
        if is_whole(nodeid):
            assert {*self.completed, *self.crashed} >= {other for other in self.collection if not is_whole(other)}
        self.completed.append(nodeid)
        self.scheduler.mark_test_complete(worker, worker.collection.index(nodeid), 0.0)
        self.end_those_that_may()

    def end_those_that_may(self) -> None:
        for worker in [worker for worker in self.workers if worker.ended]:
            self.workers.remove(worker)
            if worker in self.scheduler.nodes:
                assert self.scheduler.remove_node(worker) is None

    def crash(self, worker: Worker, *, replace: bool = True) -> None:
        """Let a worker die in the middle of its first item, if it could start that; another takes its place."""
        started = worker.queue[:1] if worker.able_to_start or not is_whole("".join(worker.queue)) else []
        worker.unreachable = worker.shutting_down = True
        worker.started += started
        self.workers.remove(worker)
        crashed = self.scheduler.remove_node(worker)
        assert crashed == (started[0] if started else None)
        self.crashed += started
        if replace:
            self.collected(self.add_worker())

    def finish(self) -> None:
        """Run everything; it is a mistake of the scheduler if that ends with an item, or a worker, left over."""
        self.end_those_that_may()
        while able := [worker for worker in self.workers if worker.able_to_start]:
            self.run_one(able[0])
        assert self.scheduler.tests_finished
        assert not self.scheduler.has_pending
        assert not self.workers
        assert sorted(self.completed + self.crashed) == sorted(self.collection)

    def take_turns(self) -> None:
        """Let every worker run an item, and again, to the end."""
        self.end_those_that_may()
        while able := [worker for worker in self.workers if worker.able_to_start]:
            for worker in able:
                self.run_one(worker)

    def shares(self) -> list[list[str]]:
        return [worker.started for worker in self.everybody]


# Which worker gets what


def test_a_run_is_run_by_one_worker_in_order() -> None:
    session = Session.begun(runs("abcde"), workers=2)
    session.take_turns()
    session.finish()
    assert session.shares() == [runs("ace"), runs("bd")]


def test_a_worker_is_sent_two_items_and_of_the_next_run_no_more_than_it_needs() -> None:
    session = Session.begun(runs("abc"), workers=2)
    first, second = session.workers
    assert (first.queue, second.queue) == (run("a")[:2], run("b")[:2])
    session.run_one(first)
    session.run_one(first)
    assert first.queue == run("a")[2:]
    session.run_one(first)
    assert first.queue == [run("a")[3], run("c")[0]]
    assert second.queue == run("b")[:2]


def test_the_next_run_goes_to_whoever_is_free_first() -> None:
    session = Session.begun(runs("abcd"), workers=2)
    first, second = session.workers
    for _ in range(8):
        session.run_one(second)
    session.finish()
    assert first.started == run("a")
    assert second.started == runs("bcd")


@pytest.mark.parametrize("items", [1, 2, 4])
def test_each_worker_gets_a_run_before_any_gets_a_second(items: int) -> None:
    session = Session.begun(runs("abcd", items), workers=4)
    assert [worker.queue[0] for worker in session.workers] == [run(name, items)[0] for name in "abcd"]
    assert all(worker.able_to_start for worker in session.workers)
    session.finish()
    assert session.shares() == [run(name, items) for name in "abcd"]


def test_runs_of_one_item_are_looked_ahead_to_by_as_few_workers_as_there_are_of_them() -> None:
    session = Session.begun(runs("abcdef", 1), workers=4)
    assert [len(worker.queue) for worker in session.workers] == [2, 2, 1, 1]
    assert [worker.shutting_down for worker in session.workers] == [False, False, True, True]
    session.finish()


def test_workers_beyond_the_number_of_runs_are_told_to_end() -> None:
    session = Session.begun(runs("ab"), workers=4)
    assert [worker.ended for worker in session.workers] == [False, False, True, True]
    session.finish()
    assert session.shares() == [run("a"), run("b"), [], []]


def test_a_single_item_is_run() -> None:
    session = Session.begun(run("a", 1), workers=2)
    session.finish()


def test_nothing_to_run_ends_the_session() -> None:
    session = Session.begun([], workers=2)
    assert session.scheduler.tests_finished
    assert all(worker.ended for worker in session.workers)
    session.finish()


def test_items_of_a_run_that_were_collected_apart_stay_together() -> None:
    a, b = run("a"), run("b")
    session = Session.begun([a[2], *b[:2], *a[:2], *b[2:], a[3]], workers=2)
    session.finish()
    assert session.shares() == [[a[2], *a[:2], a[3]], b]


def test_no_worker_is_given_an_item_before_it_has_collected() -> None:
    session = Session(runs("abc"), workers=2)
    first, second = session.add_worker(), session.add_worker()
    session.collected(first)
    assert not session.scheduler.collection_is_completed
    session.crash(first)  # its collection and that of its replacement make two
    assert session.scheduler.collection_is_completed
    assert not second.queue
    assert not second.shutting_down
    session.collected(second)
    assert second.able_to_start
    session.finish()


def test_a_worker_that_dies_before_it_has_collected_is_waited_for() -> None:
    session = Session(runs("abc"), workers=2)
    first, second = session.add_worker(), session.add_worker()
    session.collected(first)
    session.crash(second, replace=False)
    assert not session.scheduler.tests_finished
    assert not session.scheduler.has_pending
    session.collected(session.add_worker())
    session.finish()
    assert session.crashed == []


# Other tests


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_other_tests_are_spread_over_the_workers(count: int, workers: int) -> None:
    session = Session.begun(others(count), workers)
    session.take_turns()
    session.finish()
    shares = [len(started) for started in session.shares()]
    assert max(shares) - min(shares) <= 2


def test_other_tests_go_by_the_piece_at_first_and_one_by_one_at_last() -> None:
    session = Session.begun(others(80), workers=2)
    first, second = session.workers
    session.take_turns()
    session.finish()
    assert first.started[:10] == others(80)[:10]
    assert second.started[:8] == others(80)[10:18]
    assert {first.started[-1], second.started[-1]} == {*others(80)[-2:]}


def test_the_piece_is_no_larger_than_was_asked_for() -> None:
    session = Session.begun(others(80), workers=2, maxschedchunk=1)
    assert [worker.queue for worker in session.workers] == [
        [others(80)[0], others(80)[2]],
        [others(80)[1], others(80)[3]],
    ]
    session.finish()


def test_other_tests_around_a_run_do_not_become_a_part_of_it() -> None:
    tests = others(40)
    session = Session.begun([*tests[:2], *run("a"), *tests[2:]], workers=2)
    first, second = session.workers
    session.take_turns()
    session.finish()
    assert first.started[:3] == tests[:3]
    assert second.started[:4] == run("a")


# Checkpoints


def test_a_checkpoint_is_the_last_to_be_started_wherever_it_was_collected() -> None:
    session = Session.begun([CHECKPOINT, *runs("ab"), *others(4)], workers=2)
    session.take_turns()
    session.finish()
    assert session.completed[-1] == CHECKPOINT


def test_a_worker_waits_with_a_checkpoint_until_all_others_have_done_with_the_runs() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    assert first.queue == [CHECKPOINT]
    for _ in range(4):
        assert not first.able_to_start
        assert not session.scheduler.tests_finished
        session.run_one(second)
    assert first.able_to_start
    session.finish()
    assert first.started == [*run("a"), CHECKPOINT]


def test_a_worker_that_waits_with_a_checkpoint_is_not_sent_another() -> None:
    second_checkpoint = "exp/b/checkpoint::checkpoint"
    session = Session.begun([*run("a"), CHECKPOINT, *run("b"), second_checkpoint], workers=3)
    assert [worker.queue for worker in session.workers] == [run("a")[:2], run("b")[:2], [CHECKPOINT]]
    first = session.workers[0]
    for _ in range(3):
        session.run_one(first)
    assert first.queue == [run("a")[3], second_checkpoint]
    assert session.workers[2].queue == [CHECKPOINT]
    session.finish()


def test_one_worker_runs_checkpoints_after_the_runs() -> None:
    session = Session.begun([*run("a"), CHECKPOINT, *run("b"), "exp/b/checkpoint::checkpoint"], workers=1)
    session.finish()
    assert session.completed == [*runs("ab"), CHECKPOINT, "exp/b/checkpoint::checkpoint"]


def test_only_a_checkpoint_is_run_at_once() -> None:
    session = Session.begun([CHECKPOINT], workers=2)
    assert [worker.able_to_start for worker in session.workers] == [True, False]
    session.finish()


def test_a_checkpoint_waits_for_what_a_dead_worker_has_left() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    session.crash(second, replace=False)
    assert not first.able_to_start
    session.collected(session.add_worker())
    assert not first.able_to_start
    session.finish()
    assert session.everybody[2].started == run("b")[1:]
    assert session.completed[-1] == CHECKPOINT


def test_a_checkpoint_is_run_when_the_last_of_all_others_has_crashed() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    for _ in range(3):
        session.run_one(second)
    session.crash(second, replace=False)
    assert session.scheduler.tests_finished  # so xdist tells the other to end
    first.shutdown()
    session.finish()


def test_a_checkpoint_that_a_worker_only_waited_with_is_run_by_another() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    session.crash(first, replace=False)
    assert session.crashed == []
    session.finish()
    assert second.started == [*run("b"), CHECKPOINT]


def test_a_checkpoint_left_by_a_dead_worker_comes_after_the_runs_that_others_left() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(3):
        session.run_one(first)
    assert first.queue == [run("a")[3], CHECKPOINT]
    session.crash(second, replace=False)
    session.crash(first)
    session.finish()
    assert session.everybody[2].started == [*run("b")[1:], CHECKPOINT]


def test_a_checkpoint_is_run_when_a_replacement_disagrees_about_what_a_dead_worker_left() -> None:
    session = Session.begun([*runs("ab"), CHECKPOINT], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    session.crash(second, replace=False)
    session.collected(session.add_worker(runs("ba")))
    assert [report.nodeid for report in session.reports] == ["gw2"]
    assert first.able_to_start


def test_a_checkpoint_and_the_aggregates_are_run_by_one_worker_in_their_order() -> None:
    session = Session.begun([*run("a"), CHECKPOINT, AGGREGATES, *run("b")], workers=3)
    assert [worker.queue for worker in session.workers] == [run("a")[:2], run("b")[:2], [CHECKPOINT]]
    session.take_turns()
    session.finish()
    assert session.everybody[2].started == [CHECKPOINT, AGGREGATES]


def test_the_aggregates_are_run_by_another_where_the_checkpoint_took_its_worker_down() -> None:
    session = Session.begun([*run("a"), CHECKPOINT, AGGREGATES], workers=2)
    first, second = session.workers
    for _ in range(4):
        session.run_one(first)
    session.crash(second)
    session.finish()
    assert session.crashed == [CHECKPOINT]
    assert session.completed[-1] == AGGREGATES


# Workers that die


def test_a_crashed_item_is_not_started_again_and_the_rest_of_its_run_comes_first() -> None:
    session = Session.begun(runs("abcd"), workers=2)
    first, second = session.workers
    session.run_one(first)
    session.crash(first)
    assert session.crashed == [run("a")[1]]
    replacement = session.workers[-1]
    assert replacement.queue == run("a")[2:]
    session.finish()
    assert Counter(nodeid for share in session.shares() for nodeid in share)[run("a")[1]] == 1
    assert second.started[:4] == run("b")


def test_a_worker_that_is_free_sooner_takes_the_rest() -> None:
    session = Session.begun(runs("abc"), workers=2)
    first, second = session.workers
    session.crash(first, replace=False)
    assert second.queue == run("b")[:2]
    session.finish()
    assert second.started == [*run("b"), *run("a")[1:], *run("c")]


def test_a_run_that_a_dead_worker_only_looked_ahead_to_is_run_as_a_whole() -> None:
    session = Session.begun(runs("abc"), workers=2)
    first, second = session.workers
    for _ in range(3):
        session.run_one(first)
    assert first.queue == [run("a")[3], run("c")[0]]
    session.crash(first, replace=False)
    session.finish()
    assert session.crashed == [run("a")[3]]
    assert second.started == runs("bc")


def test_a_worker_that_dies_at_its_last_item_leaves_nothing() -> None:
    session = Session.begun(run("a"), workers=1)
    (worker,) = session.workers
    for _ in range(3):
        session.run_one(worker)
    assert worker.shutting_down
    session.crash(worker)
    session.finish()
    assert session.crashed == [run("a")[3]]
    assert session.everybody[1].started == []


def test_a_replacement_runs_what_is_left_when_all_others_were_told_to_end() -> None:
    session = Session.begun(runs("ab"), workers=2)
    first, second = session.workers
    for _ in range(3):
        session.run_one(second)
    assert second.shutting_down
    session.crash(first, replace=False)
    assert not session.scheduler.tests_finished
    session.run_one(second)
    assert not session.scheduler.tests_finished
    session.collected(session.add_worker())
    session.finish()
    assert session.everybody[2].started == run("a")[1:]


def test_a_worker_that_is_found_dead_while_it_is_sent_an_item_has_not_started_it() -> None:
    session = Session.begun(runs("abc"), workers=2)
    first = session.workers[0]
    for _ in range(2):
        session.run_one(first)
    first.unreachable = True
    session.run_one(first)
    assert first.queue == [run("a")[3]]
    assert not session.scheduler.tests_finished
    session.crash(first)
    session.finish()
    assert session.crashed == [run("a")[3]]


def test_a_worker_found_dead_before_its_first_item_takes_nothing_with_it() -> None:
    session = Session(runs("ab"), workers=2)
    first, second = session.add_worker(), session.add_worker()
    first.unreachable = True
    session.collected(first)
    session.collected(second)
    assert not first.queue
    session.crash(first)
    session.finish()
    assert session.crashed == []


def test_a_worker_that_was_given_up_may_still_tell_of_an_item() -> None:
    session = Session.begun(runs("abc"), workers=2)
    first = session.workers[0]
    session.crash(first)
    session.scheduler.mark_test_complete(first, 0)
    session.finish()


def test_an_unknown_worker_is_an_error_that_xdist_expects() -> None:
    session = Session.begun(runs("ab"), workers=2)
    with pytest.raises(KeyError):
        session.scheduler.remove_node(Worker("gw9", []))


@pytest.mark.parametrize(("collection", "again"), [(others(4), True), (runs("abc"), False)])
def test_an_item_is_run_again_if_somebody_asks_for_it_unless_an_experiment_s(
    collection: list[str], again: bool
) -> None:
    session = Session.begun(collection, workers=2)
    first, second = session.workers
    crashed = first.queue[0]
    session.crash(first, replace=False)
    session.scheduler.mark_test_pending(crashed)
    while second.able_to_start:
        session.run_one(second)
    assert (crashed in second.started) is again


def test_nothing_more_is_sent_once_the_session_is_to_stop() -> None:
    session = Session.begun(runs("abcd"), workers=2)
    session.run_one(session.workers[0])
    for worker in session.scheduler.nodes:
        worker.shutdown()
    while able := [worker for worker in session.workers if worker.able_to_start]:
        session.run_one(able[0])
    assert session.shares() == [run("a")[:3], run("b")[:2]]
    assert session.workers == []


COLLECTIONS = st.lists(
    st.one_of(
        st.integers(1, 4).map(lambda items: ("run", items)),
        st.integers(1, 9).map(lambda count: ("tests", count)),
        st.just(("wholes", 2)),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(parts=COLLECTIONS, workers=st.integers(1, 4), data=st.data())
def test_whatever_dies_when_no_item_is_lost_or_run_twice(
    parts: list[tuple[str, int]], workers: int, data: st.DataObject
) -> None:
    collection: list[str] = []
    for number, (kind, count) in enumerate(parts):
        if kind == "wholes":
            collection += [f"exp/{number}/checkpoint::checkpoint", f"exp/{number}/aggregates::aggregates"]
        else:
            collection += (
                run(str(number), count) if kind == "run" else [f"test_{number}.py::test_{i}" for i in range(count)]
            )
    session = Session.begun(collection, workers)
    crashes = data.draw(st.integers(0, 6))
    booting = 0
    session.end_those_that_may()
    while session.workers or booting:
        able = [worker for worker in session.workers if worker.able_to_start]
        assert able or booting, "a hang"
        choice = data.draw(st.integers(0, len(able) + (booting > 0) - 1))
        if choice == len(able):
            booting -= 1
            session.collected(session.add_worker())
            session.end_those_that_may()
        elif crashes and data.draw(st.booleans()):
            crashes -= 1
            booting += 1
            session.crash(data.draw(st.sampled_from(session.workers)), replace=False)
        else:
            session.run_one(able[choice])
    session.finish()
    shares = session.shares()
    assert len({nodeid for share in shares for nodeid in share}) == sum(map(len, shares)) == len(collection)
    crashed_runs = {nodeid.partition("::")[0] for nodeid in session.crashed}
    for number, (kind, count) in enumerate(parts):
        items = run(str(number), count)
        if kind == "run" and items[0].partition("::")[0] not in crashed_runs:
            (share,) = [share for share in shares if items[0] in share]
            start = share.index(items[0])
            assert share[start : start + count] == items


# Workers that collected something else


def test_workers_that_disagree_run_nothing_and_it_is_an_error() -> None:
    session = Session(runs("ab"), workers=3)
    session.add_worker()
    session.add_worker(runs("ab")[:-1])
    session.add_worker(runs("ba"))
    for worker in session.workers:
        session.collected(worker)
    assert [(report.nodeid, report.outcome) for report in session.reports] == [("gw1", "failed"), ("gw2", "failed")]
    assert "Different tests were collected between gw0 and gw1" in str(session.reports[0].longrepr)
    assert "-exp/b::run" in str(session.reports[0].longrepr)
    assert session.scheduler.tests_finished
    assert all(worker.ended for worker in session.workers)


def test_a_replacement_that_disagrees_is_left_out_and_it_is_an_error() -> None:
    session = Session.begun(runs("abc"), workers=2)
    session.crash(session.workers[0], replace=False)
    replacement = session.add_worker(runs("cba"))
    session.collected(replacement)
    assert [report.nodeid for report in session.reports] == ["gw2"]
    assert replacement.ended
    assert replacement not in session.scheduler.nodes
    session.finish()


def test_a_replacement_that_disagrees_ends_the_session_if_nobody_else_is_left() -> None:
    session = Session.begun(runs("abc"), workers=1)
    session.crash(session.workers[0], replace=False)
    session.collected(session.add_worker(runs("cba")))
    assert [report.nodeid for report in session.reports] == ["gw1"]
    assert session.scheduler.tests_finished
    assert not session.scheduler.has_pending


# When it applies


@pytest.mark.parametrize("mode", ["loadscope", "loadfile", "loadgroup", "worksteal", "each", "no"])
def test_a_mode_that_was_asked_for_by_name_is_left_alone(mode: str) -> None:
    config = cast(Any, SimpleNamespace(getvalue={"dist": mode}.__getitem__))
    assert Distribution(str).pytest_xdist_make_scheduler(config, Producer("test", enabled=False)) is None


def _scheduler(result: pytest.RunResult) -> str:
    (line,) = [line for line in result.outlines if line.startswith("scheduling tests via ")]
    return line.removeprefix("scheduling tests via ")


def test_dash_n_alone_distributes_runs(project: Project) -> None:
    assert _scheduler(project.audit("-n", "2", "-v")) == "RunScheduling"


def test_a_named_mode_distributes_as_it_says(project: Project) -> None:
    result = project.audit("-n", "2", "--dist=loadfile", "-v")
    assert _scheduler(result) == "LoadFileScheduling"
    assert result.parseoutcomes() == {"passed": len(item_ids())}


def test_a_session_without_an_experiment_is_left_alone(project: Project) -> None:
    project.write("test_a.py", "def test_one():\n    pass\n")
    assert _scheduler(project.run("-n", "2", "-v", "test_a.py")) == "LoadScheduling"


def test_a_scheduler_of_the_project_goes_before(project: Project) -> None:
    project.write(
        "conftest.py",
        "from xdist.scheduler import LoadScheduling\n\n\nclass OurOwn(LoadScheduling):\n    pass\n\n\n"
        "def pytest_xdist_make_scheduler(config, log):\n    return OurOwn(config, log)\n",
    )
    assert _scheduler(project.audit("-n", "2", "-v")) == "OurOwn"


def test_an_audit_works_without_xdist(project: Project) -> None:
    assert project.audit("-p", "no:xdist").parseoutcomes() == {"passed": len(item_ids())}


# With workers that are processes

NOTES_WHO_RUNS_WHAT = """\
import os, signal
import pytest


def note(name, text):
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{text}\\n".encode())
    os.close(file)


class Notes:
    def __init__(self, worker):
        self.worker = worker

    def pytest_runtest_logstart(self, nodeid):
        note("started", f"{nodeid} {self.worker}")


def pytest_configure(config):
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(Notes(config.workerinput["workerid"]))
"""

KILLS_ITS_WORKER = """

@pytest.fixture
def scylla_regenerate(scylla_regenerate, request):
    nodeid = request.node.nodeid

    def regenerate(asked):
        note("called", nodeid)
        if nodeid in {victims!r} and not os.path.exists(marker := "killed-" + nodeid.replace("/", "-")):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return scylla_regenerate(asked)

    return regenerate
"""


def _notes(project: Project, name: str) -> list[str]:
    path = project.path / name
    return path.read_text().splitlines() if path.exists() else []


def _workers_by_item(project: Project) -> dict[str, str]:
    """Which worker started each item; no item was started twice."""
    started = [line.rpartition(" ")[::2] for line in _notes(project, "started")]
    by_item = dict(started)
    assert len(by_item) == len(started), f"started twice: {Counter(nodeid for nodeid, _ in started).most_common(3)}"
    return by_item


def _workers_by_run(project: Project) -> dict[str, set[str]]:
    by_run: dict[str, set[str]] = {}
    for nodeid, worker in _workers_by_item(project).items():
        by_run.setdefault(nodeid.partition("::")[0], set()).add(worker)
    return by_run


def _with_victims(project: Project, items: Iterable[str]) -> None:
    project.write("conftest.py", NOTES_WHO_RUNS_WHAT + KILLS_ITS_WORKER.format(victims={*map(node_id, items)}))


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project, its experiment damaged so that surviving files put everything right."""
    damaged_for_free(project.experiment)
    return project


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("repairs", [False, True])
def test_every_run_is_run_by_one_worker(wide_project: Project, workers: int, repairs: bool) -> None:
    wide_project.write("conftest.py", NOTES_WHO_RUNS_WHAT)
    lose_judgment(wide_project.experiment, "T0/00/run_02/judge_01")
    result = wide_project.audit_apart("-n", str(workers), *(["--repair"] if repairs else []))
    assert result.ret == (0 if repairs else 1), printed(result)
    by_run = _workers_by_run(wide_project)
    assert by_run.pop("exp/checkpoint") == by_run.pop("exp/aggregates")
    assert len(by_run) == 12
    assert {len(who) for who in by_run.values()} == {1}
    assert len(set.union(*by_run.values())) == workers


def test_every_run_is_run_by_one_worker_beside_other_tests(project: Project) -> None:
    project.write("conftest.py", NOTES_WHO_RUNS_WHAT)
    project.write(
        "test_a.py", "import pytest\n\n\n@pytest.mark.parametrize('i', range(20))\ndef test_it(i):\n    assert i != 7\n"
    )
    result = project.audit_apart(".", "-n", "2", REPORT)
    assert result.ret == 1
    assert result.parseoutcomes() == {"passed": len(item_ids()) + 19, "failed": 1}
    by_run = _workers_by_run(project)
    assert by_run.pop("test_a.py") == {"gw0", "gw1"}
    assert {len(who) for who in by_run.values()} == {1}
    assert project.only_experiment()["not_audited"] == 0


def test_failed_first_keeps_runs_together(project: Project) -> None:
    project.write("conftest.py", NOTES_WHO_RUNS_WHAT)
    damaged_in_several_ways(project.experiment)
    project.audit()
    project.audit("--ff", "-n", "2")
    assert {len(who) for who in _workers_by_run(project).values()} == {1}


@pytest.mark.parametrize("attempt", range(5))
def test_an_item_whose_worker_is_killed_is_reported_and_not_repeated(damaged: Project, attempt: int) -> None:
    victim = "T1/01/run_01"
    _with_victims(damaged, [victim])
    result = damaged.audit_apart("--repair", "-n", "2", REPORT)
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    assert f"crashed while running '{node_id(victim)}'" in printed(result)
    assert Counter(_notes(damaged, "called"))[node_id(victim)] == 1
    assert _workers_by_item(damaged).keys() == {*node_ids()}
    items = items_of_repair(damaged)
    assert items.pop(victim)["outcome"] == "crashed"
    assert {items[item_id]["outcome"] for item_id in FREE if item_id != victim} == {"repaired"}


def test_the_rest_of_a_run_is_run_when_the_worker_of_its_first_item_is_killed(damaged: Project) -> None:
    victim = "T1/01/run_02/judge_01"
    _with_victims(damaged, [victim])
    result = damaged.audit_apart("--repair", "-n", "2", REPORT)
    assert result.ret == 1, printed(result)
    by_item = _workers_by_item(damaged)
    assert by_item.keys() == {*node_ids()}
    rest = {by_item[node_id(f"T1/01/run_02{name}")] for name in ("/judge_02", "/judge_03", "")}
    assert len(rest) == 1
    assert by_item[node_id(victim)] not in rest
    assert items_of_repair(damaged)["T1/01/run_02"]["outcome"] == "repaired"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_many_workers_may_be_killed(damaged: Project, workers: int) -> None:
    victims = ["T0/00/run_02", "T1/01/run_01", "T1/02/run_01/judge_02"]
    _with_victims(damaged, victims)
    result = damaged.audit_apart("--repair", "-n", str(workers), REPORT)
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    called = Counter(_notes(damaged, "called"))
    assert [called[node_id(victim)] for victim in victims] == [1, 1, 1]
    assert _workers_by_item(damaged).keys() == {*node_ids()}
    items = items_of_repair(damaged)
    assert [items[victim]["outcome"] for victim in victims] == ["crashed"] * 3
    assert items["T1/01/run_02"]["outcome"] == "repaired"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker_that_is_not_to_be_replaced_ends_the_session(damaged: Project, workers: int) -> None:
    victim = "T0/00/run_02"
    _with_victims(damaged, [victim])
    result = damaged.audit_apart("--repair", "-n", str(workers), "--max-worker-restart=0", REPORT)
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    assert "worker restarting disabled" in printed(result)
    assert Counter(_notes(damaged, "called"))[node_id(victim)] == 1
    assert workers > 1 or len(_workers_by_item(damaged)) == 8  # others may have run meanwhile
    assert items_of_repair(damaged)[victim]["outcome"] == "crashed"


@pytest.mark.parametrize("option", ["-x", "--maxfail=2"])
def test_a_session_that_is_to_stop_at_failures_stops(project: Project, option: str) -> None:
    for slot in item_ids():
        if "/judge_" in slot:
            lose_judgment(project.experiment, slot)
    project.write("conftest.py", NOTES_WHO_RUNS_WHAT)
    result = project.audit_apart("-n", "2", option, REPORT)
    assert result.ret == pytest.ExitCode.INTERRUPTED, printed(result)
    assert "INTERNALERROR" not in printed(result)
    limit = 1 if option == "-x" else 2  # each worker stops by itself as well
    assert len(_workers_by_item(project)) <= 2 * limit
    assert project.only_experiment()["not_audited"] >= len(counted_ids()) - 2 * limit


def test_a_crash_in_a_session_that_is_to_stop_at_failures_is_reported(damaged: Project) -> None:
    victim = "T0/00/run_02"
    _with_victims(damaged, [victim])
    result = damaged.audit_apart("--repair", "-n", "2", "-x", REPORT)
    assert result.ret == 1, printed(result)  # xdist does not count a crash as a failure to stop at
    assert "INTERNALERROR" not in printed(result)
    assert Counter(_notes(damaged, "called"))[node_id(victim)] == 1
    assert items_of_repair(damaged)[victim]["outcome"] == "crashed"


COLLECTS_LESS = """

def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput") and config.workerinput["workerid"] == {worker!r}:
        del items[-1]
"""


def test_workers_that_collect_different_items_are_reported(project: Project) -> None:
    project.write("conftest.py", NOTES_WHO_RUNS_WHAT + COLLECTS_LESS.format(worker="gw1"))
    result = project.audit_apart("-n", "2")
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    result.stdout.fnmatch_lines(["*Different tests were collected between gw? and gw?*"])
    assert _notes(project, "started") == []


def test_a_replacement_that_collects_different_items_is_reported(damaged: Project) -> None:
    _with_victims(damaged, ["T0/00/run_02"])
    with (damaged.path / "conftest.py").open("a") as file:
        file.write(COLLECTS_LESS.format(worker="gw1"))
    result = damaged.audit_apart("--repair", "-n", "1")
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    result.stdout.fnmatch_lines(["*Different tests were collected between gw0 and gw1*"])
    assert {*_workers_by_item(damaged).values()} == {"gw0"}


# The same report


def test_an_audit_gives_the_same_report_with_any_number_of_workers(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    found = []
    for workers in ("0", "2", "4"):
        assert project.audit("-n", workers, REPORT).ret == 1
        found.append(without_times(project.report()))
    assert found[0] == found[1] == found[2]


def test_a_repair_gives_the_same_report_with_any_number_of_workers(
    empty_project: Project, pristine_experiment: Path
) -> None:
    found = []
    for workers in ("0", "2", "4"):
        shutil.rmtree(empty_project.experiment, ignore_errors=True)
        damaged_for_free(empty_project.copy(pristine_experiment, "exp"))
        result = empty_project.audit("--repair", "-n", workers, REPORT)
        assert result.ret == 0
        assert len(outcomes(result)) == len(item_ids())
        found.append(without_durations(report_of_repair(empty_project)))
    assert experiment_of_repair(empty_project)["repairs"]["regenerated"] == 7
    assert found[0] == found[1] == found[2]
