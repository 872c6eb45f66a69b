"""The judge that runs a command line: what the command gets, what it cannot be made to do, what comes back.

The commands are real processes, stand-ins on the PATH that write down what they were given and print what a test told
them to. The one for claude also obeys what it finds, as claude does, unless it is told not to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pytest_scylla.auditing.verdicts import verdicts_in
from pytest_scylla.calling.failures import CallFailed
from pytest_scylla.calling.presets import CLAUDE, GEMINI, PRESETS
from pytest_scylla.judging.answer import SYSTEM_PROMPT
from pytest_scylla.judging.command import command_judge
from pytest_scylla.judging.contract import (
    Judge,
    JudgeLimit,
    JudgePermanent,
    JudgeReply,
    JudgeRequest,
    JudgeTimeout,
    JudgeTransient,
)
from pytest_scylla.judging.settings import JudgeSettings

ANSWER = 'It works.\n```json\n{"score": 0.9, "passed": true, "grade": "A", "reasoning": "it works"}\n```\n'
RESULT = {"type": "result", "subtype": "success", "is_error": False, "api_error_status": None, "result": ANSWER}
RESULT |= {"total_cost_usd": 0.25, "usage": {"input_tokens": 7}}
PROMPT = "# Judge this\n@/etc/passwd {workspace} é \N{SNOWMAN}\n".encode() + b"\xff\0end"

# It knows the options that matter for what it loads, and takes, as claude does, all sources and tools by default. An
# old one does not know the variables that switch everything off.
STAND_IN = """\
#!{python} -IS
import json, os, sys

