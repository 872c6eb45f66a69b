"""The line that tells how far judging is: calls done, time taken and left, cost, and what waits for a limit.

Calls of judges and agents take minutes each, and pytest says nothing meanwhile. On a terminal, a line below pytest's
own is repainted in place, and is gone whenever pytest writes; elsewhere, such as in CI, a plain line is added now and
then.

While an item runs, pytest captures what goes to the terminal's descriptor. So the line goes to a duplicate of it, from
a thread of its own.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import pytest

from .calling.pauses import pauses
from .experiment.wording import printable
from .nodes import ASKING, ItemOfRun
from .outcomes import kind_of
from .report.item import duration, money

if TYPE_CHECKING:
    from .nodes import RunNode
    from .outcomes import AuditedExperiment
    from .repair.actions import Action
    from .settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long after the beginning the line is first shown, and how often from then on; in seconds."""

    first: float
    every: float


LIVE = Pace(first=2.0, every=1.0)
"""On a terminal."""

PLAIN = Pace(first=60.0, every=60.0)
"""Where each line stays, as in CI."""

_COLUMNS = 80
"""The width of a terminal that does not say its own."""

_LONGEST_NAME = 30
"""So many characters of a model's name leave room for the day and the time of its limit in so many columns."""


# The text


@dataclass(frozen=True, slots=True)
class Limit:
    """No call of ``model`` is made before ``until``, which is in the time zone in which it is to be shown."""

    model: str
    until: datetime


def progress_line(
    now: datetime,
    *,
    doing: str = "judging",
    done: int,
    total: int,
    elapsed: float,
    costs: Sequence[float | None] = (),
    expected: float | None = None,
    limits: Iterable[Limit] = (),
) -> str:
    """How far judging is, or whatever is being done by calls, in one line of printable ASCII.

    What waits for a limit comes first: a terminal cuts off what is beyond its width.

    ``done`` of ``total`` items are judged or given up, ``elapsed`` seconds after the first was begun. ``costs`` are, in
    USD, those of the items for which calls were made so far, ``None`` where one is not known. Until there is one,
    ``expected`` says how many seconds all of it takes, if that is known. ``now`` is in the time zone of the limits.
    """
    limits = sorted(limits, key=lambda limit: (limit.until, limit.model))
    parts = [f"{done} of {total} call{'s' * (total != 1)}", duration(elapsed)]
    left = _seconds_left(total - done, elapsed, len(costs), expected)
    if left is not None:
        # No call that waits for a limit is done before it ends.
        waits = [(limit.until - now).total_seconds() for limit in limits]
        parts.append(f"about {duration(_rounded(max(left, *waits) if waits else left))} left")
    if costs:
        parts.append(_cost(costs))
    waiting = ", ".join(f"{_name(limit.model)} until {_clock(limit.until, now)}" for limit in limits)
    return f"{doing}: {f'limit of {waiting}; ' if waiting else ''}{', '.join(parts)}"


def _name(model: str) -> str:
    name = printable(model).encode("ascii", "backslashreplace").decode("ascii")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 2]}.."


def _seconds_left(left: int, elapsed: float, asked: int, expected: float | None) -> float | None:
    """How long the items that are left take: as long as those did for which calls were made, or as expected."""
    if not left:
        return None
    if asked:
        return elapsed / asked * left
    return expected - elapsed if expected is not None and expected > elapsed else None


def _rounded(seconds: float) -> float:
    """To what an estimate is good for: 10 s below a minute, a minute below an hour, 10 min above."""
    step = 10 if seconds < 60 else 60 if seconds < 3600 else 600
    return max(1, round(seconds / step)) * step


def _cost(costs: Sequence[float | None]) -> str:
    known = [cost for cost in costs if cost is not None]
    if not known:
        return money(None)
    return f"{'at least ' * (len(known) < len(costs))}{money(math.fsum(known))}"


def _clock(moment: datetime, now: datetime) -> str:
    """The time of day, with the date unless it is today's; up to the next minute, so that it is over by then."""
    moment = (moment + timedelta(minutes=1, microseconds=-1)).replace(second=0, microsecond=0)
    return f"{moment:%H:%M}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M}"


# The terminal


