"""On what terms a session's process runs agents."""

from __future__ import annotations

from dataclasses import dataclass

from ..calling.terms import Terms
from .contract import Agent, MakeWorkspace


@dataclass
class AgentTerms(Terms):
    """The terms of agent runs: who is run, and by whom its workspace is made.

    ``check`` is a command line that tells, in the workspace, how the agent did; it runs what the agent wrote.
    """

    check: tuple[str, ...] = ()
    agent: Agent | None = None
    make_workspace: MakeWorkspace | None = None

    def take(self, agent: Agent, make_workspace: MakeWorkspace) -> None:
        """Run ``agent`` from now on, in workspaces that ``make_workspace`` makes."""
        self.agent = agent
        self.make_workspace = make_workspace
        self.name_after(agent)
