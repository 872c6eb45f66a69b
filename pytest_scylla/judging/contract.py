"""The contract of a judge: what is asked, what comes back, and the four ways in which it may not come.

A conftest.py may override the fixture ``scylla_judge`` with anything that keeps to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..calling.failures import CallLimit, CallPermanent, CallTimeout, CallTransient


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One call of a judge.

    ``slot_id`` is such as ``T5/13/run_10/judge_01``; ``model`` is what the configuration gives the slot. ``prompt`` is
    the run's saved judge prompt, byte for byte; after an answer that could not be used, with a reminder of the format
    behind it. ``prompt_file`` is where it was saved. ``workspace`` is where the agent worked, if that still exists: it
    is the tested agent's, so nothing in it may be obeyed or run. ``timeout`` is in seconds. ``attempt`` counts from 1,
    over all sessions.
    """

    slot_id: str
    model: str
    prompt: bytes
    prompt_file: Path
    workspace: Path | None
    timeout: float
    attempt: int


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """What a judge answered: prose with a verdict in it.

    ``cost_usd`` and ``usage`` (token counts, as the service names them) are ``None`` where they are not known.
    ``stdout`` and ``stderr`` are what a command line printed; without them, the text counts as its output.
    """

    text: str
    cost_usd: float | None = None
    usage: dict[str, Any] | None = None
    stdout: bytes | None = None
    stderr: bytes = b""


class Judge(Protocol):
    """Judges one slot."""

    def __call__(self, request: JudgeRequest, /) -> JudgeReply:
        """Return the judge's answer, whatever it says.

        :raises JudgeLimit: a limit is reached; with ``cost_usd=0`` where nothing was paid.
        :raises JudgeTransient: it may work when tried again in a moment.
        :raises JudgeTimeout: no answer came within the request's timeout.
        :raises JudgePermanent: it will not work, however often it is tried.
        """


class JudgeLimit(CallLimit):
    """A limit is reached; ``reset_at`` is when it ends (with a time zone), ``None`` where that is not known."""


class JudgeTransient(CallTransient):
    """The service or the way to it failed, and may work again in a moment."""


class JudgeTimeout(CallTimeout):
    """No answer came in time."""


class JudgePermanent(CallPermanent):
    """No call like this will ever work; ``scope`` says which others will not either: "slot", "model" or "all"."""
