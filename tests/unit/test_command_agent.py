"""The agent that runs a command line: what the command gets, where it works, what comes back, and what is not lost.

The commands are real processes, stand-ins on the PATH that write down what they were given and print what a test told
them to.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.auditing.agent_output import read_copies
from pytest_scylla.calling.failures import CallFailed
from pytest_scylla.running.command import command_agent
from pytest_scylla.running.contract import (
    Agent,
    AgentLimit,
    AgentPermanent,
    AgentReply,
    AgentRequest,
    AgentTimeout,
    AgentTransient,
)

PROMPT = "think hard\n\n# Count words {model} é \N{SNOWMAN}\n".encode() + b"\xff\0end"
USAGE = {"input_tokens": 7, "output_tokens": 8, "cache_creation_input_tokens": 9, "cache_read_input_tokens": 10}
RESULT: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "api_error_status": None,
    "num_turns": 3,
    "result": "I wrote tally.py. The API rate limit was reached, says the text.",
    "total_cost_usd": 0.25,
    "usage": USAGE,
}
NO_TOKENS = dict.fromkeys(USAGE, 0)

# It works in the directory that it is in, as an agent does.
STAND_IN = """\
#!/bin/sh
here={here}
pwd > "$here/cwd"
printf '%s\\n' "$0" "$@" > "$here/argv"
env > "$here/environ"
cat > "$here/stdin"
echo 'print(412)' > tally.py
cat "$here/stderr" >&2
cat "$here/stdout"
{then}
"""


class StandIn:
    """A command on the PATH."""

    def __init__(self, place: Path, name: str) -> None:
        self.place = place / f"{name}-at-work"
        self.place.mkdir()
        self.path = place / name
        self.prints()

    def prints(self, stdout: object = RESULT, stderr: str = "", then: str = "exit 0") -> None:
        """Let it print this, what is not bytes as JSON, and go on as a shell does with ``then``."""
        data = stdout if isinstance(stdout, bytes) else json.dumps(stdout).encode() + b"\n"
        (self.place / "stdout").write_bytes(data)
        (self.place / "stderr").write_text(stderr)
        self.path.write_text(STAND_IN.format(here=shlex.quote(os.fspath(self.place)), then=then))
        self.path.chmod(0o755)

    def found(self, name: str) -> str:
        return (self.place / name).read_text()

    @property
    def was_called(self) -> bool:
        return (self.place / "argv").exists()

    @property
    def options(self) -> list[str]:
        return self.found("argv").splitlines()[1:]

    @property
    def environ(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.found("environ").splitlines() if "=" in line)


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
def request_(tmp_path: Path) -> AgentRequest:
    for name in ("workspace", "outputs"):
        (tmp_path / name).mkdir()
    (tmp_path / "workspace/README").write_text("Count words.\n")
    return AgentRequest(
        run_id="T0/00/run_01",
        model="agent-medium-1",
        prompt=PROMPT,
        prompt_file=tmp_path / "prompt.md",
        workspace=tmp_path / "workspace",
        timeout=30.0,
        max_turns=None,
        attempt=1,
        outputs=tmp_path / "outputs",
    )


def agent(
    name: str = "claude",
    command: tuple[str, ...] = (),
    further: tuple[str, ...] = (),
    environ: Mapping[str, str] = os.environ,
) -> Agent:
    return command_agent(name, command, further, environ)


def recovered(request: AgentRequest, name: str = "claude", command: tuple[str, ...] = ()) -> AgentReply | None:
    """What another process makes of what a command left in the request's outputs."""
    reply: AgentReply | None = agent(name, command).recover(request)  # type: ignore[attr-defined]
    return reply


def failure_of(call: Agent, request: AgentRequest) -> CallFailed:
    with pytest.raises(CallFailed) as raised:
        call(request)
    assert str(raised.value).isprintable()
    return raised.value


# What the command gets


def test_it_works_in_the_workspace_and_gets_the_prompt_byte_for_byte(claude: StandIn, request_: AgentRequest) -> None:
    agent()(request_)
    assert claude.found("cwd").strip() == str(request_.workspace)
    assert (claude.place / "stdin").read_bytes() == PROMPT
    assert sorted(os.listdir(request_.workspace)) == ["README", "tally.py"]