class _Line:
    """A line on the terminal, or lines in a log, between what pytest writes there itself.

    ``live``: it is a terminal, and one where it can be repainted. Nothing here raises if the terminal is gone: pytest
    will.
    """

    def __init__(self, stream: TextIO, *, alone: bool) -> None:
        """Write where ``stream`` goes now, wherever its descriptor leads later.

        :param alone: nobody but pytest writes there as well.
        :raises ValueError: it has no descriptor; or OSError or AttributeError, by what it is.
        """
        self._descriptor = os.dup(stream.fileno())
        self._encoding = stream.encoding
        self.live = alone and os.isatty(self._descriptor) and os.environ.get("TERM") != "dumb"
        self._width: int | None = None  # that of pytest's line while ours is shown below

    def close(self) -> None:
        """Let go of the terminal."""
        os.close(self._descriptor)

    def show(self, text: str, width: int) -> None:
        """Show ``text``, below pytest's line, which has so many columns so far."""
        start = "\n" if width and self._width is None else ""
        self._width = width
        self._write(f"{start}\r{text[: self._columns - 1]}\x1b[K" if self.live else f"{start}{text}\n")

    def withdraw(self, width: int, lead: str) -> None:
        """Let pytest go on in its line, as if nothing had been shown; in a log, in a new one that begins with ``lead``.

        The cursor is then in the column in which pytest believes it to be. A line whose ``width`` is no longer what it
        was is one in which somebody wrote without notice: then everything stays as it is.
        """
        shown, self._width = self._width, None
        if shown is None or shown != width:
            return
        if not self.live:
            self._write(lead)
            return
        column = width % self._columns  # a line that is full goes on in the next, which is ours
        self._write(f"\r\x1b[K\x1b[A\x1b[{column}C" if column else "\r\x1b[K")

    def leave(self) -> None:
        """Leave everything as it is: somebody else has begun to write."""
        self._width = None

    @property
    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._descriptor).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def _write(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._descriptor, text.encode(self._encoding, "backslashreplace"))


# The plugin


@dataclass(frozen=True, slots=True)
class _Planned:
    """A call that is planned, for a slot or for a run; ``node`` is its run's node where this process works on it."""

    audited: AuditedExperiment
    item_id: str
    node: RunNode | None = None

    @property
    def name(self) -> str:
        return self.item_id.rpartition("/")[2] if kind_of(self.item_id) == "judge_slot" else "run"

    @property
    def model(self) -> str:
        return self.audited.agent_model if self.name == "run" else self.audited.model_of(self.item_id)

    @property
    def seconds(self) -> float | None:
        """How long it is expected to take."""
        known = self.audited.agent_estimates if self.name == "run" else self.audited.estimates
        estimate = known.get(self.model)
        return None if estimate is None else estimate.seconds

    @property
    def ended(self) -> list[Action]:
        """What came of it so far; an item that waits reports late, while calls are made for others in its place."""
        outcome = self.audited.outcomes.get(self.item_id) if self.node is None else self.node.outcomes[self.name]
        return [] if outcome is None else [action for action in outcome.actions if action.level != "regenerate"]


