"""What the calls of one session may cost, and how many there may be, over all of its workers and hosts.

Whoever is about to call reserves under a lock what the call is expected to cost, and says afterwards what it did cost.
The ledger is the list of both, a line each, below the experiment; nothing of it is ever changed.
"""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Literal

from ..experiment.journal import CallOutcome, known_cost
from ..experiment.keeping import KEEPING, Keeping, host_name
from ..experiment.locks import locked
from ..experiment.processes import is_at_work
from ..experiment.records import Blob, Folder, open_below, open_experiment
from ..experiment.schemas import as_record
from ..experiment.timestamps import moment
from ..experiment.wording import describe
from ..experiment.writing import append, naming
from .estimates import CHARGED

_FOLDER = "budget"
_ANSWERED = ("answered", "unusable")
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOLERANCE = 1e-9
"""A billionth of a dollar: what adding up may lose."""

_MOST_UNTOLD = 4
"""So many calls of a model may end without an answer and without telling their cost, before any tells what one costs:
as many as are made for one answer while the service fails in a way that may pass."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a session may spend on calls, in US dollars, and how many it may make; ``None``: as much as it takes."""

    budget_usd: float | None
    max_calls: int | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A call that may be made now. ``estimate_usd`` is what was reserved for it, ``None`` where that is not known."""

    call: str
    model: str
    estimate_usd: float | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that may not be made: which allowance it does not fit into, and why, in one printable line."""

    what: Literal["budget", "calls"]
    reason: str


@dataclass(frozen=True, slots=True)
class MustWait:
    """A call that may be made or not once another one of its model has told what it cost: ask again in a moment."""

    reason: str


@dataclass(frozen=True, slots=True)
class Spent:
    """What a session has spent, in US dollars.

    ``calls`` are those made or under way. ``settled_usd`` is what those that have ended cost; ``unknown_calls`` of them
    did not tell, and count as their estimates. ``reserved_usd`` is what those under way are expected to cost.
    """

    calls: int
    settled_usd: float
    reserved_usd: float
    unknown_calls: int