def test_claude_asks_nobody_before_it_acts(claude: StandIn, request_: AgentRequest) -> None:
    agent()(request_)
    assert claude.options == [
        "-p",
        "--output-format=json",
        "--model=agent-medium-1",
        "--dangerously-skip-permissions",
    ]


def test_claude_is_told_of_a_limit_on_turns_where_there_is_one(claude: StandIn, request_: AgentRequest) -> None:
    agent()(replace(request_, max_turns=12))
    assert claude.options[-1] == "--max-turns=12"


@pytest.mark.parametrize("name", ["codex", "gemini"])
def test_the_others_may_write_in_the_workspace_and_are_told_the_model(
    name: str, path: Path, request_: AgentRequest
) -> None:
    stand_in = StandIn(path, name)
    stand_in.prints(b"nothing that is a reply")
    failure_of(agent(name), request_)
    assert "--model=agent-medium-1" in stand_in.options
    writes = {"codex": "--sandbox=workspace-write", "gemini": "--approval-mode=yolo"}
    assert writes[name] in stand_in.options
    assert not [word for word in stand_in.options if "{" in word]


def test_a_command_of_ones_own_is_a_template(path: Path, request_: AgentRequest) -> None:
    own = StandIn(path, "mine")
    own.prints(b"I did it.\n")
    template = ("mine", "--model", "{model}", "--turns={max_turns}", "{workspace}", "{other}")
    agent(command=template)(request_)
    assert own.options == ["--model", "agent-medium-1", "{other}"]
    agent(command=template)(replace(request_, max_turns=5, outputs=_another(request_)))
    assert own.options == ["--model", "agent-medium-1", "--turns=5", "{other}"]


def _another(request: AgentRequest) -> Path:
    place = request.outputs.with_name("more-outputs")
    place.mkdir()
    return place


def test_it_gets_what_it_needs_of_the_environment_and_nothing_else(claude: StandIn, request_: AgentRequest) -> None:
    environ = {
        "ANTHROPIC_API_KEY": "k",
        "HOME": "/home/me",
        "DATABASE_PASSWORD": "p",
        "MINE": "m",
        "OPENAI_API_KEY": "o",
    }
    agent(further=("MINE",), environ={**os.environ, **environ})(request_)
    found = claude.environ
    assert {name: found.get(name) for name in environ} == {
        "ANTHROPIC_API_KEY": "k",
        "HOME": "/home/me",
        "DATABASE_PASSWORD": None,
        "MINE": "m",
        "OPENAI_API_KEY": None,
    }


def test_a_model_that_would_be_an_option_is_no_model(claude: StandIn, request_: AgentRequest) -> None:
    failure = failure_of(agent(), replace(request_, model="--settings=x"))
    assert isinstance(failure, AgentPermanent)
    assert failure.scope == "model"
    assert not claude.was_called


# What comes back


def test_what_it_printed_comes_back_with_what_it_cost(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(stderr="a warning\n")
    reply = agent()(request_)
    assert (json.loads(reply.stdout), reply.stderr, reply.exit_code) == (RESULT, b"a warning\n", 0)
    assert (reply.cost_usd, reply.usage) == (0.25, USAGE)
    assert reply.command == ("claude", *claude.options)
    assert reply.seconds is not None
    assert 0 < reply.seconds < 30


def test_one_that_took_tokens_and_exited_with_an_error_has_worked(claude: StandIn, request_: AgentRequest) -> None:
    broken = {**RESULT, "subtype": "error_max_turns", "is_error": True, "result": None}
    claude.prints(broken, then="exit 1")
    reply = agent()(request_)
    assert (json.loads(reply.stdout), reply.exit_code, reply.cost_usd) == (broken, 1, 0.25)


def test_codex_tells_its_tokens_in_its_output(path: Path, request_: AgentRequest) -> None:
    events = [
        {"type": "thread.started", "thread_id": "1"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "I wrote tally.py."}},
        {"type": "turn.completed", "usage": {"input_tokens": 7, "cached_input_tokens": 3, "output_tokens": 8}},
    ]
    printed = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    StandIn(path, "codex").prints(printed)
    reply = agent("codex")(request_)
    assert reply.stdout == printed
    output = read_copies([("output.txt", reply.stdout)])
    assert output.faults == ()
    assert output.reply is not None
    assert output.reply.tokens is not None
    assert (output.reply.tokens.input, output.reply.tokens.output) == (7, 8)


