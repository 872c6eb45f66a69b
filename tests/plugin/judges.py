"""A judge of a conftest.py that does what a script says, and tells of every call that was made of it."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# All that a session imports late, and a conftest.py may import: a session within this process would import it anew.
import pytest_scylla.judging.command
import pytest_scylla.judging.plan
import pytest_scylla.repairing  # noqa: F401

from .support import Project

Step = dict[str, Any]
"""What the judge does when it is called once: see :func:`says` and those after it."""

MODELS = {"judge_01": "judge-large-1", "judge_02": "judge-medium-1", "judge_03": "judge-small-1"}
"""The model of each slot of the experiment that tests damage."""

_CONFTEST = """\
import base64
import json
import os
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pytest_scylla.judging import contract

SCRIPT, LOG = Path({script!r}), Path({log!r})


def wait_for(paths):
    deadline = time.monotonic() + 300
    while not all(Path(path).exists() for path in paths):
        assert time.monotonic() < deadline, f"{{paths}} did not all come"
        time.sleep(0.005)


def calls_for(slot):
    noted = LOG.read_bytes() if LOG.exists() else b""
    # Another process may be noting a call of its own: of a line that is being written, a part may be seen.
    whole = noted[: noted.rfind(b"\\n") + 1]
    return sum(json.loads(line)["slot"] == slot for line in whole.splitlines())


def next_step(script, slot):
    steps = script["slots"].get(slot) or script["otherwise"]
    return steps[min(calls_for(slot), len(steps) - 1)]


def note(script, request):
    entry = {{
        "slot": request.slot_id,
        "model": request.model,
        "prompt": base64.b64encode(request.prompt).decode(),
        "prompt_file": str(request.prompt_file),
        "workspace": request.workspace and str(request.workspace),
        "timeout": request.timeout,
        "attempt": request.attempt,
        "process": os.getpid(),
        "seen": [path for path in script["watched"] if Path(path).exists()],
        "time": time.time(),
    }}
    line = json.dumps(entry).encode() + b"\\n"
    with LOG.open("ab", 0) as file:
        assert file.write(line) == len(line)  # at once, so that lines of several processes do not mix


def failure(step):
    kind = getattr(contract, step["failure"])
    rest = {{"cost_usd": step.get("cost")}}
    if "scope" in step:
        rest["scope"] = step["scope"]
    if step.get("ends_in") is not None:
        rest["reset_at"] = datetime.now(timezone.utc) + timedelta(seconds=step["ends_in"])
    return kind(step["reason"], **rest)


