"""The contracts of an agent and of who makes its workspace: what they are given, what comes back, and what may fail.

A conftest.py may override the fixtures ``scylla_agent`` and ``scylla_workspace`` with anything that keeps to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..calling.failures import CallLimit, CallPermanent, CallTimeout, CallTransient
from ..experiment.expected import Experiment
from ..experiment.layout import RunId


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


@dataclass(frozen=True, slots=True)
class WorkspaceRequest:
    """A workspace that is wanted: of which run, for which attempt at it (the first is 1), in which directory.

    ``run_directory`` is the run's, below the experiment's root; it need not exist.
    """

    experiment: Experiment
    run: RunId
    attempt: int
    run_directory: Path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where an agent works: a directory, the branch that is checked out in it, and the commit that it starts from."""

    path: Path
    branch: str
    base_commit: str


class CannotPrepare(Exception):
    """There can be no workspace; ``str()`` is one printable line: why, and where there is one, the remedy."""


class MakeWorkspace(Protocol):
    """Makes workspaces."""

    def __call__(self, request: WorkspaceRequest, /) -> Workspace:
        """Make a fresh workspace for an attempt, beside which everything else stays as it is.

        :raises CannotPrepare: there can be none.
        """