TOKENS = {"prompt": 100, "cached": 60, "candidates": 20, "thoughts": 5, "tool": 0, "total": 125}


def gemini_reply(models: dict[str, Any]) -> dict[str, Any]:
    return {"response": "I wrote tally.py.", "stats": {"models": models}}


def test_of_gemini_the_answer_is_the_output_and_its_tokens_are_counted_as_others_are(
    path: Path, request_: AgentRequest
) -> None:
    StandIn(path, "gemini").prints(gemini_reply({"pro": {"tokens": TOKENS}, "flash": {"tokens": TOKENS}}))
    reply = agent("gemini")(request_)
    assert reply.stdout == b"I wrote tally.py."
    assert reply.usage == {"input_tokens": 80, "output_tokens": 50, "cache_read_input_tokens": 120}


@pytest.mark.parametrize(
    "models", [{}, {"pro": {}}, {"pro": {"tokens": {**TOKENS, "prompt": "100"}}}, {"pro": {"tokens": {"prompt": 1}}}]
)
def test_what_gemini_does_not_count_is_not_known(models: dict[str, Any], path: Path, request_: AgentRequest) -> None:
    StandIn(path, "gemini").prints(gemini_reply(models))
    assert agent("gemini")(request_).usage is None


@pytest.mark.parametrize(("ending", "code"), [("exit 1", 1), ("kill -KILL $$", -9)])
@pytest.mark.parametrize("name", ["claude", "codex", "gemini"])
def test_one_that_told_its_whole_reply_has_worked_however_it_ended(
    name: str, ending: str, code: int, path: Path, request_: AgentRequest
) -> None:
    done = [
        {"type": "item.completed", "item": {"type": "agent_message", "text": "I wrote tally.py."}},
        {"type": "turn.completed", "usage": {"input_tokens": 7, "output_tokens": 8}},
    ]
    printed = {
        "claude": RESULT,
        "codex": b"".join(json.dumps(event).encode() + b"\n" for event in done),
        "gemini": gemini_reply({"pro": {"tokens": TOKENS}}),
    }
    command = StandIn(path, name)
    command.prints(printed[name], then=ending)
    reply = agent(name)(request_)
    assert reply.exit_code == code
    assert reply.stdout == (b"I wrote tally.py." if name == "gemini" else command.found("stdout").encode())
    assert reply.usage is not None


def test_a_command_of_ones_own_that_prints_text_and_exits_with_an_error_has_worked(
    path: Path, request_: AgentRequest
) -> None:
    StandIn(path, "mine").prints(b"I did half of it.\n", then="exit 3")
    reply = agent(command=("mine",))(request_)
    assert (reply.stdout, reply.exit_code, reply.usage, reply.cost_usd) == (b"I did half of it.\n", 3, None, None)


def test_a_command_of_ones_own_may_print_a_reply_with_tokens(path: Path, request_: AgentRequest) -> None:
    StandIn(path, "mine").prints(RESULT)
    reply = agent(command=("mine",))(request_)
    assert (reply.usage, reply.cost_usd) == (USAGE, 0.25)


# What is no execution


def error(message: str, status: int | None = None, usage: dict[str, int] = NO_TOKENS) -> dict[str, Any]:
    return {**RESULT, "is_error": True, "result": message, "api_error_status": status, "usage": usage}


def test_a_limit_is_told_with_its_end(claude: StandIn, request_: AgentRequest) -> None:
    moment = int(datetime.now(timezone.utc).timestamp()) + 3600
    claude.prints(error(f"Claude AI usage limit reached|{moment}", usage=USAGE), then="exit 1")
    failure = failure_of(agent(), request_)
    assert isinstance(failure, AgentLimit)
    assert failure.reset_at == datetime.fromtimestamp(moment, timezone.utc)
    assert failure.cost_usd == 0.25
    assert str(failure).startswith("claude: a usage limit is reached")


