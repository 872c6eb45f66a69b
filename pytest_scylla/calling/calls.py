"""The calls that one item takes in one session: each within the allowance, told in the journal, and repeated while the
service fails in a way that may pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Generic, TypedDict, TypeVar

import tenacity

from ..experiment.journal import CallKind, CallOutcome, begun_entry, call_entry, known_cost
from ..experiment.keeping import Keeping
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite
from .failures import CallFailed, CallLimit, CallTimeout, CallTransient
from .ledger import MustWait, Refused, Reservation
from .pauses import paused_until, set_pause
from .terms import Terms

T = TypeVar("T")

TRANSIENT_CALLS = 4
"""So many calls are made for one answer while the service fails in a way that may pass."""

_LONGEST_BACKOFF = 60.0
_MOMENT = timedelta(seconds=1)

_UNKNOWN_LIMIT = timedelta(minutes=5)
"""How long a limit is taken to hold of which nobody says when it ends."""

_OUTCOMES: dict[type[CallFailed], CallOutcome] = {
    CallLimit: "limit",
    CallTransient: "transient",
    CallTimeout: "timeout",
    CallFailed: "permanent",
}


class _About(TypedDict):
    what: CallKind
    item: str
    command: str
    model: str
    attempt: int


class NotGranted(Exception):
    """The session's allowance does not cover the call; ``str()`` says why."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody may be asked before ``until``, for ``reason``."""

    until: datetime
    reason: str


class _NotNow(Exception):
    """A call has to wait."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(waiting.reason)
        self.waiting = waiting


@dataclass(frozen=True, slots=True)
class Called(Generic[T]):
    """A call that was answered: by ``answer``, which cost so much; ``unusable`` says why it is of no use, if so."""

    answer: T
    cost_usd: float | None
    usage: dict[str, Any] | None
    unusable: str | None = None


class Calls:
    """The calls for one item (``T5/13/run_10/judge_01``), and what they took so far.

    ``cost_usd`` is ``None`` once a call's cost is not known.
    """

    def __init__(self, terms: Terms, item: str) -> None:
        self._terms = terms
        self._item = item
        self._limits = 0
        self._transient = 0
        self.made = 0
        self.cost_usd: float | None = 0.0
        self.seconds = 0.0

    def make(self, keeping: Keeping, model: str, attempt: int, call: Callable[[], Called[T]]) -> T | Waiting:
        """Return the answer of ``call``, which is repeated while it raises :class:`CallTransient`.

        While a limit holds, it is not made; nor while it is unknown what it costs, and another call is to tell.

        :raises NotGranted: the allowance does not cover it.
        :raises CallFailed: there is no answer, for another reason than a limit.
        """
        try:
            return self._make_patiently(keeping, model, attempt, call)
        except _NotNow as not_now:
            return not_now.waiting
        except CallLimit as limit:
            return self._pause(keeping, model, limit)

    def _make_patiently(self, keeping: Keeping, model: str, attempt: int, call: Callable[[], Called[T]]) -> T:
        backoff = self._terms.backoff
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(CallTransient),
            wait=tenacity.wait_exponential(multiplier=backoff, max=_LONGEST_BACKOFF) + tenacity.wait_random(0, backoff),
            # Those before it had to wait count as well: else two that wait for each other would never come to an end.
            stop=lambda _: self._transient % TRANSIENT_CALLS == 0,
            reraise=True,
        )
        answer: T = retrying(self._make_one, keeping, model, attempt, call)
        return answer

    def _make_one(self, keeping: Keeping, model: str, attempt: int, call: Callable[[], Called[T]]) -> T:
        now = datetime.now(timezone.utc)
        if pause := paused_until(keeping.experiment, self._terms.command, model, now):
            raise _NotNow(Waiting(pause.until, pause.reason))
        reserved = self._reserve(keeping, model, attempt)
        start = time.monotonic()
        outcome: CallOutcome = "interrupted"
        reason: str | None = None
        cost: float | None = None
        usage: dict[str, Any] | None = None
        made = True
        try:
            called = call()
            outcome, reason = ("answered", None) if called.unusable is None else ("unusable", called.unusable)
            cost, usage = known_cost(called.cost_usd), called.usage
            return called.answer
        except CallFailed as failure:
            outcome = next(kind for base, kind in _OUTCOMES.items() if isinstance(failure, base))
            reason, made = printable(str(failure)), failure.made
            cost = known_cost(failure.cost_usd) if made else 0.0
            raise
        finally:
            seconds = time.monotonic() - start
            if made:
                self._terms.ledger.settle(reserved, cost, outcome)
            else:
                self._terms.ledger.withdraw(reserved)
            self._transient = self._transient + 1 if outcome == "transient" else 0
            self.made += made
            self.seconds += seconds
            self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
            keeping.write_journal(
                call_entry(
                    **self._about(model, attempt),
                    outcome=outcome,
                    reason=reason,
                    cost_usd=cost,
                    usage=usage,
                    seconds=round(seconds, 3),
                )
            )

    def _reserve(self, keeping: Keeping, model: str, attempt: int) -> Reservation:
        """Reserve one call, and tell in the journal that it begins."""
        ledger, estimate = self._terms.ledger, self._terms.estimate(keeping.root, model).cost_usd
        judges = self._terms.kind == "judge-call"
        reserved = ledger.reserve(model if judges else f"{model} as agent", estimate)
        if isinstance(reserved, MustWait):
            reason = f"the first {'call' if judges else 'run'} of {printable(model)} tells what it costs"
            raise _NotNow(Waiting(datetime.now(timezone.utc) + _MOMENT, reason))
        if isinstance(reserved, Refused):
            raise NotGranted(f"{reserved.what}: {reserved.reason}")
        try:
            keeping.write_journal(begun_entry(**self._about(model, attempt)))
        except CannotWrite:
            ledger.withdraw(reserved)
            raise
        return reserved

    def _about(self, model: str, attempt: int) -> _About:
        """What the entries of a call tell of it, at its beginning and at its end."""
        return {
            "what": self._terms.kind,
            "item": self._item,
            "command": self._terms.command,
            "model": model,
            "attempt": attempt,
        }

    def _pause(self, keeping: Keeping, model: str, limit: CallLimit) -> Waiting:
        """Let everybody wait for the end of a limit.

        One that is met again and again is believed less each time to end when it says.
        """
        now = datetime.now(timezone.utc)
        least = now + timedelta(seconds=min(2**self._limits - 1, _UNKNOWN_LIMIT.total_seconds()))
        self._limits += 1
        ends = limit.reset_at
        if ends is not None and ends.tzinfo is None:
            ends = ends.astimezone()
        until = max(ends, least) if ends is not None and ends > now else now + _UNKNOWN_LIMIT
        set_pause(keeping, self._terms.command, model, until, str(limit))
        return Waiting(until, printable(str(limit)))