class Ledger:
    """The ledger of the session named ``session``, kept by the experiment at ``root``.

    A reservation whose process is no longer there, or that is older than ``stale_after`` seconds, which should be more
    than a call takes, is one of a call that ended without telling what it cost. Without any allowance all calls are
    granted, and nothing is kept.
    """

    def __init__(self, root: Path, session: str, allowance: Allowance, *, stale_after: float = 3600.0) -> None:
        self._root = root
        usable = _SESSION.fullmatch(session) is not None
        self._session = session if usable else sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
        self._allowance = allowance
        self._stale_after = stale_after

    def reserve(self, model: str, estimate_usd: float | None) -> Reservation | Refused | MustWait:
        """Ask for one call of ``model``; it may be made if a :class:`Reservation` comes back.

        ``estimate_usd`` is what it is expected to cost, unless calls of the model in this session have told better:
        then it is the mean of those that ran to their end. Where neither is known but has to be, one call goes first
        and the others wait for it; if it fails and does not tell its cost, another one goes first, a few times.

        :raises CannotWrite: it cannot be reserved; the call may not be made.
        """
        if self._keeps_nothing:
            return Reservation("", model, known_cost(estimate_usd))
        with self._held() as folder:
            try:
                calls = _calls_in(folder.read(self._file))
            except _Unsound as error:
                return Refused("calls" if self._allowance.budget_usd is None else "budget", str(error))
            estimate = _usual_cost(calls, model, known_cost(estimate_usd))
            answer = self._objection(calls, model, estimate)
            if answer is None:
                reservation = Reservation(uuid.uuid4().hex, model, estimate)
                append(folder, self._file, _entry("reserve", reservation, estimate))
                return reservation
            return answer

    def settle(self, reservation: Reservation, cost_usd: float | None, outcome: CallOutcome) -> None:
        """Tell, once, what came of a call, and what it cost; ``None``, or a number that is no cost: it is not known.

        :raises CannotWrite: it cannot be told; the call counts as its estimate.
        """
        self._tell("settle", reservation, known_cost(cost_usd), outcome)

    def withdraw(self, reservation: Reservation) -> None:
        """Tell, once and instead of a cost, that a call was not made: it counts for nothing.

        :raises CannotWrite: it cannot be told; the call counts as its estimate.
        """
        self._tell("withdraw", reservation, None)

    def spent(self) -> Spent | None:
        """What was spent so far; ``None`` where nothing is kept, or what is kept cannot be relied on.

        Nothing is written.
        """
        if self._keeps_nothing:
            return None
        try:
            with ExitStack() as opened:
                folder = open_below(opened.enter_context(open_experiment(self._root)), (KEEPING, _FOLDER))
                found = folder if isinstance(folder, Blob) else opened.enter_context(folder).read(self._file)
            # A line without an end is being written at this moment.
            calls = _calls_in(found._replace(data=found.data[: found.data.rfind(b"\n") + 1]))
        except (OSError, _Unsound):
            return None
        under_way: list[_Call] = []
        ended: list[_Call] = []
        for call in calls.values():
            (under_way if self._is_under_way(call) else ended).append(call)
        return Spent(
            calls=len(calls),
            settled_usd=_charge(calls, ended),
            reserved_usd=_charge(calls, under_way),
            unknown_calls=sum(call.cost is None for call in ended),
        )

    @property
    def _keeps_nothing(self) -> bool:
        return self._allowance.budget_usd is None and self._allowance.max_calls is None

    @property
    def _file(self) -> str:
        return f"{self._session}.jsonl"

    @contextmanager
    def _held(self) -> Iterator[Folder]:
        """The ledger's directory, while no other process reads or writes the ledger.

        :raises CannotWrite: it cannot be made or locked, or the block could not write.
        """
        with ExitStack() as held:
            keeping = held.enter_context(Keeping(self._root))
            folder = keeping.folder(_FOLDER)
            held.enter_context(naming(f"{KEEPING}/{_FOLDER}/{self._file}"))
            held.enter_context(locked(keeping.lock_path(f"{_FOLDER}-{self._session}")))
            yield folder

    def _tell(self, what: str, reservation: Reservation, usd: float | None, outcome: CallOutcome | None = None) -> None:
        if not self._keeps_nothing:
            with self._held() as folder:
                append(folder, self._file, _entry(what, reservation, usd, outcome))

    def _objection(self, calls: Mapping[str, _Call], model: str, estimate: float | None) -> Refused | MustWait | None:
        """Why one more call of ``model`` cannot be made now, if it cannot."""
        most, budget = self._allowance.max_calls, self._allowance.budget_usd
        if most is not None and len(calls) >= most:
            return Refused("calls", f"at most {most} call{'s' * (most != 1)}: {len(calls)} made or under way")
        if budget is None:
            return None
        spent = _charge(calls, calls.values(), {model: estimate})
        so_far = f"budget of {_usd(budget)} USD: {_usd(spent)} spent or reserved"
        if estimate is not None:
            if spent + estimate <= budget + _TOLERANCE:
                return None
            return Refused("budget", f"{so_far}, the next call is estimated at {_usd(estimate)}")
        if spent >= budget - _TOLERANCE:
            return Refused("budget", f"{so_far}, what the next call costs is not known")
        alike = [call for call in calls.values() if call.model == model]
        if any(self._is_under_way(call) for call in alike):
            return MustWait(f"what a call of {describe(model)} costs is not known until the first one has ended")
        untold = [call for call in alike if call.cost is None]
        if any(call.outcome in _ANSWERED for call in untold):
            why = f"{describe(model)} reports no cost"
        elif len(untold) >= _MOST_UNTOLD:
            why = f"{len(untold)} calls of {describe(model)} gave no answer, and what they cost is not known"
        else:
            return None
        return Refused(
            "budget",
            f"a budget of {_usd(budget)} USD cannot be kept: {why}; limit its calls with --repair-max-calls instead",
        )

    def _is_under_way(self, call: _Call) -> bool:
        if call.ended or abs((datetime.now(timezone.utc) - call.time).total_seconds()) > self._stale_after:
            return False
        return call.host != host_name() or is_at_work(call.pid)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call as its entries tell it; ``cost`` is known only of one that has ended, and not of every such.

    ``outcome`` is what came of it, ``None`` until it has ended.
    """

    model: str
    time: datetime
    host: str
    pid: int
    estimate: float | None
    cost: float | None = None
    outcome: CallOutcome | None = None

    @property
    def ended(self) -> bool:
        return self.outcome is not None


class _Unsound(Exception):
    """A ledger that does not tell what was spent; ``str()`` says why, in one printable line."""


def _calls_in(found: Blob) -> dict[str, _Call]:
    """The calls that a ledger tells of, by their ids, without those that were not made after all.

    :raises _Unsound: a line of it is not what a session writes.
    """
    if found.state not in ("absent", "sound"):
        raise _unsound(found.file, found.reason)
    calls: dict[str, _Call] = {}
    withdrawn: set[str] = set()
    for number, line in enumerate(found.data.split(b"\n"), 1):
        if not line:
            continue
        place = f"{found.file} line {number}"
        record = as_record(Blob(place, "sound", line), "ledger-entry")
        if not record.sound:
            problem = record.problems[0]
            raise _unsound(f"{place} {problem.pointer}".rstrip(), problem.message)
        entry = record.data
        time = moment(entry["time"])
        if time is None:
            raise _unsound(f"{place} /time", f"expected a moment, found {describe(entry['time'])}")
        what, call = entry["what"], calls.get(entry["call"])
        if what == "reserve":
            if call is not None or entry["call"] in withdrawn:
                raise _unsound(f"{place} /call", "expected another call than before")
            calls[entry["call"]] = _Call(entry["model"], time, entry["host"], entry["pid"], entry["usd"])
        elif call is None or call.ended or call.model != entry["model"]:
            raise _unsound(f"{place} /call", "expected a call of this model that is under way")
        elif what == "settle":
            calls[entry["call"]] = replace(call, cost=entry["usd"], outcome=entry["outcome"])
        else:
            withdrawn.add(entry["call"])
            del calls[entry["call"]]
    return calls


def _unsound(place: str, message: str) -> _Unsound:
    return _Unsound(f"{place}: {message}; so it is not known what was spent")


def _entry(what: str, reservation: Reservation, usd: float | None, outcome: CallOutcome | None = None) -> bytes:
    entry = {
        "time": datetime.now(timezone.utc).isoformat(),
        "what": what,
        "call": reservation.call,
        "model": reservation.model,
        "usd": usd,
        **({} if outcome is None else {"outcome": outcome}),
        "host": host_name(),
        "pid": os.getpid(),
    }
    return json.dumps(entry).encode() + b"\n"


def _usual_cost(calls: Mapping[str, _Call], model: str, otherwise: float | None) -> float | None:
    """The mean cost of the calls of ``model`` that ran to their end and told it; ``otherwise`` where none did."""
    alike = (call for call in calls.values() if call.model == model and call.outcome in CHARGED)
    costs = [call.cost for call in alike if call.cost is not None]
    return math.fsum(costs) / len(costs) if costs else otherwise


def _charge(
    calls: Mapping[str, _Call], of: Iterable[_Call], estimates: Mapping[str, float | None] | None = None
) -> float:
    """What the calls ``of`` a ledger's ``calls`` count for: their costs, else their estimates, in US dollars.

    One without either counts as others of its model usually cost, by ``estimates`` or else by ``calls``.
    """
    usual = dict(estimates or {})
    charges = []
    for call in of:
        charge = call.estimate if call.cost is None else call.cost
        if charge is None:
            if call.model not in usual:
                usual[call.model] = _usual_cost(calls, call.model, None)
            charge = usual[call.model] or 0.0
        charges.append(charge)
    return math.fsum(charges)


def _usd(amount: float) -> str:
    """An amount with two digits behind the point, or four where it takes them.

    >>> _usd(2), _usd(0.1 + 0.2), _usd(0.0125)
    ('2.00', '0.30', '0.0125')
    """
    return f"{amount:.4f}".removesuffix("00")
