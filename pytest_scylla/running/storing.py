"""Storing what came of an agent: its files in the run, and the prompt for its judges."""

from __future__ import annotations

import os
from datetime import datetime, timezone

from ..auditing.evidence import Policy
from ..auditing.run import examine
from ..calling.presets import without_secrets
from ..calling.process import run_command
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import RunId
from ..experiment.records import Blob, has_directory, open_below, read_below
from ..experiment.writing import naming
from ..repair.plan import Admits, Given, make_plan
from ..repair.request import Regenerate, written_like
from ..repair.transaction import RepairOutcome, carry_out
from .attempt import Ended
from .changes import CannotCompare, list_changes
from .prompts import judge_prompt
from .records import execution_files
from .terms import AgentTerms
from .workspace import WORKSPACE

_MOST_TOLD = 20_000
"""How many bytes of what a check printed a judge is told, of its end."""


def store(
    experiment: Experiment,
    run: RunId,
    policy: Policy,
    ended: Ended,
    keeping: Keeping,
    *,
    terms: AgentTerms,
    regenerate: Regenerate,
    admits: Admits,
) -> RepairOutcome:
    """Write the files of an execution, and what follows from them.

    :raises PromptLost: there is no task for its judges any more; none of the files was written.
    :raises CannotWrite: what lies in the way of the files cannot be moved.
    :raises ExperimentGone: the experiment itself can no longer be opened.
    """
    request, workspace, reply, reason, restored = ended
    place = os.fspath(request.prompt_file.parents[1].relative_to(experiment.root))
    _set_aside(keeping, place)
    case, audit = examine(experiment, run, policy)
    try:
        changes = list_changes(experiment, workspace)
        names, diff = list(changes.names), changes.diff
    except CannotCompare as error:
        names, diff = [f"not known: {error}"], ""
    if restored:
        names.append("not known: what the agent had not committed, for its workspace was removed")
    check = None if reason is not None else _check(experiment, keeping, place, terms)
    files = execution_files(
        reply,
        model=request.model,
        prompt=request.prompt,
        workspace=workspace.path,
        ended_at=datetime.now(timezone.utc),
        seconds=round(reply.seconds or 0.0, 3),
        environ=os.environ,
        task=keeping.experiment.read("prompt.md").data,
        judge_prompt=judge_prompt(keeping.experiment, reply.stdout, names, diff, check),
        write=written_like(case.evidence),
        broken_off=reason,
    )
    if read_below(keeping.experiment, f"{place}/agent/prompt.md").data == request.prompt:
        del files["agent/prompt.md"]  # which is there already
    given = Given("run", files, "agent/output.txt", "agents", ("prompt.md",))
    plan = make_plan(experiment, case, audit, regenerate, admits, given)
    return carry_out(experiment, run, policy, plan, keeping)


def _set_aside(keeping: Keeping, place: str) -> None:
    """Take what is in the run beside workspace and prompt out of it, to the quarantine.

    Nobody but the agent can have written it, which has no say in what is recorded of it: a judgment, say. Or a session
    that was killed while it stored the same execution.
    """
    for part, ours in (("", {WORKSPACE, "agent"}), ("/agent", {"prompt.md"})):
        folder = open_below(keeping.experiment, f"{place}{part}".split("/"))
        if isinstance(folder, Blob):
            continue
        with folder, naming(folder.file):
            for name in sorted(folder.names()):
                if name not in ours or (name == "agent" and folder.kind(name) != "directory"):
                    file = f"{folder.file}/{name}"
                    keeping.move_directory(file, folder, keeping.place_for_directory(file))


def _check(experiment: Experiment, keeping: Keeping, place: str, terms: AgentTerms) -> str | None:
    """What the user's check says of the workspace; ``None`` where there is none.

    It runs what the agent wrote, so it gets nothing of the environment that may be secret.
    """
    command = terms.check
    if not command:
        return None
    if not has_directory(keeping.experiment, f"{place}/{WORKSPACE}"):
        return "not run: the workspace is no directory"
    environment, inside = without_secrets(os.environ), experiment.root / place / WORKSPACE
    done = run_command(command, b"", environment=environment, timeout=terms.timeout, inside=inside)
    how = f"exit code {done.exit_code}" if done.ended == "exited" else f"{done.ended} {done.reason}".strip()
    return f"{how}\n{(done.stdout + done.stderr)[-_MOST_TOLD:].decode('utf-8', 'replace')}"
