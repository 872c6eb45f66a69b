"""How xdist hands out the items of a session with experiments: a run at a time, each to one worker.

That way a run's files are read once, and its items follow one another, the run's own last. Correctness does not rest
on it, since a repair locks its run; what is paid for does: an item that took its worker down is not started again.

A checkpoint follows from runs, wherever they are worked on, and aggregates from both: they are started once nothing
else is left, those of an experiment by one worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from .outcomes import WHOLES

if TYPE_CHECKING:
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.scheduler.protocol import Scheduling  # type: ignore[import-untyped]
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]


class Distribution:
    """Puts :class:`RunScheduling` in the place of what ``-n`` alone stands for, ``--dist=load``."""

    def __init__(self, locate: Callable[[str], object]) -> None:
        """Take ``locate``, which tells what item of an experiment a node id stands for, or ``None``."""
        self._locate = locate
        self._workers = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[object]) -> None:
        """Remember how many workers there are to be."""
        self._workers = len(specs)

    # After a conftest.py that has a scheduler of its own; before xdist, which registers its choice later, as last too.
    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Producer) -> Scheduling | None:
        """Distribute runs, unless a mode was asked for by name that says otherwise."""
        if config.getvalue("dist") != "load":
            return None
        return RunScheduling(config, log, self._locate, self._workers)

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Let an item of an experiment that crashed be a failure, whoever would have it run again."""
        if self._locate(crashitem) is not None:
            report.outcome = "failed"


@dataclass
class _InHand:
    """What a worker is to run: the items that were sent to it, and the rest of the unit that the last of them is of."""

    sent: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)


