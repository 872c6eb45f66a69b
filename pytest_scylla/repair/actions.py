"""What a repair did, would do, or declined to do: plain data, one action at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["regenerate", "judges", "agents"]
"""How far a repair goes: files from files; a judge call for a slot; the agent again. Each includes those before it."""

LEVELS: tuple[Level, ...] = ("regenerate", "judges", "agents")

Ending = Literal["done", "failed", "refused", "planned"]
"""What came of a repair; "planned" where nothing was to be written or called."""

NOT_RUN = "not-run: "
"""How a reason begins that passes: a limit, a budget, or whatever else a later session may find otherwise."""


@dataclass(frozen=True, slots=True)
class Action:
    """One repair of one item, as the report has it.

    ``what`` is its object, such as ``run_result.json``; ``files`` were written, ``solved`` are the codes of the
    findings that went away; ``sources`` are the files that it came from. ``reason`` says why it failed or was refused.
    ``calls`` are those of a judge or an agent; ``cost_usd`` and ``seconds`` are ``None`` where they are not known.
    """

    level: Level
    what: str
    outcome: Ending
    files: tuple[str, ...] = ()
    solved: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reason: str | None = None
    calls: int = 0
    cost_usd: float | None = 0
    seconds: float | None = 0.0

    @property
    def left_for(self) -> str:
        """The reason that passes for which it was not carried out; "" where there is none."""
        reason = self.reason or ""
        return reason.removeprefix(NOT_RUN) if reason.startswith(NOT_RUN) else ""

    def as_data(self) -> dict[str, Any]:
        """The action as plain data, under the names of the report."""
        return {
            "level": self.level,
            "what": self.what,
            "files": list(self.files),
            "solved": list(self.solved),
            "sources": list(self.sources),
            "outcome": self.outcome,
            "reason": self.reason,
            "calls": self.calls,
            "cost_usd": self.cost_usd,
            "seconds": self.seconds,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Action:
        """The reverse of :meth:`as_data`."""
        lists = {key: tuple(data[key]) for key in ("files", "solved", "sources")}
        return cls(**{**data, **lists})