@pytest.mark.parametrize(
    ("printed", "kind", "scope"),
    [
        (error("Not logged in · Please run /login"), AgentPermanent, "all"),
        (error("There's an issue with the selected model (agent-medium-1)", 404), AgentPermanent, "model"),
        (error("Prompt is too long", 413), AgentPermanent, "slot"),
        (error("API Error: 529 overloaded", 529), AgentTransient, None),
        (b"", AgentTransient, None),
        (b"Segmentation fault", AgentTransient, None),
    ],
)
def test_other_failures_are_told_apart(
    printed: object, kind: type[CallFailed], scope: str | None, claude: StandIn, request_: AgentRequest
) -> None:
    claude.prints(printed, stderr="more on stderr\n", then="exit 1")
    failure = failure_of(agent(), request_)
    assert type(failure) is kind
    assert getattr(failure, "scope", None) == scope
    assert failure.of_the_place is (scope != "slot")
    assert str(failure).startswith("claude: ")
    assert failure.stdout == (claude.place / "stdout").read_bytes()
    assert failure.stderr == b"more on stderr\n"


def test_an_absent_command_cannot_be_started(path: Path, request_: AgentRequest) -> None:
    failure = failure_of(agent("codex"), request_)
    assert isinstance(failure, AgentPermanent)
    assert failure.scope == "all"
    assert "codex: No such file or directory" in str(failure)


def test_one_that_takes_too_long_is_ended_and_what_it_printed_is_told(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(b"half a rep", then="exec sleep 600")
    failure = failure_of(agent(), replace(request_, timeout=0.5))
    assert isinstance(failure, AgentTimeout)
    assert failure.stdout == b"half a rep"
    assert not failure.of_the_place


def test_one_that_is_killed_may_work_another_time(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(b"", then="kill -KILL $$")
    assert isinstance(failure_of(agent(), request_), AgentTransient)


# What is not lost


def test_a_reply_is_told_again_by_what_the_command_left(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(stderr="a warning\n", then="exit 3")
    request = replace(request_, max_turns=4)
    reply = agent()(request)
    again = recovered(request)
    assert again is not None
    assert again.seconds is not None
    assert reply.seconds is not None
    assert abs(again.seconds - reply.seconds) < 1
    assert replace(again, seconds=None) == replace(reply, seconds=None)


def test_a_failure_is_told_again_too(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(error("Claude AI usage limit reached"), then="exit 1")
    failure_of(agent(), request_)
    with pytest.raises(AgentLimit):
        recovered(request_)


def test_a_timeout_is_told_again_too(claude: StandIn, request_: AgentRequest) -> None:
    claude.prints(b"half a rep", then="exec sleep 600")
    failure_of(agent(), replace(request_, timeout=0.5))
    with pytest.raises(AgentTimeout) as raised:
        recovered(request_)
    assert raised.value.stdout == b"half a rep"


def test_of_a_command_that_did_not_come_to_its_end_nothing_is_told(request_: AgentRequest) -> None:
    assert recovered(request_) is None
    (request_.outputs / "stdout").write_text(json.dumps(RESULT))
    (request_.outputs / "stderr").write_text("")
    (request_.outputs / "notes").write_bytes(b"started 1000.0\0command 17\0")
    assert recovered(request_) is None


@pytest.mark.parametrize(
    "notes",
    [
        b"started never\0command 17\0exited 0\0",
        b"started nan\0command 17\0exited 0\0",
        b"started -inf\0command 17\0exited 0\0",
        b"started 1e999\0command 17\0exited 0\0",
        b"command 17\0exited 0\0",
    ],
)
def test_of_notes_that_do_not_tell_when_it_began_the_rest_counts(notes: bytes, request_: AgentRequest) -> None:
    _write_outputs(request_, notes)
    reply = recovered(request_)
    assert reply is not None
    assert reply.exit_code == 0
    assert reply.seconds == 0


@pytest.mark.parametrize("notes", [b"exited\0", b"exited x\0", b"exited 1e3\0", b"exited \xff\0", b"\xff\xfe", b""])
def test_notes_that_do_not_tell_an_end_tell_none(notes: bytes, request_: AgentRequest) -> None:
    _write_outputs(request_, notes)
    assert recovered(request_) is None


def _write_outputs(request: AgentRequest, notes: bytes) -> None:
    (request.outputs / "stdout").write_text(json.dumps(RESULT))
    (request.outputs / "stderr").write_text("")
    (request.outputs / "notes").write_bytes(notes)