class JudgingProgress:
    """Shows the line while a session asks judges; in the process that has the terminal, and unless it is to be quiet.

    Where xdist distributes the session, that process learns what was done from the items' reports.
    """

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        experiments: Sequence[AuditedExperiment],
        *,
        live: Pace = LIVE,
        plain: Pace = PLAIN,
    ) -> None:
        """Take hold of the terminal, while nobody captures what is written to it."""
        self._config = config
        self._settings = settings
        self._experiments = experiments
        self._line = self._wanted_line()
        self._pace = live if self._line is not None and self._line.live else plain
        self._planned: Mapping[str, _Planned] = {}  # by node id
        self._runs: frozenset[str] = frozenset()  # the node ids of their runs
        self._finished: set[str] = set()
        self._workers: set[object] = set()
        self._began = 0.0
        self._thread: threading.Thread | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()  # for the line, and for whether it may be shown
        self._may_show = False

    def _wanted_line(self) -> _Line | None:
        repair = self._settings.repair
        if repair is None or repair.plan_only or self._config.option.collectonly:
            return None
        if hasattr(self._config, "workerinput") or self._config.get_verbosity() < 0:
            return None
        try:
            line = _Line(sys.stdout, alone=self._config.getoption("capture", "no") != "no")
        except (OSError, ValueError, AttributeError):
            return None
        self._config.add_cleanup(line.close)
        return line

    # Beginning and end

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Show the line from here on, and not any more when pytest ends its own, whatever happens."""
        ours = [item for item in session.items if isinstance(item, ItemOfRun)]
        self._begin(_Planned(item.parent.experiment_node.audited, item.item_id, item.parent) for item in ours)
        try:
            return (yield)
        finally:
            self._end()

    @pytest.hookimpl(wrapper=True, optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> Generator[None, object, object]:
        """Show the line from the next item on, where xdist's workers run what the first of them tells."""
        self._step_aside()
        result = yield
        self._workers.add(node)
        selected = set(ids)
        self._begin(
            _Planned(audited, item_id)
            for audited in self._experiments
            for item_id in audited.before
            if kind_of(item_id) in ("judge_slot", "run") and audited.nodeid(item_id) in selected
        )
        return result

    def _begin(self, items: Iterable[_Planned]) -> None:
        if self._line is None or self._thread is not None or self._reporter is None:
            return
        planned = {item.audited.nodeid(item.item_id): item for item in items if self._takes_call(item)}
        if not planned or self._config.stash[ASKING].held_back:
            return
        for item in planned.values():
            _ = item.ended  # made before the thread looks at it, since it is made when first asked for
        self._planned, self._runs = planned, frozenset(map(_run_of, planned))
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._show, name="scylla-progress", daemon=True)
        self._thread.start()

    def _takes_call(self, item: _Planned) -> bool:
        repair = self._settings.repair
        return repair is not None and repair.calls_for(item.name, item.audited.before.get(item.item_id)) > 0

    def _end(self) -> None:
        self._over.set()
        self._step_aside()
        if self._thread is not None:
            self._thread.join()

    # Showing

    def _show(self) -> None:
        pause = self._pace.first
        while not self._over.wait(pause):
            pause = self._pace.every
            text = self._text()
            with self._lock:
                if self._may_show:
                    assert self._line is not None
                    self._line.show(text, self._width)

    def _text(self) -> str:
        now = datetime.now().astimezone()
        left: list[_Planned] = []
        called: list[Action] = []
        for nodeid, item in self._planned.items():
            ended = item.ended
            called += [action for action in ended if action.calls]
            if not ended and nodeid not in self._finished:
                left.append(item)
        total = len(self._planned)
        return progress_line(
            now,
            doing="repairing" if any(item.name == "run" for item in self._planned.values()) else "judging",
            done=total - len(left),
            total=total,
            elapsed=time.monotonic() - self._began,
            costs=[action.cost_usd for action in called],
            expected=self._expected_seconds(),
            limits=self._limits(left, now),
        )

    def _expected_seconds(self) -> float | None:
        """How long all of it takes: of a run one after the other, and as many runs at a time as there are workers."""
        times = [item.seconds for item in self._planned.values()]
        at_work = min(max(len(self._workers), 1), len(self._runs))
        return None if None in times else math.fsum(seconds for seconds in times if seconds is not None) / at_work

    def _limits(self, left: Iterable[_Planned], now: datetime) -> list[Limit]:
        """What waits: for the limits of what is left, but for those that end later than anybody waits."""
        assert self._settings.repair is not None
        latest = now + timedelta(seconds=self._settings.repair.max_wait)
        asking = self._config.stash[ASKING]
        ends: dict[str, datetime] = {}
        for audited in self._experiments:
            # Which command is called is known in the process that calls it: where there are workers, only to them.
            wanted = {
                ((asking.agent_terms if item.name == "run" else asking.terms).command, item.model)
                for item in left
                if item.audited is audited
            }
            with suppress(OSError):
                for pause in pauses(audited.experiment.root, now):
                    waits = wanted & {("", pause.model), (pause.command, pause.model)}
                    if waits and pause.until <= latest:
                        ends[pause.model] = max(pause.until, ends.get(pause.model, pause.until))
        return [Limit(model, until.astimezone()) for model, until in ends.items()]

    # Giving way to pytest

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> Generator[None, Result, Result]:
        """Give way while pytest writes that an item starts."""
        return (yield from self._give_way(nodeid))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, Result, Result]:
        """Give way while pytest writes how an item ended."""
        if not (report.when == "setup" and report.passed):
            self._finished.add(report.nodeid)
        return (yield from self._give_way(report.nodeid))

    def _give_way(self, nodeid: str) -> Generator[None, Result, Result]:
        self._step_aside()
        result = yield
        works_here = _run_of(nodeid) in self._runs and nodeid not in self._finished
        if self._thread is not None and (works_here or self._workers):
            self._reporter.flush()  # what pytest holds back would come behind the line
            with self._lock:
                self._may_show = True
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self) -> Generator[None, Result, Result]:
        """Give way to what xdist writes of a worker that died, and of one in its place."""
        return (yield from self._give_way(""))

    pytest_xdist_newgateway = pytest_testnodeready = pytest_testnodedown

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self) -> None:
        """Give way to a traceback."""
        self._step_aside()

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Leave the terminal to a debugger, which has written there already, until its item ends."""
        if self._line is not None:
            with self._lock:
                self._may_show = False
                self._line.leave()

    def _step_aside(self) -> None:
        if self._thread is not None:
            assert self._line is not None
            with self._lock:
                self._may_show = False
                self._line.withdraw(self._width, self._lead())

    @property
    def _reporter(self) -> Any:
        return self._config.pluginmanager.get_plugin("terminalreporter")

    @property
    def _width(self) -> int:
        """How many columns pytest's line has so far."""
        return self._config.get_terminal_writer().width_of_current_line

    def _lead(self) -> str:
        """What pytest's line began with, and up to its width, spaces."""
        begin = self._reporter.currentfspath
        if isinstance(begin, int):  # pytest begins a new line by itself
            return ""
        return (begin if isinstance(begin, str) else "")[: self._width].ljust(self._width)


def _run_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]