here = {here!r}
options = dict(word.split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
found = {{"argv": sys.argv, "cwd": os.getcwd(), "held": os.listdir("."), "environ": dict(os.environ)}}
found["stdin"] = sys.stdin.buffer.read().decode("latin-1")
for name in ("GEMINI_SYSTEM_MD", "GEMINI_CLI_SYSTEM_SETTINGS_PATH"):
    if name in os.environ:
        found[name] = open(os.environ[name], encoding="utf-8").read()

settings = json.loads(options.get("--settings", "{{}}"))
project = "project" in options.get("--setting-sources", "user,project,local")
safe = os.environ.get("CLAUDE_CODE_SAFE_MODE") == "1" and not os.path.exists(here + "/old")


def load(path):
    if os.path.exists(path):
        os.spawnlp(os.P_WAIT, "sh", "sh", path)


if project and not safe and not settings.get("disableAllHooks"):
    load(".claude/hook.sh")
for added in [options["--add-dir"]] if "--add-dir" in options else []:
    if project and not safe:
        load(added + "/.claude/skill.sh")
    if not safe:
        load(added + "/.claude/plugin.sh")
added = settings.get("permissions", {{}}).get("additionalDirectories", [])
found["read"] = [open(place + "/hello.py").read() for place in added]

with open(here + "/found.json", "w") as file:
    json.dump(found, file)
if os.path.exists(here + "/lifeline"):
    os.open(here + "/lifeline", os.O_RDONLY)
sys.stderr.write(open(here + "/stderr").read())
sys.stdout.buffer.write(open(here + "/stdout", "rb").read())
sys.exit(int(open(here + "/code").read()))
"""


class StandIn:
    """A command on the PATH."""

    def __init__(self, place: Path, name: str) -> None:
        self.place = place / f"{name}-at-work"
        self.place.mkdir()
        self.path = place / name
        self.path.write_text(STAND_IN.format(python=sys.executable, here=os.fspath(self.place)))
        self.path.chmod(0o755)
        self.prints()

    def prints(self, stdout: object = RESULT, stderr: str = "", code: int = 0) -> None:
        """Let it print this; what is not bytes, as JSON."""
        data = stdout if isinstance(stdout, bytes) else json.dumps(stdout).encode()
        (self.place / "stdout").write_bytes(data)
        (self.place / "stderr").write_text(stderr)
        (self.place / "code").write_text(str(code))

    @property
    def was_called(self) -> bool:
        return (self.place / "found.json").exists()

    @property
    def found(self) -> dict[str, Any]:
        """What it was given."""
        found: dict[str, Any] = json.loads((self.place / "found.json").read_text())
        return found

    def option(self, name: str) -> str:
        """The value of an option that it got once."""
        words: list[str] = self.found["argv"]
        (value,) = [word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")]
        return value


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; whatever a test does, nothing is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(place))
    yield place
    assert os.listdir(place) == []


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory of commands beside the system's own."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")
    return place


@pytest.fixture
def claude(path: Path) -> StandIn:
    return StandIn(path, "claude")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The tested agent's, with all that acts on whoever works in it, or adds it."""
    place = tmp_path / 'exp "{model}"' / "workspace"
    (place / ".claude").mkdir(parents=True)
    (place / "hello.py").write_text("print('Hello')\n")
    for name in ("hook", "skill", "plugin"):
        (place / ".claude" / f"{name}.sh").write_text(f"touch '{tmp_path}/{name}-was-here'\n")
    return place


def traces(tmp_path: Path) -> set[str]:
    """What of a workspace has acted."""
    return {trace.name.removesuffix("-was-here") for trace in tmp_path.glob("*-was-here")}


SETTINGS = JudgeSettings(
    name="claude", command=(), environment=(), system_prompt=None, timeout=20.0, backoff=0.0, fallback=False
)
ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/home/me", "ANTHROPIC_API_KEY": "key", "GITHUB_TOKEN": "secret"}


def judge_with(**changes: Any) -> Judge:
    return command_judge(replace(SETTINGS, **changes), ENVIRON)


def request(model: str = "opus", workspace: Path | None = None, timeout: float = 20.0) -> JudgeRequest:
    return JudgeRequest("T0/00/run_01/judge_01", model, PROMPT, Path("prompt.md"), workspace, timeout, 1)


def failure(judge: Judge, **changes: Any) -> CallFailed:
    with pytest.raises(CallFailed) as raised:
        judge(request(**changes))
    return raised.value


# ------------------------------------------------------------------------------------------------ what the command gets


def test_the_prompt_goes_in_byte_for_byte(claude: StandIn) -> None:
    judge_with()(request())
    assert claude.found["stdin"].encode("latin-1") == PROMPT


def test_the_command_gets_the_words_of_its_preset(claude: StandIn) -> None:
    judge_with()(request("opus[1m]"))
    assert claude.found["argv"][1:3] == ["-p", "--output-format=json"]
    assert claude.option("--model") == "opus[1m]"
    assert claude.option("--tools") == ""
    assert claude.option("--setting-sources") == ""


def test_it_works_in_an_empty_directory_of_its_own(claude: StandIn, temporary: Path, workspace: Path) -> None:
    judge_with()(request(workspace=workspace))
    assert claude.found["held"] == []
    assert Path(claude.found["cwd"]).parent == temporary
    assert not Path(claude.found["cwd"]).exists()


def test_it_gets_of_the_environment_what_it_needs(claude: StandIn) -> None:
    judge_with()(request())
    given = {name: value for name, value in claude.found["environ"].items() if name != "LC_CTYPE"}
    assert given == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/me",
        "ANTHROPIC_API_KEY": "key",
        **CLAUDE.environment,
    }


def test_the_user_names_what_else_it_gets_and_cannot_undo_what_the_preset_sets(claude: StandIn) -> None:
    environ = {**ENVIRON, "CLAUDE_CODE_SAFE_MODE": "0"}
    settings = replace(SETTINGS, environment=("GITHUB_TOKEN", "CLAUDE_CODE_*"))
    command_judge(settings, environ)(request())
    assert claude.found["environ"]["GITHUB_TOKEN"] == "secret"
    assert claude.found["environ"]["CLAUDE_CODE_SAFE_MODE"] == "1"


