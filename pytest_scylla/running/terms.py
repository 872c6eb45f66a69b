"""On what terms a session's process runs agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from ..calling.estimates import CHARGED
from ..calling.terms import Terms
from ..experiment.expected import Experiment
from ..experiment.journal import CallEntry, calls_in
from ..experiment.layout import RunId
from .contract import Agent, CannotPrepare, MakeWorkspace
from .workspace import clone_if_lost


@dataclass
class AgentTerms(Terms):
    """The terms of agent runs: who is run, and by whom its workspace is made.

    ``check`` is a command line that tells, in the workspace, how the agent did; it runs what the agent wrote.
    ``retry``: run agents also for a run for which they came to their end as often as is enough, to no avail. ``since``:
    when the session began, as far as this process knows.
    """

    check: tuple[str, ...] = ()
    retry: bool = False
    since: datetime = field(default_factory=partial(datetime.now, timezone.utc))
    agent: Agent | None = None
    make_workspace: MakeWorkspace | None = None
    _not_cloned: dict[Path, str] = field(default_factory=dict)
    _executions: dict[Path, Counter[str]] = field(default_factory=dict)

    def take(self, agent: Agent, make_workspace: MakeWorkspace) -> None:
        """Run ``agent`` from now on, in workspaces that ``make_workspace`` makes."""
        self.agent = agent
        self.make_workspace = make_workspace
        self.name_after(agent)

    def executions(self, experiment: Experiment, run: RunId) -> int:
        """How often an agent came to its end for ``run`` before this session, by the experiment's journals."""
        if experiment.root not in self._executions:
            self._executions[experiment.root] = Counter(call.item for call in executions_in(experiment.root))
        return self._executions[experiment.root][str(run)]

    def clone_if_lost(self, experiment: Experiment) -> None:
        """Clone the repository of an experiment's task, where its base repository is lost; what fails is not repeated.

        :raises CannotPrepare: it cannot be cloned.
        """
        if reason := self._not_cloned.get(experiment.root):
            raise CannotPrepare(reason)
        try:
            clone_if_lost(experiment)
        except CannotPrepare as error:
            self._not_cloned[experiment.root] = str(error)
            raise


def executions_in(root: Path) -> Iterator[CallEntry]:
    """The executions of which the journals of the experiment ``root`` tell that the agent came to an end of its own.

    :raises OSError: the experiment cannot be opened.
    """
    return (call for call in calls_in(root) if call.what == "agent-run" and call.outcome in CHARGED)
