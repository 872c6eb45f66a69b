"""On what terms a session's process makes calls: for how much, with what patience, and whom not to ask any more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..experiment.journal import CallKind
from .estimates import UNKNOWN, Estimate
from .failures import CallFailed, CallPermanent
from .ledger import Ledger

_TRANSIENT_ITEMS = 3
"""After so many items in a row that it failed for, a model is not asked any more."""


@dataclass
class Terms:
    """The terms of judge calls, or of agent runs. ``timeout`` and ``backoff`` are in seconds.

    ``command`` is the name by which limits and the journal know who answers. ``estimates`` are what a call of a model
    takes, in the experiment with a certain root.
    """

    kind: CallKind
    ledger: Ledger
    timeout: float
    backoff: float
    command: str = ""
    estimates: dict[tuple[Path, str], Estimate] = field(default_factory=dict)
    _stopped: str = ""
    _stopped_models: dict[str, str] = field(default_factory=dict)
    _failing: Counter[str] = field(default_factory=Counter)
    _waited: dict[str, timedelta] = field(default_factory=dict)

    def name_after(self, called: Any) -> None:
        """Know who answers by its attribute ``command``, or else by the name that it has in its source."""
        self.command = str(
            getattr(called, "command", None) or getattr(called, "__qualname__", type(called).__qualname__)
        )

    def estimate(self, root: Path, model: str) -> Estimate:
        """What a call of ``model`` takes in the experiment at ``root``, as far as that is known."""
        return self.estimates.get((root, model), UNKNOWN)

    def stopped(self, model: str) -> str:
        """Why this process does not ask ``model`` any more; "" while it does."""
        return self._stopped or self._stopped_models.get(model, "")

    def note(self, model: str, failure: CallFailed) -> None:
        """Remember what a failure for a reason of the place says about calls to come."""
        if isinstance(failure, CallPermanent):
            if failure.scope == "all":
                self._stopped = str(failure)
            else:
                self._stopped_models[model] = str(failure)
            return
        self._failing[model] += 1
        if self._failing[model] >= _TRANSIENT_ITEMS:
            self._stopped_models[model] = f"the service failed for {_TRANSIENT_ITEMS} items in a row: {failure}"

    def note_answer(self, model: str) -> None:
        """Remember that the service works."""
        del self._failing[model]
        self._waited.pop(model, None)

    def waited(self, model: str) -> timedelta:
        """How long this process has waited for ``model`` since it last answered, for whichever items."""
        return self._waited.get(model, timedelta())

    def note_wait(self, model: str, time: timedelta) -> None:
        """Remember a time for which ``model`` was waited for."""
        self._waited[model] = self.waited(model) + time