def test_by_default_the_environment_is_this_processs(claude: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://gateway")
    command_judge(SETTINGS)(request())
    assert claude.found["environ"]["ANTHROPIC_BASE_URL"] == "http://gateway"


def test_the_system_prompt_is_the_plugins_or_the_users(claude: StandIn) -> None:
    judge_with()(request())
    assert claude.option("--system-prompt").startswith(SYSTEM_PROMPT)
    judge_with(system_prompt="Judge {model} in {workspace}.")(request())
    assert claude.option("--system-prompt").startswith("Judge {model} in {workspace}.\n")


def test_codex_and_gemini_are_told_that_no_workspace_is_at_hand(path: Path, workspace: Path) -> None:
    codex, gemini = StandIn(path, "codex"), StandIn(path, "gemini")
    codex.prints(b'{"type":"turn.completed"}\n')
    gemini.prints({"response": "Fine."})
    judge_with(name="codex")(request(workspace=workspace))
    judge_with(name="gemini")(request(workspace=workspace))
    instructions = next(word for word in codex.found["argv"] if word.startswith("developer_instructions="))
    for told in (json.loads(instructions.partition("=")[2]), gemini.found["GEMINI_SYSTEM_MD"]):
        assert told.startswith(SYSTEM_PROMPT)
        assert told.endswith("The agent's workspace is not at hand: judge by what the prompt holds.\n")
        assert os.fspath(workspace) not in told
    assert not any(os.fspath(workspace) in word for word in (*codex.found["argv"], *gemini.found["argv"]))


def test_gemini_finds_its_files_while_it_runs(path: Path) -> None:
    gemini = StandIn(path, "gemini")
    gemini.prints({"response": "Fine."})
    judge_with(name="gemini", system_prompt="Judge {files}.")(request())
    assert gemini.found["GEMINI_SYSTEM_MD"].startswith("Judge {files}.\n")
    assert gemini.found["GEMINI_CLI_SYSTEM_SETTINGS_PATH"] == GEMINI.files["settings.json"]
    assert gemini.found["environ"]["GEMINI_CLI_TRUST_WORKSPACE"] == "true"
    assert not Path(gemini.found["environ"]["GEMINI_SYSTEM_MD"]).exists()


# -------------------------------------------------------------------------------------------------------- the workspace


def test_claude_may_read_the_workspace_and_is_told_where_it_is(claude: StandIn, workspace: Path) -> None:
    judge_with()(request(workspace=workspace))
    assert claude.found["read"] == ["print('Hello')\n"]
    assert claude.option("--tools") == "Read,Grep,Glob"
    assert f"The agent's workspace is the directory {json.dumps(str(workspace))}: " in claude.option("--system-prompt")


def test_the_workspace_is_named_as_it_is_found_without_links(claude: StandIn, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(workspace.parent)
    judge_with()(request(workspace=tmp_path / "link" / "workspace"))
    (added,) = json.loads(claude.option("--settings"))["permissions"]["additionalDirectories"]
    assert added == os.fspath(workspace)


def test_without_a_workspace_claude_has_no_tool_and_is_told_so(claude: StandIn) -> None:
    judge_with()(request())
    assert claude.found["read"] == []
    assert claude.option("--tools") == ""
    assert claude.option("--system-prompt").endswith("is not at hand: judge by what the prompt holds.\n")


@pytest.mark.parametrize("version", ["new", "old"])
def test_nothing_in_a_workspace_acts_on_its_judge(
    claude: StandIn, workspace: Path, tmp_path: Path, version: str
) -> None:
    (claude.place / version).touch()
    judge_with()(request(workspace=workspace))
    assert claude.found["read"]
    assert traces(tmp_path) == set()


def test_it_would_act_on_a_claude_that_is_not_told_otherwise(claude: StandIn, workspace: Path, tmp_path: Path) -> None:
    """So that the stand-in proves something."""
    subprocess.run([claude.path, "-p"], cwd=workspace, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    assert traces(tmp_path) == {"hook"}
    added = f"--add-dir={workspace}"
    subprocess.run([claude.path, added], cwd=tmp_path, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    assert traces(tmp_path) == {"hook", "skill", "plugin"}


# ----------------------------------------------------------------------------------------------- a command of one's own


def test_an_own_command_gets_what_its_template_names(path: Path, workspace: Path) -> None:
    own = StandIn(path, "my-judge")
    own.prints(ANSWER.encode())
    template = ("my-judge", "{model}", "--say={system_prompt}", "--in={workspace}", "{other}")
    judge = judge_with(command=template, system_prompt="Judge.", environment=("GITHUB_TOKEN",))
    assert judge(request(workspace=workspace)).text == ANSWER
    told = f"Judge.\nThe agent's workspace is the directory {json.dumps(str(workspace))}: look there, by absolute paths"
    assert own.found["argv"][1:2] == ["opus"]
    assert own.option("--say").startswith(told)
    assert own.found["argv"][3:] == [f"--in={workspace}", "{other}"]
    given = {name: value for name, value in own.found["environ"].items() if name != "LC_CTYPE"}
    assert given == {"PATH": "/usr/bin:/bin", "HOME": "/home/me", "GITHUB_TOKEN": "secret"}


def test_words_that_name_a_workspace_are_left_out_where_there_is_none(path: Path) -> None:
    own = StandIn(path, "my-judge")
    judge_with(command=("my-judge", "--in={workspace}", "end"))(request())
    assert own.found["argv"][1:] == ["end"]


def test_no_shell_reads_an_own_command(path: Path, tmp_path: Path) -> None:
    own = StandIn(path, "my-judge")
    judge_with(command=("my-judge", f"; touch {tmp_path}/hook-was-here", "$HOME", "{model}"))(request("$(id) `id` ;'"))
    assert own.found["argv"][1:] == [f"; touch {tmp_path}/hook-was-here", "$HOME", "$(id) `id` ;'"]
    assert traces(tmp_path) == set()


def test_limits_and_the_journal_know_the_judge_by_its_commands_name() -> None:
    names = [getattr(judge_with(name=name), "command", "") for name in PRESETS]
    assert names == list(PRESETS)
    assert getattr(judge_with(command=("/opt/bin/my-judge", "x")), "command", "") == "my-judge"


# ------------------------------------------------------------------------------------------------------ what comes back


def test_a_reply_is_the_text_with_its_cost_and_what_was_printed(claude: StandIn) -> None:
    claude.prints(RESULT, stderr="a warning\n")
    expected = JudgeReply(ANSWER, 0.25, {"input_tokens": 7}, json.dumps(RESULT).encode(), b"a warning\n")
    assert judge_with()(request()) == expected


def codex_lines(text: str) -> bytes:
    said = {"type": "item.completed", "item": {"type": "agent_message", "text": text}}
    return b"".join(json.dumps(event).encode() + b"\n" for event in (said, {"type": "turn.completed"}))


@pytest.mark.parametrize(
    ("name", "stdout", "kept"),
    [
        ("claude", json.dumps(RESULT).encode(), True),
        ("claude", json.dumps([{"type": "system"}, RESULT]).encode(), False),
        ("claude", json.dumps({"type": "system"}).encode() + b"\n" + json.dumps(RESULT).encode(), False),
        ("codex", codex_lines(ANSWER), False),
        ("gemini", json.dumps({"response": ANSWER}).encode(), False),
    ],
)
def test_what_was_printed_is_kept_only_where_an_audit_reads_the_same_in_it(
    path: Path, name: str, stdout: bytes, kept: bool
) -> None:
    StandIn(path, name).prints(stdout)
    reply = judge_with(name=name)(request())
    assert reply.text == ANSWER
    assert reply.stdout == (stdout if kept else None)
    assert verdicts_in((reply.stdout or reply.text.encode()).decode()) == verdicts_in(ANSWER) != []


def test_an_answer_without_a_verdict_comes_back_as_it_is(claude: StandIn) -> None:
    claude.prints({**RESULT, "result": "You've hit your session limit · resets 3pm (UTC)"})
    reply = judge_with()(request())
    assert reply.text == "You've hit your session limit · resets 3pm (UTC)"


# ------------------------------------------------------------------------------------------------------------- failures


def error(text: str, status: int | None = None) -> dict[str, object]:
    return {**RESULT, "is_error": True, "api_error_status": status, "result": text, "total_cost_usd": 0.5}


def test_a_limit_comes_with_its_end(claude: StandIn) -> None:
    claude.prints(error("Claude AI usage limit reached|4102444800", 429), "noise", 1)
    limit = failure(judge_with())
    assert isinstance(limit, JudgeLimit)
    assert str(limit) == "claude: a usage limit is reached: Claude AI usage limit reached|4102444800"
    assert limit.reset_at == datetime(2100, 1, 1, tzinfo=timezone.utc)
    assert limit.cost_usd == 0.5
    assert limit.stdout == (claude.place / "stdout").read_bytes()
    assert limit.stderr == b"noise"


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ZoneInfo]:
    """The zone of this process's clock."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield ZoneInfo("Asia/Tokyo")
    time.tzset()


def test_a_time_of_day_without_a_zone_is_local(claude: StandIn, tokyo: ZoneInfo) -> None:
    hour = (datetime.now(tokyo).hour + 2) % 24
    claude.prints(error(f"You've hit your limit · resets {hour}:00"), "", 1)
    limit = failure(judge_with())
    assert isinstance(limit, JudgeLimit)
    assert limit.reset_at is not None
    assert limit.reset_at.astimezone(tokyo).hour == hour


def test_a_failure_that_may_pass_is_transient(claude: StandIn) -> None:
    claude.prints(error("API Error: 500 Internal server error", 500), "", 1)
    transient = failure(judge_with())
    assert isinstance(transient, JudgeTransient)
    assert str(transient) == "claude: the service failed: API Error: 500 Internal server error"
    assert transient.cost_usd == 0.5


@pytest.mark.parametrize(
    ("text", "status", "scope"),
    [("Not logged in · Please run /login", None, "all"), ("gone", 404, "model"), ("so much", 413, "slot")],
)
def test_a_failure_that_will_not_pass_says_for_which_calls(
    claude: StandIn, text: str, status: int | None, scope: str
) -> None:
    claude.prints(error(text, status), "", 1)
    permanent = failure(judge_with())
    assert isinstance(permanent, JudgePermanent)
    assert permanent.scope == scope
    assert permanent.cost_usd == 0.5


def test_no_answer_in_time_is_a_timeout(claude: StandIn) -> None:
    os.mkfifo(claude.place / "lifeline")
    timeout = failure(judge_with(), timeout=1.0)
    assert isinstance(timeout, JudgeTimeout)
    assert str(timeout) == "claude: no answer in time: it was stopped after 1 s"
    assert claude.was_called


def test_a_command_that_is_not_there_stops_all_calls(path: Path) -> None:
    permanent = failure(judge_with())
    assert isinstance(permanent, JudgePermanent)
    assert permanent.scope == "all"
    assert str(permanent) == "claude: No such file or directory"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("model", ["", "--dangerously-skip-permissions", "a\nb"])
def test_a_model_that_is_no_name_is_not_asked_for(path: Path, name: str, model: str) -> None:
    command = StandIn(path, name)
    permanent = failure(judge_with(name=name), model=model)
    assert isinstance(permanent, JudgePermanent)
    assert permanent.scope == "model"
    assert str(permanent).startswith("expected the name of a model, found ")
    assert not command.was_called


def test_without_room_for_its_files_gemini_is_not_called(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gemini = StandIn(path, "gemini")
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "absent"))
    permanent = failure(judge_with(name="gemini"))
    assert isinstance(permanent, JudgePermanent)
    assert permanent.scope == "all"
    assert str(permanent) == f"gemini: expected room for its files in {tmp_path}/absent: No such file or directory"
    assert not gemini.was_called


def test_a_judge_is_asked_about_one_slot_after_the_other_through_the_same_object(claude: StandIn) -> None:
    judge = judge_with()
    claude.prints(error("gone", 404), "", 1)
    assert isinstance(failure(judge, model="first"), JudgePermanent)
    claude.prints()
    assert judge(request("second")).text == ANSWER
    assert claude.option("--model") == "second"
