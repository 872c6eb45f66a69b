"""The fixtures that a repair goes through. A conftest.py may override each; its contract is in its docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .repair.regenerate import regenerate

if TYPE_CHECKING:
    from .judging.contract import Judge
    from .repair.request import Regenerate
    from .running.contract import Agent, MakeWorkspace


@pytest.fixture(scope="session")
def scylla_regenerate() -> Regenerate:
    """Rebuild one file of a run from what survives: a function of a ``RegenerateRequest`` to a ``Regenerated``.

    It is called for every file that an audit finds lost or wrong and that a rebuilt one could put right, raw files
    before those that derive from them. It receives what was read of the run, with the files rebuilt so far; it returns
    the file's bytes and the files they come from, or raises ``CannotRegenerate`` with the reason, in one line. Any
    other exception fails the item with its traceback, before anything of the run is written. It should read nothing
    and write nothing itself.

    Before: the run was audited. After: bytes that do not make the file's findings go away, or that contradict other
    records, are refused. The rest is written under the run's lock, atomically, with what it replaces in
    ``.scylla/quarantine/`` and an entry in ``.scylla/journal/``; then the run is audited again.

    A conftest.py of the directory where pytest is started overrides it, as do those above; a plugin that is loaded with
    ``-p`` does not. An override can fall back on this one::

        @pytest.fixture
        def scylla_regenerate(scylla_regenerate):
            def regenerate(request):
                if request.name == "agent/stderr.log":
                    return Regenerated(b"", sources=())
                return scylla_regenerate(request)

            return regenerate
    """
    return regenerate


@pytest.fixture(scope="session")
def scylla_judge(pytestconfig: pytest.Config) -> Judge:
    """Ask a judge about one slot: a function of a ``JudgeRequest`` to a ``JudgeReply``.

    It is called for a slot that is missing, or failed and cannot be rebuilt, at most once for each answer; under the
    run's lock, so never twice at a time for one run. While a limit keeps one slot waiting, others are asked about
    meanwhile, through the same function. It returns the judge's text, whatever it says, and what it cost if that is
    known; or it raises ``JudgeLimit`` (with the time when the limit ends, if that is known), ``JudgeTransient`` (it may
    work in a moment), ``JudgeTimeout``, or ``JudgePermanent`` (its ``scope`` says whether for this slot, this model or
    all). Any other exception fails the item with its traceback. An attribute ``command`` of the function, if it has
    one, is the name by which limits and the journal know it.

    Before: what survives was rebuilt, no limit holds that is known, the session's allowance covers the call. After:
    the answer is kept in ``.scylla/attempts/``; its last verdict is written to the slot, with consensus and
    run_result.json, or the judge is asked again. Retrying, parsing, writing and counting are the plugin's.

    The default runs a command line: ``claude``, ``codex``, ``gemini``, or that of ``scylla_judge_command``.
    A conftest.py of the directory where pytest is started overrides it, as do those above::

        @pytest.fixture
        def scylla_judge():
            def judge(request):
                text = my_service.ask(request.model, request.prompt.decode())
                return JudgeReply(text)

            return judge
    """
    from .judging.command import command_judge
    from .nodes import ASKING

    return command_judge(pytestconfig.stash[ASKING].repair.judge)


@pytest.fixture(scope="session")
def scylla_agent(pytestconfig: pytest.Config) -> Agent:
    """Run the agent of one run: a function of an ``AgentRequest`` to an ``AgentReply``.

    It is called under ``--repair-level=agents`` for a run that is missing, failed or partial, once a session; under the
    run's lock. It works in the request's workspace, which is fresh, and may change whatever it likes in there. It
    returns what the agent printed, however it did; or it raises ``AgentLimit``, ``AgentTransient``, ``AgentTimeout`` or
    ``AgentPermanent``, as a judge does. After a limit, a failure that may pass, or a permanent one for all or for this
    model, what was there before is there again: it was no attempt.

    Before: the old attempt was archived, a workspace made. After: the agent's files and its judges' prompt are written,
    and its judges are asked. An attribute ``recover`` of the function, if it has one, is asked with the same request
    for the reply of an agent that came to its end when nobody was left to look after it; ``None`` says that there is
    none.

    The default runs a command line: ``claude``, ``codex``, ``gemini``, or that of ``scylla_agent_command``.
    """
    from .nodes import ASKING
    from .running.command import command_agent

    agent = pytestconfig.stash[ASKING].repair.agent
    return command_agent(agent.name, agent.command, agent.environment)


@pytest.fixture(scope="session")
def scylla_workspace() -> MakeWorkspace:
    """Make the workspace of one run: a function of a ``WorkspaceRequest`` to a ``Workspace``.

    It is called after what was there before was archived, before the agent runs. It makes the request's
    ``run_directory / "workspace"`` and returns it with the branch and the commit that the agent starts from, or raises
    ``CannotPrepare`` with the reason, in one line; then what was there before is there again.

    The default makes a git worktree at the commit at which the runs of the same subtest started, on a branch of its
    own, and leaves everything else of the repository as it is.
    """
    from .running.workspace import make_workspace

    return make_workspace