class RunScheduling:
    """Hands out units of items, in their order: a run of an experiment each, or a few of the other tests; last, what
    follows from the runs of an experiment as a whole.

    A worker does not start an item before it knows which is next, or that none is. So each is kept at two items, and
    is bound to its next unit only when it is to start the last item of the one before. What was not sent can still go
    elsewhere, and does not run when the session is to stop.

    That may be sent to a worker as well while others are still at work, but then without a next item, so that the
    worker waits with it.
    """

    def __init__(self, config: pytest.Config, log: Producer, locate: Callable[[str], object], workers: int) -> None:
        """Expect so many ``workers``; ``locate`` is as with :class:`Distribution`."""
        self.config = config  # others than xdist look here as well, such as pytest-rerunfailures
        self._log = log.runsched
        self._locate = locate
        self._expected_workers = workers
        self._in_hand: dict[WorkerController, _InHand] = {}
        self._collected: dict[WorkerController, list[str]] = {}  # also by workers that have died since
        self._collection: list[str] | None = None  # what all have collected, once that is known
        self._units: deque[list[int]] = deque()
        self._wholes: set[int] = set()

    @property
    def nodes(self) -> list[WorkerController]:
        """The workers that take part."""
        return list(self._in_hand)

    @property
    def collection_is_completed(self) -> bool:
        """Whether as many workers have collected as there were to be at first."""
        return len(self._collected) >= self._expected_workers

    @property
    def tests_finished(self) -> bool:
        """Whether workers may be told to end once they have run what was sent to them."""
        hands = self._in_hand.values()
        at_their_last = all(len(hand.sent) < 2 and not hand.kept and not self._waits(hand) for hand in hands)
        return self.collection_is_completed and not self._units and at_their_last

    @property
    def has_pending(self) -> bool:
        """Whether there are items that did not run yet, now that it is known which there are."""
        return bool(self._units) or any(hand.sent or hand.kept for hand in self._in_hand.values())

    def add_node(self, node: WorkerController) -> None:
        """Let a worker take part; it collects at first."""
        self._in_hand[node] = _InHand()

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Take what a worker collected. One that comes later, in the place of a dead one, has to agree."""
        if self._collection is not None and not self._agrees(node, collection):
            del self._in_hand[node]
            node.shutdown()
            if all(other.shutting_down or self._waits(hand) for other, hand in self._in_hand.items()):
                self._units.clear()  # nobody is left for it, and xdist is not to wait
                self._hand_out()
            return
        self._collected[node] = list(collection)

    def schedule(self) -> None:
        """Begin, or go on with one more worker."""
        if self._collection is None:
            self._collection = next(iter(self._collected.values()))
            if not [node for node, ids in self._collected.items() if not self._agrees(node, ids)]:
                self._units.extend(self._make_units(self._collection))
        self._hand_out()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """Note that a worker has run an item."""
        if node in self._in_hand:  # xdist gives up a worker whose report it cannot read, while that is still at work
            self._in_hand[node].sent.remove(item_index)
            self._hand_out()

    def mark_test_pending(self, item: str) -> None:
        """Run an item again, since somebody's ``pytest_handlecrashitem`` asks for it; but none of an experiment.

        What it was about to be answered is paid for.
        """
        if self._locate(item) is not None:
            return
        assert self._collection is not None
        self._units.appendleft([self._collection.index(item)])
        self._hand_out()

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """Answer to a worker that gave back items, which none is asked to do."""
        raise NotImplementedError

    def remove_node(self, node: WorkerController) -> str | None:
        """Let go of a worker. Return the item that it ran, if it died; the rest of the run is the next to be had."""
        hand = self._in_hand.pop(node)
        begun = [] if self._waits(hand) else hand.sent[:1]
        if rest := [*hand.sent[len(begun) :], *hand.kept]:
            if rest[0] in self._wholes:
                self._units.append(rest)
            else:
                self._units.appendleft(rest)
            self._hand_out()
        if not begun:
            return None
        assert self._collection is not None
        return self._collection[begun[0]]

    def _hand_out(self) -> None:
        """Give every worker what it needs to go on, or tell it that nothing more will come."""
        ready = [node for node in self._in_hand if node in self._collected]
        for enough in (1, 2):  # everybody gets something to do before anybody gets something to look ahead to
            for node in ready:
                if not node.shutting_down:
                    self._send(node, self._in_hand[node], enough)
        for node in ready:
            hand = self._in_hand[node]
            if len(hand.sent) < 2 and not node.shutting_down and not self._waits(hand):
                node.shutdown()

    def _send(self, node: WorkerController, hand: _InHand, enough: int) -> None:
        while len(hand.sent) < enough and (hand.kept or self._units) and not self._waits(hand):
            hand.kept = hand.kept or self._units.popleft()
            try:
                node.send_runtest_some(hand.kept[:1])
            except OSError:  # it has just died: xdist is about to say so, and what is kept here goes to another
                return
            hand.sent.append(hand.kept.pop(0))

    def _waits(self, hand: _InHand) -> bool:
        """Whether a worker is at what follows from runs while something else is left to do, here or elsewhere."""
        if not hand.sent or hand.sent[0] not in self._wholes:
            return False
        in_hand = (index for other in self._in_hand.values() for index in (*other.sent, *other.kept))
        left = (index for unit in self._units for index in unit)
        return any(index not in self._wholes for index in (*in_hand, *left))

    def _make_units(self, ids: Sequence[str]) -> list[list[int]]:
        """Units in the order of their first items, whatever came between the items of a run; then what follows.

        Other tests go by the piece, so that a module's fixtures are not set up by every worker, and by ever smaller
        pieces, so that no worker has to wait for another at the end.
        """
        ours = [self._locate(nodeid) is not None for nodeid in ids]
        others = ours.count(False)
        most = self.config.getoption("maxschedchunk") or others
        units: list[list[int]] = []
        runs: dict[str, list[int]] = {}
        wholes: dict[str, list[int]] = {}
        room = 0
        for index, nodeid in enumerate(ids):
            if ours[index]:
                run, _, name = nodeid.partition("::")
                room = 0
                if name in WHOLES:
                    self._wholes.add(index)
                    wholes.setdefault(run.rpartition("/")[0], []).append(index)
                    continue
                if run not in runs:
                    units.append(runs.setdefault(run, []))
                runs[run].append(index)
                continue
            if not room:
                room = max(1, min(most, others // (4 * self._expected_workers)))
                units.append([])
            units[-1].append(index)
            room, others = room - 1, others - 1
        return [*units, *wholes.values()]

    def _agrees(self, node: WorkerController, collection: Sequence[str]) -> bool:
        """Whether a worker collected the same as all; if not, it is an error of the session, as with xdist's own."""
        from xdist.report import report_collection_diff  # type: ignore[import-untyped]

        assert self._collection is not None
        first = next(iter(self._collected))
        difference = report_collection_diff(self._collection, list(collection), first.gateway.id, node.gateway.id)
        if difference is None:
            return True
        self._log(difference)
        report = pytest.CollectReport(node.gateway.id, "failed", longrepr=difference, result=[])
        self.config.hook.pytest_collectreport(report=report)
        return False
