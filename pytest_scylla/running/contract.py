"""The contract of an agent: what it is given, what comes back, and the four ways in which it may not run.

A conftest.py may override the fixture ``scylla_agent`` with anything that keeps to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..calling.failures import CallLimit, CallPermanent, CallTimeout, CallTransient


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """One execution of an agent.

    ``run_id`` is such as ``T5/13/run_10``; ``model`` is what the configuration names. ``prompt`` is the task, with the
    keyword of the configuration's thinking mode before it; ``prompt_file`` is where it was saved. ``workspace`` is
    where the agent works, and may change whatever it likes. ``timeout`` is in seconds, ``max_turns`` ``None`` for as
    many as it takes. ``attempt`` counts from 1. ``outputs`` is a directory for what a command prints: what is kept
    there of one that ended is not lost, whatever happens then.
    """

    run_id: str
    model: str
    prompt: bytes
    prompt_file: Path
    workspace: Path
    timeout: float
    max_turns: int | None
    attempt: int
    outputs: Path


@dataclass(frozen=True, slots=True)
class AgentReply:
    """An execution that came to an end, whatever the agent made of its task.

    ``stdout`` and ``stderr`` are what it printed, ``exit_code`` is how it ended; ``command`` is what was run, for the
    records. ``cost_usd`` and ``usage`` (``input_tokens``, ``output_tokens``, and perhaps
    ``cache_creation_input_tokens`` and ``cache_read_input_tokens``) are ``None`` where they are not known, or where
    ``stdout`` tells them; without token counts the records of the run stay incomplete. ``seconds`` is ``None`` where
    the time of the call is to count.
    """

    stdout: bytes
    stderr: bytes = b""
    exit_code: int = 0
    command: tuple[str, ...] = ()
    cost_usd: float | None = None
    usage: dict[str, Any] | None = None
    seconds: float | None = None


class Agent(Protocol):
    """Executes an agent."""

    def __call__(self, request: AgentRequest, /) -> AgentReply:
        """Run the agent to its end.

        :raises AgentLimit: a limit is reached; the agent did not work.
        :raises AgentTransient: it may work when tried again in a moment.
        :raises AgentTimeout: it did not come to an end within the request's timeout.
        :raises AgentPermanent: it will not work, however often it is tried.
        """


class AgentLimit(CallLimit):
    """A limit is reached; ``reset_at`` is when it ends (with a time zone), ``None`` where that is not known."""


class AgentTransient(CallTransient):
    """The service or the way to it failed, and may work again in a moment."""


class AgentTimeout(CallTimeout):
    """The agent did not come to an end in time; ``stdout`` and ``stderr`` are what it had printed."""


class AgentPermanent(CallPermanent):
    """No execution like this will ever work; ``scope`` says which others will not either."""
