"""Experiments with agents that are to run again, commands in the place of agents and judges, and sessions that die.

As a program it runs sessions in children of its own, and lets a child be killed with all that it started, at the n-th
thing that it does: a call that changes a file system, or a call of an agent or a judge. It reads lines from its
standard input, each a number and a project's directory, and answers each with a line: how many such things there were,
or "killed at" and the name of the one at which the session died. With 0 for the number, none dies.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import Plan, config_hash, run_dir, run_ids, write_experiment
from tests.unit.repairing import count_calls, tree
from tests.unit.repositories import Setting, with_repository, write

OPTIONS = ("--repair", "--repair-level=agents", "--repair-max-calls=100", "--scylla-exp=exp")
"""The one command that completes an experiment."""

SECRET = "sk-ant-a-key-that-is-to-be-written-nowhere"
"""What the commands get of the environment, and no file of an experiment may hold."""

_STAND_IN = """\
#!/bin/sh
here='{here}'
kind=judge
for word; do
    case $word in
    --dangerously-skip-permissions) kind=agent ;;
    --model=*) model=${{word#--model=}} ;;
    esac
done
cat > "$here/prompt.$$"
echo "$kind $model $PWD $$ ${{ANTHROPIC_API_KEY:-none}}" >> "$here/calls"
if [ -e "$here/last" ]; then
    # It is counted among all things that the session does; at the last, everything dies, the highest first.
    printf x >> "$here/events"
    number=$(wc -c < "$here/events")
    echo $number >> "$here/numbers"
    if [ $number -eq "$(cat "$here/last")" ]; then
        echo "$kind" > "$here/died"
        kill -KILL "$(cat "$here/session")" "$PPID" $$
    fi
fi
if [ -e "$here/$kind.sh" ]; then
    . "$here/$kind.sh"
elif [ "$kind" = agent ]; then
    echo 'print("counted")' > tally.py
fi
cat "$here/$kind.json"
"""

AGENT_REPLY = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "num_turns": 3,
    "result": "I wrote tally.py.",
    "session_id": "00000000-0000-4000-8000-000000000000",
    "total_cost_usd": 0.02,
    "usage": {
        "input_tokens": 10,
        "output_tokens": 20,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 40,
    },
}
_VERDICT = json.dumps({"score": 0.75, "passed": True, "reasoning": "It does what was asked."})
JUDGE_REPLY = {**AGENT_REPLY, "result": f"I looked at it.\n\n```json\n{_VERDICT}\n```\n"}


@dataclass(frozen=True)
class Call:
    """A call of a stand-in: as what ("agent" or "judge"), of which model, where, and with what on standard input.

    ``key`` is the API key that it found in its environment.
    """

    kind: str
    model: str
    cwd: Path
    prompt: bytes
    key: str


class StandIns:
    """The command ``claude`` of a project, which stands in for the agent and for the judges."""

    def __init__(self, project: Path) -> None:
        self.here = project / "claude"
        self.bin = project / "bin"
        self.bin.mkdir()
        self.here.mkdir()
        script = self.bin / "claude"
        script.write_text(_STAND_IN.format(here=self.here))
        script.chmod(0o755)
        self.prints("agent", AGENT_REPLY)
        self.prints("judge", JUDGE_REPLY)

    def prints(self, kind: str, reply: dict[str, Any]) -> None:
        """Let the ``kind`` print this."""
        (self.here / f"{kind}.json").write_text(json.dumps(reply) + "\n")

    def does(self, kind: str, script: str) -> None:
        """Let the ``kind`` do this, in the language of the shell, before it prints its reply."""
        (self.here / f"{kind}.sh").write_text(script)

    @property
    def path(self) -> str:
        """The PATH by which a session finds them."""
        return f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    @property
    def calls(self) -> list[Call]:
        """All calls so far, in their order."""
        found = []
        log = self.here / "calls"
        for line in log.read_text().splitlines() if log.exists() else ():
            kind, model, cwd, process, key = line.split(" ")
            found.append(Call(kind, model, Path(cwd), (self.here / f"prompt.{process}").read_bytes(), key))
        return found

    def ran(self, root: Path) -> list[str]:
        """The runs of the experiment at ``root`` whose agents were called, in the order of the calls."""
        return [str(call.cwd.parent.relative_to(root)) for call in self.calls if call.kind == "agent"]

    @property
    def numbers(self) -> list[int]:
        """The number of each call among all things that a session did which counts them."""
        return [int(line) for line in (self.here / "numbers").read_text().splitlines()]

    @property
    def judged(self) -> int:
        """How many calls of judges there were so far."""
        return sum(call.kind == "judge" for call in self.calls)


# Experiments


def write_unfinished(root: Path, plan: Plan) -> Setting:
    """Write an experiment of which each subtest has one sound run, its first, and one that failed, its last.

    Those between are absent. The base repository is a clone of a task's; sound and failed runs have workspaces in it,
    with an agent's work.
    """
    write_experiment(root, plan, missing=lambda run: not run.endswith("run_01"))
    setting = with_repository(root)
    checkpoint = root / "checkpoint.json"
    config = json.loads((root / "config/experiment.json").read_text())
    checkpoint.write_text(
        json.dumps({**json.loads(checkpoint.read_text()), "config_hash": config_hash(config)}, indent=2)
    )
    for run in run_ids(plan):
        place, branch = run_dir(root, plan, run), run.replace("/", "_")
        if run.endswith("run_01"):
            setting.set_up(str(place.relative_to(root)), branch=branch)
        elif int(run[-2:]) == plan.runs_per_subtest:
            fail(place)
            setting.set_up(str(place.relative_to(root)), work={"broken.py": f"# {run}\n"}, branch=branch)
    return setting


def fail(run: Path) -> None:
    """Let a run be one whose agent was killed before it printed anything."""
    write(run, {"agent/stderr.log": "killed\n", "agent/output.txt": "", "task_prompt.md": "Count words.\n"})


def copied(setting: Setting, project: Path) -> Setting:
    """A copy of an experiment in another project, whose workspaces belong to the copy of the base repository."""
    root = project / "exp"
    shutil.copytree(setting.root, root, symlinks=True)
    files = [*root.glob("repo/.git/worktrees/*/gitdir"), *root.glob("**/workspace/.git")]
    for path in files:
        path.write_text(path.read_text().replace(f"{setting.root}/", f"{root}/"))
    return replace(setting, root=root, base=root / "repo")


_VOLATILE = (
    (re.compile(rb"\d{4}-\d\d-\d\dT[0-9:.]+(?:\+00:00|Z)?"), b"(time)"),
    (re.compile(rb'((?:agent_|judge_)?duration_seconds": )[0-9.e-]+'), rb"\1(seconds)"),
    (re.compile(rb"--a\d+-[0-9a-f]{8}"), b"--(attempt)"),
    (re.compile(rb"/worktrees/workspace\d*"), b"/worktrees/(workspace)"),
)


def end_state(root: Path) -> dict[str, bytes]:
    """All files of an experiment but for what differs from one session to the next.

    That is where it lies, times, random names; and what repairs keep, the archives, and the inside of the repository.
    """
    found = {}
    for name, entry in tree(root).items():
        if "/.failed" not in name and not name.startswith("repo/.git/"):
            content = entry.content.replace(bytes(root.parent), b"(project)")
            if name == "checkpoint.json":  # whose runs are in the order in which they ended
                content = json.dumps(json.loads(content), sort_keys=True).encode()
            for pattern, word in _VOLATILE:
                content = pattern.sub(word, content)
            found[name] = content
    return found


# Sessions


def run_session(project: Path, stand_ins: StandIns, *options: str) -> subprocess.CompletedProcess[str]:
    """Complete the experiment of a project by the one command, in a process of its own."""
    with started(project, stand_ins, *options) as process:
        stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@contextmanager
def started(project: Path, stand_ins: StandIns, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The same session while it runs; what is left of it at the end is killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *OPTIONS, *options],
        cwd=project,
        env={**os.environ, "PATH": stand_ins.path, "ANTHROPIC_API_KEY": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                kill_all(process.pid)


def kill_all(session: int) -> None:
    """Kill a process and all that descend from it, all at one moment as far as they can tell."""
    stopped: set[int] = set()
    while new := _family(session) - stopped:
        for process in new:
            _signal(process, signal.SIGSTOP)
        stopped |= new
    for process in stopped:
        _signal(process, signal.SIGKILL)


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def _family(ancestor: int) -> set[int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_bytes()
        except OSError:
            continue
        state, parent = stat.rpartition(b")")[2].split()[:2]
        if state != b"Z":
            parents[int(name)] = int(parent)
    found = {ancestor} & parents.keys()
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _session(project: Path, last: int) -> int:
    """Run a session in this process; at the ``last`` thing it does, die."""
    here = project / "claude"
    (here / "last").write_text(str(last))
    (here / "session").write_text(str(os.getpid()))
    events = os.open(here / "events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    count = os.write, os.fstat

    def tell(name: str) -> bool:
        count[0](events, b"x")
        if count[1](events).st_size != last:
            return False
        (here / "died").write_text(name)
        return True

    def die_if_last(name: str) -> None:
        if name != "write" and tell(name):
            os.kill(os.getpid(), signal.SIGKILL)

    replaced = count_calls(die_if_last)
    whole = replaced["write"]

    def half(fd: int, data: Any) -> int:
        if tell("write"):
            count[0](fd, bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return int(whole(fd, data))

    # The kernel keeps what a killed process wrote: bringing it to the disk would only take time.
    replaced.update(write=half, fsync=lambda fd: None)
    for name, function in replaced.items():
        setattr(os, name, function)
    os.chdir(project)
    os.environ["PATH"] = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return int(
        pytest.main(["-p", "pytest_scylla.plugin", "-p", "no:cacheprovider", "-o", "scylla_backoff=0", *OPTIONS])
    )


def main() -> None:
    """Run sessions as the lines of the standard input say."""
    import pytest_scylla.judging.command
    import pytest_scylla.judging.plan
    import pytest_scylla.running.command
    import pytest_scylla.session  # noqa: F401  # once, and not in every child

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for line in sys.stdin:
        last, _, place = line.rstrip("\n").partition(" ")
        project = Path(place)
        child = os.fork()
        if not child:
            log = os.open(project / "session.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 70
            try:
                code = _session(project, int(last))
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer = f"killed at {(project / 'claude' / 'died').read_text().strip()}"
        elif status == 0:
            answer = str((project / "claude" / "events").stat().st_size)
        else:
            answer = f"exit status {os.waitstatus_to_exitcode(status)}"
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
