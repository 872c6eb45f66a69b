"""Whole sessions that ask the default judge: a ``claude`` on the PATH that answers, fails and hangs as the real one.

Each test tells how often it was called; a call costs money.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.experiment.keeping import KEEPING
from tests.unit.repairing import Tree, tree

RUN, SLOT = "T0/00/run_01", "T0/00/run_01/judge_02"

STAND_IN = """\
#!{python} -IS
import json, os, signal, subprocess, sys, time

here = {here!r}
with open(here + "/calls", "a") as calls:
    calls.write(json.dumps({{"argv": sys.argv[1:], "prompt": sys.stdin.buffer.read().decode("latin-1")}}) + "\\n")
exec(open(here + "/act").read())
"""

PATIENCE = 600.0
"""How long to wait for what comes soon, in seconds: it only guards against waiting for ever."""

VERDICT = {"score": 0.9, "passed": True, "reasoning": "It does what was asked."}


def answer(text: str, **changes: Any) -> str:
    """The object that claude prints."""
    result = {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "api_error_status": None,
        "result": text,
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 7},
    }
    return json.dumps({**result, **changes})


def error(text: str, status: int | None, **changes: Any) -> str:
    return answer(text, is_error=True, api_error_status=status, total_cost_usd=0, **changes)


def fenced(record: object) -> str:
    return f"I looked.\n\n```json\n{record if isinstance(record, str) else json.dumps(record)}\n```\n"


class Session:
    """A project with an experiment that lacks one slot, and the stand-in."""

    def __init__(self, place: Path, experiment: Path) -> None:
        self.place, self.root = place, place / "exp"
        shutil.copytree(experiment, self.root)
        shutil.rmtree(self.root / RUN / "judge" / "judge_02")
        self.tools = place / "bin"
        self.tools.mkdir()
        claude = self.tools / "claude"
        claude.write_text(STAND_IN.format(python=sys.executable, here=str(self.tools)))
        claude.chmod(0o755)
        self.before = self.files()

    def files(self) -> Tree:
        return tree(self.root)

    def acts(self, code: str) -> None:
        (self.tools / "act").write_text(code)

    def prints(self, text: str, code: int = 0, stderr: str = "") -> None:
        self.acts(f"print({text!r}); print({stderr!r}, file=sys.stderr); sys.exit({code})")

    def command(self, *options: str) -> list[str]:
        fast = ("-p", "no:cacheprovider", "-p", "no:randomly", "-o", "scylla_backoff=0")
        return [sys.executable, "-m", "pytest", *fast, "--scylla-exp=exp", "--repair", *options]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "SECRET_TOKEN": "hunter2"}

    def repair(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a session, which has to come to its end: it writes its report."""
        report = self.place / "report.json"
        report.unlink(missing_ok=True)
        command = self.command(f"--scylla-report={report.name}", *options)
        done = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        sys.stdout.write(done.stdout + done.stderr)  # shown if the test fails
        assert report.exists(), f"the session wrote no report; exit code {done.returncode}"
        return done

    @property
    def calls(self) -> list[dict[str, Any]]:
        place = self.tools / "calls"
        return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []

    @property
    def item(self) -> dict[str, Any]:
        report = json.loads((self.place / "report.json").read_text())
        (item,) = [item for item in report["experiments"][0]["items"] if item["id"] == SLOT]
        return dict(item)

    def slot(self, name: str) -> Any:
        return json.loads((self.root / RUN / "judge" / "judge_02" / name).read_text())


@pytest.fixture
def session(tmp_path: Path, one_run_experiment: Path) -> Iterator[Session]:
    made = Session(tmp_path, one_run_experiment)
    yield made
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (fenced(VERDICT), 0.9),
        (json.dumps(VERDICT), 0.9),
        (f"Well. {json.dumps(VERDICT)} That is all.", 0.9),
        (fenced({**VERDICT, "score": 0.2, "passed": False}) + "On second thought:\n" + fenced(VERDICT), 0.9),
        (fenced({**VERDICT, "score": 1}), 1.0),
    ],
    ids=["in a fence", "bare", "prose around", "several, the last counts", "a whole number"],
)
def test_a_verdict_takes_one_call_whatever_its_shape(session: Session, text: str, score: float) -> None:
    session.prints(answer(text))
    done = session.repair()
    assert done.returncode == 0
    (call,) = session.calls
    assert call["prompt"].encode("latin-1") == (session.root / RUN / "judge_prompt.md").read_bytes()
    assert "--model=judge-medium-1" in call["argv"]
    assert session.slot("judgment.json")["score"] == score
    assert "asked judges: 1 call, 0.25 USD; 1 slot judged" in done.stdout
    (judged, *_) = session.item["actions"]
    assert (judged["level"], judged["outcome"], judged["calls"], judged["cost_usd"]) == ("judges", "done", 1, 0.25)
    kept = session.files(), tree(session.root / KEEPING)
    assert session.repair().returncode == 0
    assert len(session.calls) == 1
    assert (session.files(), tree(session.root / KEEPING)) == kept


