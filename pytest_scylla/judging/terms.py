"""On what terms a session's process asks judges."""

from __future__ import annotations

from dataclasses import dataclass

from ..calling.terms import Terms
from .contract import Judge


@dataclass
class JudgeTerms(Terms):
    """The terms of judge calls, and who is asked, ``judge``.

    ``attempts`` is how often a slot is asked about, over all sessions, until there is a verdict; with ``retry``, as
    often again. ``fallback``: a slot without a verdict is given the old heuristic's where the agent's reply allows it.
    """

    attempts: int = 3
    retry: bool = False
    fallback: bool = False
    judge: Judge | None = None

    def take(self, judge: Judge) -> None:
        """Ask ``judge`` from now on."""
        self.judge = judge
        self.name_after(judge)