def act(step):
    if "comes" in step:
        Path(step["comes"]).touch()
    wait_for(step.get("waits_for", ()))
    if step.get("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if step.get("interrupted"):
        raise KeyboardInterrupt
    if "error" in step:
        raise RuntimeError(step["error"])
    if "failure" in step:
        raise failure(step)
    return contract.JudgeReply(step["text"], cost_usd=step.get("cost"), usage=step.get("usage"))


@pytest.fixture(scope="session")
def scylla_judge():
    def scripted(request):
        script = json.loads(SCRIPT.read_text("utf-8"))
        step = next_step(script, request.slot_id)
        note(script, request)
        return act(step)

    return scripted
"""

COMMAND = "scylla_judge.<locals>.scripted"
"""The name by which the judge of the conftest.py is known, since it tells none."""


# What a judge does


def verdict(score: object = 0.75, passed: object = True, reasoning: object = "It does what was asked.") -> str:
    """An answer with one verdict, in a fence, after prose."""
    record = json.dumps({"score": score, "passed": passed, "reasoning": reasoning})
    return f"I looked at all of it.\n\n```json\n{record}\n```\n"


def says(text: str, cost: float | None = None) -> Step:
    """Answer with ``text``, for so many US dollars."""
    return {"text": text, "cost": cost}


def judges(score: float = 0.75, passed: bool = True, cost: float | None = None) -> Step:
    """Answer with a verdict."""
    return says(verdict(score, passed), cost)


def limit(ends_in: float | None, reason: str = "usage limit reached", cost: float | None = None) -> Step:
    """Say that a limit is reached, that ends in so many seconds if that is known."""
    return {"failure": "JudgeLimit", "reason": reason, "ends_in": ends_in, "cost": cost}


def transient(reason: str = "503 service unavailable", cost: float | None = None) -> Step:
    """Fail in a way that may pass."""
    return {"failure": "JudgeTransient", "reason": reason, "cost": cost}


def timeout(cost: float | None = None) -> Step:
    """Give no answer in time."""
    return {"failure": "JudgeTimeout", "reason": "no answer within 1200 s", "cost": cost}


def permanent(scope: str, reason: str) -> Step:
    """Fail in a way that does not pass, for the slot, the model or all."""
    return {"failure": "JudgePermanent", "reason": reason, "scope": scope}


def breaks(error: str = "a bug in my judge") -> Step:
    """Raise what no judge should."""
    return {"error": error}


INTERRUPTED: Step = {"interrupted": True}
"""Ctrl-C while the judge is asked."""

KILLED: Step = {"killed": True}
"""kill -9 of the process that asks."""


# The judge of a project


@dataclass(frozen=True)
class Call:
    """A call as the judge saw it. ``seen`` are those of the watched files that were there."""

    slot: str
    model: str
    prompt: bytes
    prompt_file: Path
    workspace: Path | None
    timeout: float
    attempt: int
    process: int
    seen: tuple[str, ...]
    time: float


class ScriptedJudge:
    """The judge of a project's conftest.py: what it is to do, and what it was asked.

    A test has to look at every call: it ends with :meth:`assert_all_looked_at`.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._script = project.path / "judge.json"
        self._log = project.path / "calls.jsonl"
        self._looked_at = 0
        self.write_conftest()
        self.does()

    def write_conftest(self, name: str = "conftest.py", also: str = "") -> None:
        """Write the judge's conftest.py, with ``also`` behind it."""
        text = _CONFTEST.format(script=str(self._script), log=str(self._log))
        self.project.write(name, f"{text}\n\n{also}" if also else text)

    def does(
        self,
        slots: Mapping[str, Sequence[Step]] | None = None,
        otherwise: Sequence[Step] = (judges(),),
        watched: Sequence[Path] = (),
    ) -> None:
        """Let it do ``slots[slot]`` at its calls for a slot, one step a call, the last again and again.

        ``otherwise`` is for all other slots. ``watched`` are files of which each call tells whether they are there.
        """
        script = {"slots": dict(slots or {}), "otherwise": list(otherwise), "watched": [str(path) for path in watched]}
        self._script.write_text(json.dumps(script), "utf-8")

    @property
    def calls(self) -> list[Call]:
        """All calls so far, in their order."""
        found = self._read()
        self._looked_at = len(found)
        return found

    @property
    def asked(self) -> list[str]:
        """The slots of all calls so far, in the order of the calls."""
        return [call.slot for call in self.calls]

    @property
    def counts(self) -> dict[str, int]:
        """How many calls there were so far for each slot that was asked about."""
        return dict(Counter(self.asked))

    def forget(self) -> None:
        """Forget the calls so far, which were all looked at: its next one is its first."""
        self.assert_all_looked_at()
        self._log.unlink(missing_ok=True)
        self._looked_at = 0

    def assert_all_looked_at(self) -> None:
        """Check that no call was made that the test did not look at."""
        assert len(self._read()) == self._looked_at, "calls were made that the test does not speak of"

    def _read(self) -> list[Call]:
        if not self._log.exists():
            return []
        return [_call(json.loads(line)) for line in self._log.read_text("utf-8").splitlines()]


def _call(entry: dict[str, Any]) -> Call:
    workspace = entry["workspace"]
    return Call(
        **{
            **entry,
            "prompt": base64.b64decode(entry["prompt"]),
            "prompt_file": Path(entry["prompt_file"]),
            "workspace": None if workspace is None else Path(workspace),
            "seen": tuple(entry["seen"]),
        }
    )