@pytest.mark.parametrize(
    "text",
    [
        fenced('{"score": NaN, "passed": true, "reasoning": "x"}'),
        fenced({**VERDICT, "score": 85}),
        fenced({**VERDICT, "score": "85%"}),
        fenced({**VERDICT, "passed": "false"}),
        fenced({"score": 0.9, "passed": True}),
        "I cannot help with that.",
        "",
    ],
    ids=["NaN", "85", "85%", "a text for passed", "no reasoning", "a refusal", "nothing"],
)
def test_an_answer_without_a_verdict_is_asked_for_three_times_and_becomes_no_score(session: Session, text: str) -> None:
    session.prints(answer(text))
    consensus = (session.root / RUN / "judge" / "result.json").read_bytes()
    done = session.repair()
    assert done.returncode == 1
    first, second, third = session.calls
    assert second["prompt"].startswith(first["prompt"])
    assert second["prompt"] != first["prompt"]
    assert len(third["prompt"]) >= len(first["prompt"])
    assert session.slot("timing.json")["failed"] is True
    assert not (session.root / RUN / "judge" / "judge_02" / "judgment.json").exists()
    assert (session.root / RUN / "judge" / "result.json").read_bytes() == consensus
    assert [found["code"] for found in session.item["findings"]] == ["judgment-missing", "exhausted"]
    assert session.repair().returncode == 1
    assert len(session.calls) == 3
    session.prints(answer(fenced(VERDICT)))
    assert session.repair("--repair-retry").returncode == 0
    assert len(session.calls) == 4


@pytest.mark.parametrize(
    ("act", "calls", "reason"),
    [
        ("print({!r}); sys.exit(1)".format(error("API Error: 529 Overloaded", 529)), 4, "529"),
        ("print({!r}); sys.exit(1)".format(error("API Error: 500 Internal server error", 500)), 4, "500"),
        ("print({!r}); sys.exit(1)".format(error("API Error: Unable to connect to API (ENOTFOUND)", None)), 4, "ENO"),
        ("sys.exit(1)", 4, "no output"),
        ("pass", 4, "no output"),
        ("print({!r}); sys.exit(1)".format(error("Invalid API key · Please run /login", 401)), 1, "API key"),
        ("print({!r}); sys.exit(1)".format(error("Credit balance is too low", 400)), 1, "Credit"),
        ("print({!r}); sys.exit(1)".format(error("There's an issue with the selected model (m)", 404)), 1, "model"),
        ("print('', end=''); print(\"error: unknown option '--x'\", file=sys.stderr); sys.exit(1)", 1, "option"),
    ],
    ids=["overloaded", "5xx", "no connection", "silent exit 1", "no output", "login", "credit", "model", "old command"],
)
def test_a_failure_of_the_place_changes_nothing_of_the_slot(
    session: Session, act: str, calls: int, reason: str
) -> None:
    session.acts(act)
    done = session.repair()
    assert done.returncode == 1
    assert len(session.calls) == calls
    assert session.files() == session.before
    (action,) = session.item["actions"]
    assert (action["outcome"], action["calls"]) == ("failed", calls)
    assert reason in action["reason"]
    assert not (session.root / KEEPING / "attempts").exists()


