"""On what terms a session's process asks judges: whom, how often, for how much, and whom not any more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..calling.ledger import Ledger
from .contract import Judge, JudgePermanent
from .estimates import Estimate

TRANSIENT_CALLS = 4
"""So many calls are made for one answer while the service fails in a way that may pass."""

_TRANSIENT_SLOTS = 3
"""After so many slots in a row that it failed for, a model is not asked any more."""

UNKNOWN = Estimate(None, None)


@dataclass
class Terms:
    """Who is asked, ``judge``, and by what name it is known in limits and the journal, ``command``.

    ``timeout`` and ``backoff`` are in seconds.
    ``attempts`` is how often a slot is asked about, over all sessions, until there is a verdict; with ``retry``, as
    often again. ``fallback``: a slot without a verdict is given the old heuristic's where the agent's reply allows it.
    """

    ledger: Ledger
    judge: Judge | None = None
    command: str = ""
    timeout: float = 1200.0
    backoff: float = 2.0
    attempts: int = 3
    retry: bool = False
    fallback: bool = False
    estimates: dict[str, Estimate] = field(default_factory=dict)
    _stopped: str = ""
    _stopped_models: dict[str, str] = field(default_factory=dict)
    _failing: Counter[str] = field(default_factory=Counter)

    def take(self, judge: Judge) -> None:
        """Ask ``judge`` from now on; its ``command``, if it says one, is who answers."""
        self.judge = judge
        self.command = str(getattr(judge, "command", None) or getattr(judge, "__qualname__", type(judge).__qualname__))

    def estimate(self, model: str) -> Estimate:
        """What a call of ``model`` takes, as far as that is known."""
        return self.estimates.get(model, UNKNOWN)

    def stopped(self, model: str) -> str:
        """Why this process does not ask ``model`` any more; "" while it does."""
        return self._stopped or self._stopped_models.get(model, "")

    def note_permanent(self, model: str, failure: JudgePermanent) -> None:
        """Remember that no call can work, of this model or at all."""
        if failure.scope == "all":
            self._stopped = str(failure)
        elif failure.scope == "model":
            self._stopped_models[model] = str(failure)

    def note_transient(self, model: str, reason: str) -> None:
        """Remember that the service failed for one more slot."""
        self._failing[model] += 1
        if self._failing[model] >= _TRANSIENT_SLOTS:
            self._stopped_models[model] = f"the service failed for {_TRANSIENT_SLOTS} slots in a row: {reason}"

    def note_answer(self, model: str) -> None:
        """Remember that the service works."""
        del self._failing[model]