def test_without_the_command_nobody_is_asked(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (session.tools / "claude").unlink()
    monkeypatch.setenv("PATH", str(session.tools))
    done = session.repair()
    assert done.returncode == 1
    assert "judge call failed: claude: No such file or directory" in done.stdout
    assert "asked judges" not in done.stdout
    assert session.item["actions"][0]["calls"] == 0
    assert session.files() == session.before


def test_a_prompt_that_is_too_long_is_asked_once_and_counts_as_an_attempt(session: Session) -> None:
    session.prints(error("Prompt is too long", 400, terminal_reason="prompt_too_long"), 1)
    assert session.repair().returncode == 1
    assert len(session.calls) == 1
    assert session.slot("timing.json")["failed"] is True


def test_prose_that_mentions_limits_is_no_limit(session: Session) -> None:
    session.prints(answer("You've hit your limit · resets 4pm (America/Los_Angeles)\n" + fenced(VERDICT)))
    assert session.repair().returncode == 0
    assert len(session.calls) == 1
    assert not (session.root / KEEPING / "pauses").exists()


def test_a_limit_far_ahead_is_not_waited_for_and_holds_for_the_next_session(session: Session) -> None:
    ends = datetime.now(timezone.utc) + timedelta(hours=5)
    session.prints(error(f"Claude AI usage limit reached|{int(ends.timestamp())}", 429), 1)
    done = session.repair()
    assert done.returncode == 1
    assert len(session.calls) == 1
    assert session.files() == session.before
    assert session.item["outcome"] == "not-run"
    assert json.loads((session.place / "report.json").read_text())["exit_bits"] & 2
    assert session.repair().returncode == 1
    assert len(session.calls) == 1


def test_a_limit_that_ends_in_a_moment_is_waited_for(session: Session) -> None:
    session.acts(
        "limited = here + '/limited'\n"
        "if not os.path.exists(limited):\n"
        "    open(limited, 'w').close()\n"
        f"    print({error('Claude AI usage limit reached|ENDS', 429)!r}.replace('ENDS', str(int(time.time()) + 2)))\n"
        "    sys.exit(1)\n"
        f"print({answer(fenced(VERDICT))!r})"
    )
    assert session.repair().returncode == 0
    assert len(session.calls) == 2


def test_invalid_utf_8_around_a_verdict_does_no_harm(session: Session) -> None:
    text = answer("ab " + fenced(VERDICT)).encode().replace(b"ab ", b"\xff\xfe ")
    session.acts(f"sys.stdout.buffer.write({text!r})")
    assert session.repair().returncode == 0
    assert len(session.calls) == 1


def test_a_gigabyte_of_output_is_cut_off(session: Session) -> None:
    session.acts(
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "block = b'x' * 1048576\n"
        "for _ in range(1024):\n    sys.stdout.buffer.write(block)"
    )
    assert session.repair().returncode == 1
    assert len(session.calls) == 1
    assert session.slot("timing.json")["failed"] is True
    assert sum(path.stat().st_size for path in session.root.rglob("*") if path.is_file()) < 64 * 1024 * 1024


def wait_until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_there(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


HANG = (
    "child = subprocess.Popen(['sleep', '1000'], stdout=1, start_new_session=True)\n"
    "with open(here + '/pids.new', 'w') as file: file.write(f'{os.getpid()} {child.pid}')\n"
    "os.rename(here + '/pids.new', here + '/pids')\n"
    "time.sleep(1000)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="a grandchild in a session of its own is found on Linux only")
def test_a_hang_with_a_grandchild_that_keeps_the_output_ends_at_the_timeout(session: Session) -> None:
    session.acts(HANG)
    done = session.repair("-o", "scylla_judge_timeout=10")
    assert done.returncode == 1
    assert len(session.calls) == 1
    assert session.slot("timing.json")["failed"] is True
    assert not any(map(is_there, map(int, (session.tools / "pids").read_text().split())))


@pytest.mark.skipif(sys.platform != "linux", reason="a grandchild in a session of its own is found on Linux only")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_session_that_ends_in_mid_call_leaves_no_process_and_the_slot_as_it_was(session: Session, how: int) -> None:
    session.acts(HANG)
    process = subprocess.Popen(
        session.command(),
        cwd=session.place,
        env=session.environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # Whoever runs these tests in the background may have them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until((session.tools / "pids").exists, "the judge was not called")
    process.send_signal(how)
    process.wait(PATIENCE)
    pids = list(map(int, (session.tools / "pids").read_text().split()))
    wait_until(lambda: not any(map(is_there, pids)), "the judge outlived its session")
    assert session.files() == session.before
    session.prints(answer(fenced(VERDICT)))
    assert session.repair().returncode == 0
    assert len(session.calls) == 2


def test_a_worker_that_is_killed_in_mid_call_has_its_item_crash_and_not_start_again(session: Session) -> None:
    session.acts("os.kill(int(open(here + '/worker').read()), signal.SIGKILL); time.sleep(1000)")
    # The worker is the parent of the process that guards the judge.
    (session.place / "conftest.py").write_text(
        f"import os\ndef pytest_configure(config):\n"
        f"    if hasattr(config, 'workerinput'): open({str(session.tools / 'worker')!r}, 'w').write(str(os.getpid()))\n"
    )
    done = session.repair("-n", "1")
    assert done.returncode == 1
    assert len(session.calls) == 1
    assert session.item["outcome"] == "crashed"
    assert session.files() == session.before


def test_the_judge_gets_neither_the_session_s_secrets_nor_a_workspace_that_is_gone(session: Session) -> None:
    session.acts(
        "with open(here + '/environ', 'w') as file: json.dump(dict(os.environ), file)\n"
        f"print({answer(fenced(VERDICT))!r})"
    )
    assert session.repair().returncode == 0
    assert "SECRET_TOKEN" not in json.loads((session.tools / "environ").read_text())
    (call,) = session.calls
    assert "--tools=" in call["argv"]


def test_without_the_saved_prompt_nobody_is_asked(session: Session) -> None:
    (session.root / RUN / "judge_prompt.md").unlink()
    session.prints(answer(fenced(VERDICT)))
    done = session.repair()
    assert done.returncode == 1
    assert session.calls == []
    assert "evidence-gone" in done.stdout
