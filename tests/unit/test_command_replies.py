"""What came of a call, read off what the command printed: its answer, or what kind of failure."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_scylla.calling.process import Finished
from pytest_scylla.calling.replies import TABLE, Failure, Output, Reply, read_reply

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone(timedelta(hours=1)))
EPOCH = 1795615600
AT_EPOCH = datetime(2026, 11, 25, 14, 6, 40, tzinfo=timezone.utc)
FORMATS: tuple[Output, ...] = ("claude-json", "codex-jsonl", "gemini-json", "text")


def exited(code: int | None, stdout: str | bytes = b"", stderr: str | bytes = b"", **rest: Any) -> Finished:
    out, err = (text.encode() if isinstance(text, str) else text for text in (stdout, stderr))
    return Finished(code, out, err, 1.5, **{"ended": "exited" if code is not None else "timed-out", **rest})


def read(
    output: Output, code: int | None, stdout: str | bytes = b"", stderr: str | bytes = b"", **rest: Any
) -> Reply | Failure:
    return read_reply(exited(code, stdout, stderr, **rest), output, NOW)


def failed(
    output: Output, code: int | None, stdout: str | bytes = b"", stderr: str | bytes = b"", **rest: Any
) -> Failure:
    failure = read(output, code, stdout, stderr, **rest)
    assert isinstance(failure, Failure), failure
    return failure


def claude(result: str | None, **rest: Any) -> str:
    """The object that claude prints."""
    record = {"type": "result", "subtype": "success", "is_error": False, "api_error_status": None, "result": result}
    record |= {"total_cost_usd": 0.25, "usage": {"input_tokens": 7, "output_tokens": 2}, "terminal_reason": "completed"}
    return json.dumps({key: value for key, value in {**record, **rest}.items() if key != "result" or value is not None})


def claude_error(text: str, status: int | None = None, **rest: Any) -> str:
    return claude(
        text, is_error=True, api_error_status=status, total_cost_usd=0, **{"terminal_reason": "api_error", **rest}
    )


def codex(*events: dict[str, Any]) -> str:
    """The lines that codex prints."""
    return "".join(json.dumps(event) + "\n" for event in ({"type": "thread.started", "thread_id": "1"}, *events))


def codex_says(text: str) -> dict[str, Any]:
    return {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": text}}


def codex_error(message: str) -> dict[str, Any]:
    return {"type": "error", "message": message}


def codex_failed(message: str) -> dict[str, Any]:
    return {"type": "turn.failed", "error": {"message": message}}


def codex_fails(message: str) -> str:
    return codex({"type": "turn.started"}, codex_error(message), codex_failed(message))


CODEX_DONE = {"type": "turn.completed", "usage": {"input_tokens": 5, "output_tokens": 3}}


def gemini(response: str | None, **rest: Any) -> str:
    """The object that gemini prints."""
    return json.dumps({"session_id": "s", "response": response, **rest}, indent=2)


def gemini_error(message: str, kind: str = "Error", code: int | str = 1) -> str:
    return json.dumps({"session_id": "s", "error": {"type": kind, "message": message, "code": code}}, indent=2)


# ------------------------------------------------------------------------------------------------------------- answers


def test_claudes_answer_is_its_result_with_cost_and_usage() -> None:
    expected = Reply("Fine.\n{}", 0.25, {"input_tokens": 7, "output_tokens": 2})
    assert read("claude-json", 0, claude("Fine.\n{}")) == expected


def test_claudes_result_may_be_the_last_of_a_list_or_of_json_lines() -> None:
    before = [{"type": "system", "subtype": "init"}, {"type": "assistant", "message": {"content": [{"result": "no"}]}}]
    result = claude("Fine.")
    listed = json.dumps([*before, json.loads(result)])
    lines = "\n".join([*map(json.dumps, before), result, ""])
    for printed in (listed, f"\n {listed} \n", lines, f"a warning\n{lines}", json.dumps(json.loads(result), indent=2)):
        reply = read("claude-json", 0, printed)
        assert isinstance(reply, Reply)
        assert (reply.text, reply.cost_usd) == ("Fine.", 0.25)


def test_what_is_no_object_is_passed_over() -> None:
    reply = read("claude-json", 0, '{"type": "result", "result": \n{broken}\n' + claude("Fine.") + '\n{"cut')
    assert isinstance(reply, Reply)
    assert reply.text == "Fine."


def test_the_last_result_counts() -> None:
    reply = read("claude-json", 0, claude("first") + "\n" + claude("second"))
    assert isinstance(reply, Reply)
    assert reply.text == "second"


def test_codexs_answer_is_the_agents_last_message_once_the_turn_is_completed() -> None:
    printed = codex(
        {"type": "turn.started"},
        {"type": "error", "message": "Reconnecting... 1/5 (rate limit reached for you)"},
        {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
        {"type": "item.completed", "item": {"type": "reasoning", "text": "hm"}},
        codex_says("Thinking aloud."),
        codex_says("Fine."),
        {"type": "item.completed", "item": {"type": "command_execution", "text": "no"}},
        CODEX_DONE,
    )
    assert read("codex-jsonl", 0, printed) == Reply("Fine.", None, {"input_tokens": 5, "output_tokens": 3})


def test_geminis_answer_is_its_response() -> None:
    stats = {"models": {"g-1": {"api": {"totalErrors": 0}, "tokens": {"input": 4, "total": 9}}, "g-2": 1}, "tools": {}}
    expected = Reply("Fine.", None, {"g-1": {"input": 4, "total": 9}})
    assert read("gemini-json", 0, gemini("Fine.", stats=stats)) == expected
    assert read("gemini-json", 0, "Loaded credentials.\n" + gemini("Fine.")) == Reply("Fine.", None, None)


def test_an_own_commands_answer_is_what_it_prints() -> None:
    assert read("text", 0, "Fine.\n", "a warning") == Reply("Fine.\n")


def test_an_own_command_may_print_an_object_like_claudes() -> None:
    assert read("text", 0, claude("Fine.")) == Reply("Fine.", 0.25, {"input_tokens": 7, "output_tokens": 2})
    assert read("text", 0, '{"result": "Fine."}\n') == Reply("Fine.")
    assert failed("text", 0, claude_error("Not logged in · Please run /login")).kind == "permanent"
    assert read("text", 1, '{"result": "Fine."}\n') == Reply("Fine.")


def test_an_own_commands_bare_verdict_is_the_answer_itself() -> None:
    for printed in (
        '{"score": 1, "passed": true, "reasoning": "so"}',
        '{"score": 1, "passed": true, "result": "it works"}',
        '{"result": 5}',
        f"The agent printed:\n{claude('Done.')}\nwhich is fine.",
    ):
        assert read("text", 0, printed) == Reply(printed)


HARMFUL = [
    "You've hit your session limit · resets 3:30am (America/New_York)",
    "API Error: 429 Too Many Requests",
    "Not logged in · Please run /login",
    "error: unknown option '--model'",
    "Claude AI usage limit reached|1795615600",
    '{"type":"error","status":429,"error":{"type":"usage_limit_reached"}}',
    "Codex can't help with this. It is a bad agent.",
    "You're out of extra usage · resets 3am (UTC)",
    "Your credit balance is too low to access the Anthropic API.",
    "API Error: Rate limit reached",
]


@pytest.mark.parametrize("text", HARMFUL)
def test_what_an_answer_says_is_no_failure(text: str) -> None:
    for code in (0, 1):
        as_codex = codex(codex_says(text), CODEX_DONE)
        assert read("claude-json", code, claude(text), text) == Reply(
            text, 0.25, {"input_tokens": 7, "output_tokens": 2}
        )
        assert read("codex-jsonl", code, as_codex, text) == Reply(text, None, CODEX_DONE["usage"])  # type: ignore[arg-type]
        assert read("gemini-json", code, gemini(text), text) == Reply(text)
    assert read("text", 0, text, text) == Reply(text)


@given(st.text(min_size=1), st.text())
def test_no_text_of_an_answer_is_searched(text: str, noise: str) -> None:
    noise_bytes = noise.encode("utf-8", "replace")
    text = text.encode("utf-8", "replace").decode()
    for output, printed in (
        ("claude-json", claude(text)),
        ("codex-jsonl", codex(codex_says(text), CODEX_DONE)),
        ("gemini-json", gemini(text)),
    ):
        reply = read(output, 0, printed, noise_bytes)  # type: ignore[arg-type]
        assert isinstance(reply, Reply)
        assert reply.text == text


def test_an_answer_of_nothing_is_an_answer() -> None:
    assert read("claude-json", 0, claude("")) == Reply("", 0.25, {"input_tokens": 7, "output_tokens": 2})
    assert read("codex-jsonl", 0, codex(CODEX_DONE)) == Reply("", None, CODEX_DONE["usage"])  # type: ignore[arg-type]
    assert read("gemini-json", 0, gemini("")) == Reply("")


ENDINGS = {
    "exits with an error": (1, "exited"),
    "exits as others do that are called wrongly": (2, "exited"),
    "exits as others do that are terminated": (143, "exited"),
    "killed": (-9, "exited"),
    "terminated": (-15, "exited"),
    "does not exit": (None, "timed-out"),
}


@pytest.mark.parametrize(("code", "ended"), ENDINGS.values(), ids=ENDINGS.keys())
def test_a_whole_answer_counts_however_the_command_ended(code: int | None, ended: str) -> None:
    answers: list[tuple[Output, str]] = [
        ("claude-json", claude("Fine.")),
        ("codex-jsonl", codex(codex_says("Fine."), CODEX_DONE)),
        # Of an error that was overcome, nothing is left to tell.
        ("codex-jsonl", codex(codex_error("Reconnecting... 1/5"), codex_says("Fine."), CODEX_DONE)),
        ("gemini-json", gemini("Fine.")),
        ("text", claude("Fine.")),
    ]
    for output, printed in answers:
        reply = read(output, code, printed, "Not logged in\n", ended=ended)
        assert isinstance(reply, Reply)
        assert reply.text == "Fine."
    assert read("claude-json", code, claude("Fine."), ended=ended) == read("claude-json", 0, claude("Fine."))


@pytest.mark.parametrize(("code", "ended"), ENDINGS.values(), ids=ENDINGS.keys())
def test_of_a_command_that_did_not_end_well_neither_text_nor_half_an_answer_nor_an_error_counts(
    code: int | None, ended: str
) -> None:
    failed("text", code, "Fine.", ended=ended)
    failed("codex-jsonl", code, codex(codex_says("Fine.")), ended=ended)
    failed("claude-json", code, claude("Fine.")[:-1], ended=ended)
    failed("claude-json", code, claude_error("API Error: 500"), ended=ended)
    failed("gemini-json", code, gemini("Fine.", error={"message": "no"}), ended=ended)


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    assert read("text", 0, b"Fine \xff.") == Reply("Fine \ufffd.")
    reply = read("claude-json", 0, claude("Fine ?").encode().replace(b"?", b"\xff"))
    assert isinstance(reply, Reply)
    assert reply.text == "Fine \ufffd"
    assert failed("text", 1, b"", b"bad \xff\n").reason == "failed with exit code 1: bad \ufffd"


@pytest.mark.parametrize("cost", [-1, "0.5", True, 1e300, None, []])
def test_a_cost_that_is_none_is_not_known(cost: object) -> None:
    reply = read("claude-json", 0, claude("Fine.", total_cost_usd=cost))
    assert isinstance(reply, Reply)
    assert reply.cost_usd is None


def test_a_usage_that_is_no_object_is_not_known() -> None:
    reply = read("claude-json", 0, claude("Fine.", usage=[1]))
    assert isinstance(reply, Reply)
    assert reply.usage is None


Printed = tuple[Output, int, str, str]
"""What a command printed: the format, its exit code, standard output and standard error."""


def on_claude(text: str, status: int | None = None, **rest: Any) -> Printed:
    return "claude-json", 1, claude_error(text, status, **rest), ""


def on_codex(message: str) -> Printed:
    return "codex-jsonl", 1, codex_fails(message), ""


def on_gemini(exit_code: int, message: str, kind: str = "Error", code: int | str = 1) -> Printed:
    return "gemini-json", exit_code, "", gemini_error(message, kind, code)


def in_words(output: Output, code: int, stderr: str, stdout: str = "") -> Printed:
    return output, code, stdout, stderr


@pytest.mark.parametrize(
    ("printed", "begins"),
    [
        (on_claude("API Error: Opus 4.5 can't help with this. Start a new session to continue."), "API Error: Opus"),
        (on_claude("Opus 4.5's safeguards flagged this message"), "Opus 4.5"),
        (on_claude("Opus has safety measures that flagged this message for a topic"), "Opus has"),
        (on_claude("API Error: Claude Code is unable to respond to this request, which .."), "API Error: Claude Code"),
        (on_claude("No.", stop_reason="refusal"), "No."),
        (on_codex('{"type":"error","status":400,"error":{"code":"cyber_policy","message":"No."}}'), "{"),
        (on_codex('400 {"type":"error","status":400,"error":{"code":"bio_policy","message":"No."}}'), "400 {"),
        (on_codex('{"type":"error","status":400,"error":{"code":"invalid_prompt","message":"No."}}'), "{"),
        (
            ("gemini-json", 0, gemini("", error={"type": "INVALID_STREAM", "message": "It was blocked."}), ""),
            "It was blocked.",
        ),
    ],
)
def test_a_models_refusal_is_its_answer(printed: Printed, begins: str) -> None:
    reply = read(*printed)
    assert isinstance(reply, Reply)
    assert reply.text.startswith(begins)


# ------------------------------------------------------------------------------------------------------------ failures


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type,misc]


def in_error(message: str) -> str:
    """The message of an error as the service itself tells it."""
    message = message.format("2026-12-01 at 00:00 UTC")
    return "API Error: 400 " + json.dumps({"error": {"type": "invalid_request_error", "message": message}})


USED_UP = "You've hit your usage limit. Upgrade to Pro or try again"
COMPACTION = "Prompt is too long · automatic compaction failed"
USAGE_LIMITS: list[tuple[Printed, datetime | None]] = [
    (on_claude("You've hit your session limit · resets 3:30am (America/New_York)", 429), utc(2026, 11, 25, 8, 30)),
    (
        on_claude("You've hit your limit · resets 2:10pm (Europe/Moscow)", terminal_reason="blocking_limit"),
        utc(2026, 11, 24, 11, 10),
    ),
    (on_claude("You’ve hit your weekly limit · resets Mon 12:00am"), utc(2026, 11, 29, 23, 0)),
    (on_claude("Limit reached · resets 11:30am (Asia/Calcutta) · /upgrade"), utc(2026, 11, 25, 6, 0)),
    (on_claude("5-hour limit reached ∙ resets 2am"), utc(2026, 11, 25, 1, 0)),
    (on_claude("Claude usage limit reached. Your limit will reset at 10am (America/Lima)"), utc(2026, 11, 24, 15, 0)),
    (on_claude("You've reached your Fable limit"), None),
    (on_claude("You've hit your org's monthly usage limit", 429), None),
    (on_claude("You're out of extra usage · resets 3am (UTC)"), utc(2026, 11, 25, 3, 0)),
    (on_claude("API Error: You’re out of extra usage. Add more at claude.ai/settings/usage", 429), None),
    (
        on_claude(in_error("You have reached your specified API usage limits. You will regain access on {}."), 400),
        utc(2026, 12, 1, 0, 0),
    ),
    (on_claude("spend limit reached (daily; resets 2026-12-09 00:00 UTC)", 429), utc(2026, 12, 9, 0, 0)),
    (
        on_claude(f"{COMPACTION}: You've hit your session limit · resets 1:30am (UTC)", 400),
        utc(2026, 11, 25, 1, 30),
    ),
    (in_words("claude-json", 1, "", stdout=f"Claude AI usage limit reached|{EPOCH}"), AT_EPOCH),
    (in_words("text", 1, "", stdout="You've hit your limit · resets 4pm (UTC)\n"), utc(2026, 11, 24, 16, 0)),
    (in_words("text", 3, f"connecting\nError: {USED_UP} at 12:16 PM.\ndone\n"), utc(2026, 11, 24, 11, 16)),
    (on_codex(f"{USED_UP} at 12:16 PM."), utc(2026, 11, 24, 11, 16)),
    (on_codex(f"{USED_UP} in 2 days 1 hour."), utc(2026, 11, 26, 12, 0)),
    (on_codex("You've hit your usage limit for X. Switch to another model now, or try again later."), None),
    (
        on_codex(f'{{"type":"error","status":429,"error":{{"type":"usage_limit_reached","resets_at":{EPOCH}}}}}'),
        AT_EPOCH,
    ),
    (
        on_codex('unexpected status 429: {"error":{"type":"usage_limit_reached","resets_in_seconds":60}}'),
        NOW + timedelta(seconds=60),
    ),
    (
        on_gemini(173, "You have exhausted your capacity on this model. Your quota will reset after 4h28m20s."),
        NOW + timedelta(hours=4, minutes=28, seconds=20),
    ),
    (on_gemini(173, "You have exhausted your daily quota on this model."), None),
    (on_gemini(173, "Used up", "TerminalQuotaError", 429), None),
]
RATE_LIMITS: list[tuple[Printed, datetime | None]] = [
    (on_claude("API Error: Server is temporarily limiting requests (not your usage limit)"), None),
    (on_claude("API Error: Request rejected (429) · this may be temporary"), None),
    (on_claude("something new", 429), None),
    (on_claude("API Error: Rate limit reached"), None),
    (on_claude('API Error: 429 {"type":"error","error":{"type":"rate_limit_error","message":"Slower"}}'), None),
    (
        on_codex("Rate limit reached for gpt-5.1 in organization. Please try again in 11.5s."),
        NOW + timedelta(seconds=11.5),
    ),
    (on_codex("exceeded retry limit, last status: 429 Too Many Requests, request id: 1"), None),
    (
        on_codex('{"error":{"code":"rate_limit_exceeded","message":"Please try again in 2s."}}'),
        NOW + timedelta(seconds=2),
    ),
    (
        on_codex(f'{{"type":"error","error":{{"type":"rate_limit_error","resets_at":{EPOCH}}}}}'),
        AT_EPOCH,
    ),
    (
        on_gemini(
            1, '{"error":{"message":"Quota exceeded.","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"38s"}]}}'
        ),
        NOW + timedelta(seconds=38),
    ),
    (
        on_gemini(1, json.dumps({"error": {"message": '{"error":{"code":429,"message":"Please retry in 47.5s"}}'}})),
        NOW + timedelta(seconds=47.5),
    ),
    (on_gemini(1, "Suggested retry after 60s.", "RetryableQuotaError"), NOW + timedelta(seconds=60)),
    (in_words("gemini-json", 173, "a stack trace\n"), None),
    (in_words("text", 1, "Error: 429 Too Many Requests\nRetry-After: 30\n"), NOW + timedelta(seconds=30)),
    (in_words("text", 1, "retry-after: 30\nError: Rate limit reached for x\nend\n"), NOW + timedelta(seconds=30)),
    (("claude-json", 1, claude_error("something new", 429), "retry-after: 30\n"), NOW + timedelta(seconds=30)),
]


@pytest.mark.parametrize(("printed", "reset_at"), USAGE_LIMITS)
def test_a_used_up_allowance_is_a_limit_with_its_end(printed: Printed, reset_at: datetime | None) -> None:
    failure = failed(*printed)
    assert (failure.kind, failure.scope) == ("limit", None)
    assert failure.reason.startswith("a usage limit is reached: ")
    assert failure.reset_at == reset_at


@pytest.mark.parametrize(("printed", "reset_at"), RATE_LIMITS)
def test_too_many_calls_are_a_limit_with_its_end_if_that_is_told(printed: Printed, reset_at: datetime | None) -> None:
    failure = failed(*printed)
    assert (failure.kind, failure.scope) == ("limit", None)
    assert failure.reason.startswith("too many calls: ")
    assert failure.reset_at == reset_at


def limit_event(status: str, **rest: Any) -> str:
    """The line in which claude tells how it stands with its limits."""
    return json.dumps({"type": "rate_limit_event", "rate_limit_info": {"status": status, "resetsAt": EPOCH, **rest}})


@pytest.mark.parametrize("text", ["You've used all your credits", "something new", ""])
def test_a_failure_is_a_limit_where_claude_says_in_a_field_that_it_was_rejected(text: str) -> None:
    failure = failed("claude-json", 1, limit_event("rejected") + "\n" + claude_error(text))
    assert (failure.kind, failure.reset_at) == ("limit", AT_EPOCH)
    assert failure.reason.startswith("a usage limit is reached")
    listed = json.dumps([json.loads(limit_event("rejected")), json.loads(claude_error(text))])
    assert failed("claude-json", 1, listed) == failure


@pytest.mark.parametrize(
    "events",
    [
        [limit_event("allowed")],
        [limit_event("allowed_warning")],
        [limit_event("allowed", overageStatus="rejected", isUsingOverage=False)],
        [limit_event("rejected", isUsingOverage=True)],
        [limit_event("rejected"), limit_event("allowed")],
    ],
    ids=["allowed", "warning", "no extra usage to be had", "extra usage goes on", "allowed since"],
)
def test_a_failure_is_none_where_claude_was_not_rejected_for_one(events: list[str]) -> None:
    failure = failed("claude-json", 1, "\n".join([*events, claude_error("API Error: 500 no", 500)]))
    assert (failure.kind, failure.reset_at) == ("transient", None)


def test_an_answer_counts_though_claude_was_rejected_for_a_limit() -> None:
    reply = read("claude-json", 0, limit_event("rejected") + "\n" + claude("Fine."))
    assert isinstance(reply, Reply)


@pytest.mark.parametrize("status", ["allowed", "allowed_warning", "rejected"])
def test_the_end_of_a_limit_that_claude_tells_in_a_field_comes_before_its_words(status: str) -> None:
    printed = limit_event(status) + "\n" + claude_error("You've hit your limit · resets 4pm (UTC)", 429)
    in_its_words = utc(2026, 11, 24, 16, 0)
    assert failed("claude-json", 1, printed).reset_at == (AT_EPOCH if status == "rejected" else in_its_words)


ALL: tuple[str, str | None] = ("permanent", "all")
MODEL: tuple[str, str | None] = ("permanent", "model")
SLOT: tuple[str, str | None] = ("permanent", "slot")
PASSES: tuple[str, str | None] = ("transient", None)

FAILURES: dict[tuple[tuple[str, str | None], str], list[Printed]] = {
    (ALL, "no credit"): [
        on_claude("Credit balance is too low", 400),
        on_claude("Your credit balance is too low to access the Anthropic API."),
        on_claude(in_error("Your credit balance is too low to access the Anthropic API. Please go to Plans."), 400),
        on_claude("Pay first", 402),
        on_claude('API Error: 400 {"type":"error","error":{"type":"billing_error","message":"Pay first"}}'),
        on_codex("Your workspace is out of credits. Add some."),
        on_codex("You hit your spend cap. Raise it."),
        on_codex("Quota exceeded. Check your plan and billing details."),
        on_codex("To use Codex with your ChatGPT plan, upgrade to Plus"),
        on_codex('unexpected status 429: {"error":{"code":"insufficient_quota"}}'),
        ("codex-jsonl", 1, codex(codex_error('{"error":{"code":"insufficient_quota"}}'), codex_failed('{"a":1}')), ""),
    ],
    (MODEL, "the model cannot be used"): [
        on_claude("There's an issue with the selected model (x). It may not exist or ..", 404),
        on_claude("API Error: There's an issue with the selected model (x)."),
        on_claude("gone", 404),
        on_claude("There's an issue with the selected model (x)", 403),
        on_claude("Model x is not a recognized model id"),
        on_claude("Model x is restricted by your organization's settings"),
        on_claude("Claude Opus is not available with the Claude Pro plan"),
        on_claude("API Error: Usage credits required for 1M context · run /usage-credits"),
        on_claude('API Error: 400 {"type":"error","error":{"type":"not_found_error","message":"model: x"}}'),
        on_codex("The 'x' model is not supported when using Codex with a ChatGPT account."),
        on_codex('{"error":{"code":"model_not_found"}}'),
        on_gemini(1, "gone", "ModelNotFoundError"),
        on_gemini(1, "gone", code=404),
        in_words("gemini-json", 148, "a stack trace"),
    ],
    (ALL, "not logged in, or not allowed"): [
        on_claude("Not logged in · Please run /login"),
        on_claude("Failed to authenticate. API Error: 401 Invalid bearer token"),
        on_claude("Failed to authenticate: OAuth session expired and could not be refreshed"),
        on_claude("Invalid API key · Fix external API key"),
        on_claude("Invalid auth token · Fix external auth token"),
        on_claude("Please run /login · API Error: 401 .."),
        on_claude("Please run /login"),
        on_claude("OAuth token has expired"),
        on_claude("OAuth token revoked · Please run /login"),
        on_claude("This organization has been disabled"),
        on_claude("Your organization has disabled Claude subscription access"),
        on_claude("Login expired · Please run /login"),
        on_claude("Could not resolve authentication method"),
        on_claude("no", 401),
        on_claude("no", 403),
        on_claude("API Error: 401 Invalid authentication credentials"),
        on_claude('API Error: no {"type":"error","error":{"type":"authentication_error","message":"no"}}'),
        on_claude('API Error: no {"type":"error","error":{"type":"permission_error","message":"no"}}'),
        on_codex("unexpected status 401 Unauthorized: Missing bearer"),
        on_codex("Your access token could not be refreshed because it was revoked"),
        in_words("codex-jsonl", 1, "Not logged in\n"),
        in_words("codex-jsonl", 1, "Error: Missing environment variable: `X`.\n"),
        on_gemini(144, "API key not valid. Please pass a valid API key."),
        on_gemini(144, '{"error":{"code":400,"message":"no","details":[{"reason":"API_KEY_INVALID"}]}}', code=400),
        on_gemini(1, "Please set an Auth method in your settings.json or ..", code=41),
        in_words("gemini-json", 1, "Please set an Auth method in your settings.json or ..\n"),
        on_gemini(1, "no", code=41),
        on_gemini(1, "no", "IneligibleTierError"),
        in_words("gemini-json", 41, "something\n"),
        in_words("gemini-json", 1, "IneligibleTierError: This client is no longer ..\n"),
        in_words("gemini-json", 145, "a stack trace"),
    ],
    (SLOT, "the prompt is too long"): [
        on_claude("Prompt is too long", 400),
        on_claude("so much", 400, terminal_reason="prompt_too_long"),
        on_claude(f"{COMPACTION}: it broke"),
        on_claude("Input is too long for requested model"),
        on_claude("Request too large (max 32MB)"),
        on_claude("Context limit reached · /compact or /clear to continue"),
        on_claude("so much", 413),
        on_claude('API Error: no {"type":"error","error":{"type":"request_too_large","message":"no"}}'),
        on_codex("Codex ran out of room in the model's context window. Start a new thread."),
        on_codex('{"error":{"code":"context_length_exceeded"}}'),
        in_words("codex-jsonl", 1, "Error: turn/start: turn/start failed: Input exceeds the maximum length of 9\n"),
        on_gemini(144, "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."),
    ],
    (SLOT, "the prompt is not taken"): [
        in_words("claude-json", 1, "Error: Input contained only whitespace\n"),
        in_words("claude-json", 1, "Error: Input must be provided either through stdin or ..\n"),
        in_words("gemini-json", 42, "no\n"),
    ],
    (SLOT, "the command's own limit on turns or money is reached"): [
        ("claude-json", 1, claude(None, subtype="error_max_turns", is_error=True, errors=["Reached 3 turns"]), ""),
        ("claude-json", 1, claude(None, subtype="error_max_budget_usd", is_error=True), ""),
        on_claude("so much", terminal_reason="budget_exhausted"),
        on_claude("so much", terminal_reason="max_turns"),
        ("claude-json", 0, claude("So far.", subtype="error_max_turns"), ""),
        ("text", 0, claude(None, subtype="error_max_turns", is_error=True), ""),
        on_gemini(53, "Reached max session turns"),
    ],
    (PASSES, "the service is overloaded"): [
        on_claude("API Error: Repeated 529 Overloaded errors. The API is at capacity"),
        on_claude("API Error: 529 Overloaded. Try again", 529),
        ("claude-json", 0, claude("API Error: 529 Overloaded.", api_error_status=529), ""),
        on_claude('API Error: no {"type":"error","error":{"type":"overloaded_error","message":"no"}}'),
        on_codex("Selected model is at capacity. Please try a different model."),
        on_codex("We're currently experiencing high demand, which may cause .."),
        on_gemini(173, "No capacity available for model x", code=429),
        on_gemini(173, '{"error":{"code":429,"details":[{"reason":"MODEL_CAPACITY_EXHAUSTED"}]}}', code=429),
        on_gemini(247, "The model is overloaded. Please try again later.", code=503),
    ],
    (PASSES, "the service failed"): [
        on_claude("API Error: 500 Internal server error. It may pass", 500),
        on_claude("API Error: 502 Bad gateway"),
        on_claude("API Error: Server error mid-response. The response above may be incomplete."),
        on_claude("API returned an empty or malformed response (HTTP 200)"),
        on_codex("unexpected status 503 Service Unavailable: no"),
        on_codex("Error while reading the server response: eof"),
        on_codex("unexpected status 408 Request Timeout: no"),
        on_codex('{"type":"error","error":{"type":"server_error","message":"no"}}'),
        on_gemini(1, '{"error":{"message":"no","status":"UNAVAILABLE"}}'),
        in_words("gemini-json", 244, "a stack trace"),
    ],
    (PASSES, "the service was not reached"): [
        on_claude("API Error: Unable to connect to API (ENOTFOUND)"),
        on_claude("API Error: Connection lost mid-response. The response above may be incomplete."),
        on_claude("API Error: The response stopped arriving. The response above may be incomplete."),
        on_claude("Connection dropped (ECONNRESET)"),
        on_claude("Can't reach the API server — check the address (ECONNREFUSED)"),
        on_claude("Couldn't connect through your proxy — (X)"),
        on_claude("No internet route — (ENETUNREACH)"),
        on_claude("Request timed out"),
        on_claude("SSL certificate verification failed"),
        on_claude("API Error: fetch failed"),
        on_codex("stream disconnected before completion: eof"),
        on_codex("Connection failed: eof"),
        on_codex("error sending request for url (https://..)"),
        on_codex("request timed out"),
    ],
    (ALL, "the command does not work as it is called"): [
        in_words("claude-json", 1, "error: unknown option '--restricted'\n"),
        in_words("claude-json", 1, "error: option '--permission-mode <mode>' argument 'dontAsk' is invalid. Use ..\n"),
        in_words("codex-jsonl", 2, "error: unexpected argument '--x' found\n\nUsage: codex exec\n\nFor more, ..\n"),
        in_words("codex-jsonl", 1, "error: unexpected argument '--x' found\n\nUsage: codex exec\n\nFor more, ..\n"),
        in_words("codex-jsonl", 1, "Error loading config.toml: bad\n"),
        in_words("codex-jsonl", 1, "Not inside a trusted directory and --skip-git-repo-check was not specified.\n"),
        in_words("gemini-json", 1, "Usage: gemini [options]\n\nUnknown argument: skip-trust\n"),
        in_words("gemini-json", 44, "no\n"),
        in_words("gemini-json", 52, "no\n"),
        in_words("gemini-json", 55, "no\n"),
        in_words("text", 1, "unrecognized option '--x'\n"),
        in_words("text", 2, "usage: judge [-h]\njudge: error: no such thing\n"),
        in_words("text", 127, "env: node: No such file or directory\n"),
        in_words("text", 126, "judge: Permission denied\n"),
    ],
    (PASSES, "killed by signal 9"): [in_words("text", -9, "", "Fine.")],
    (PASSES, "killed by signal 15"): [("codex-jsonl", -15, codex(codex_says("Fine.")), "")],
    (PASSES, "no output"): [
        in_words("text", 0, "", " \n"),
        in_words("claude-json", 0, ""),
        in_words("claude-json", 1, "\n"),
        ("codex-jsonl", 0, codex({"type": "turn.started"}), ""),
    ],
    (PASSES, "no answer in its format: Fine."): [in_words("claude-json", 0, "", "Fine.\n")],
    (PASSES, "no answer in its format: a warning"): [in_words("text", 0, "a warning\n")],
    (PASSES, "failed with exit code 1: the last word"): [
        in_words("text", 1, "Traceback\n  line\nthe last word\n\n", "Fine.\n"),
        in_words("claude-json", 1, "Traceback\n  line\nthe last word\n\n"),
    ],
    (PASSES, "failed with exit code 1: Fine."): [in_words("text", 1, "", "Fine.\n")],
    (PASSES, "failed with exit code 1: it was undone"): [
        ("codex-jsonl", 1, codex(CODEX_DONE, codex_failed("it was undone")), ""),
    ],
    (PASSES, "failed with exit code 1: something new"): [
        ("claude-json", 1, claude(None, subtype="error_during_execution", errors=["something new", "badly"]), ""),
        on_claude("something new", 400),
        on_codex("something new"),
        ("gemini-json", 1, "", "noise\n" + gemini_error("something new") + "\nend"),
    ],
}


@pytest.mark.parametrize(
    ("expected", "reason", "printed"),
    [(expected, reason, printed) for (expected, reason), group in FAILURES.items() for printed in group],
)
def test_a_failure_says_what_it_means_for_other_calls(
    expected: tuple[str, str | None], reason: str, printed: Printed
) -> None:
    failure = failed(*printed)
    assert (failure.kind, failure.scope) == expected
    assert failure.reason.startswith(reason)
    assert failure.reset_at is None


def test_a_command_that_cannot_be_started_stops_all_calls() -> None:
    reason = "claude: No such file or directory"
    failure = failed("claude-json", None, ended="not-started", reason=reason)
    assert failure == Failure("permanent", reason, scope="all")


def test_a_timeout_is_one_whatever_was_printed() -> None:
    for output in FORMATS:
        failure = failed(output, None, "Fine.", "Not logged in", ended="timed-out")
        assert failure == Failure("timeout", "no answer in time: it was stopped after 2 s")


def test_too_much_output_is_the_slots_own_failure() -> None:
    for output in FORMATS:
        failure = failed(output, None, claude("Fine.") + "\nx", "", ended="too-much-output")
        assert (failure.kind, failure.scope) == ("permanent", "slot")


def test_every_row_of_the_table_has_an_example() -> None:
    told = ["a usage limit is reached", "too many calls", *(reason for _, reason in FAILURES)]
    elsewhere = ["a refusal", "cannot be started", "no answer in time", "too much output"]
    for row in TABLE:
        assert any(reason.startswith(row.what) for reason in (*told, *elsewhere)), row.what


def test_every_beginning_of_a_message_is_read_behind_words_like_error() -> None:
    for lead in ("", "Error: ", "API Error: ", "error: Error: ", "[API Error: ", "[ERROR] "):
        failure = failed("text", 1, "", f"{lead}Not logged in\n")
        assert (failure.kind, failure.scope) == ALL
    for lead in ("It said: ", "Errors: ", "> ", "warn "):
        assert failed("text", 1, "", f"{lead}Not logged in\n").kind == "transient"


# ------------------------------------------------------------------------------------------------------------- reasons


def test_a_reason_is_one_printable_line_with_a_short_quote() -> None:
    failure = failed("claude-json", 1, claude_error("API Error: 500 first\nsecond \x1b[31m\t::error::" + "x" * 5000))
    assert failure.reason.startswith(r"the service failed: API Error: 500 first second \x1b[31m :\x3aerror:\x3axxx")
    assert failure.reason.isprintable()
    assert len(failure.reason) < 240


def test_a_failure_tells_what_it_cost_all_the_same() -> None:
    assert failed("claude-json", 1, claude("x", is_error=True, total_cost_usd=0.75)).cost_usd == 0.75
    assert failed("codex-jsonl", 1, codex_fails("x")).cost_usd is None


@given(st.sampled_from(FORMATS), st.sampled_from([0, 1, -9, 200, None]), st.data())
def test_whatever_is_printed_it_is_an_answer_or_a_failure_with_a_reason(
    output: Output, code: int | None, data: st.DataObject
) -> None:
    pieces = [
        "{", "}", "[", "]", '{"type":"result"', '"result":', "null", "[{}]", "\n", '"', ",", '{"error":', "\0",
        '{"type":"turn.failed","error":5}', '{"type":"item.completed","item":7}', '{"type":"turn.completed"}',
        '{"response":5,"stats":{"models":[]}}', '{"type":"result","errors":5,"api_error_status":"x"}',
        '{"error":{"code":true,"details":[1],"resets_at":1e400}}', '{"type":"error"}', '{"message":"{}"}',
        "You've hit your ", "Error: {" * 3, "\ud800",
    ]  # fmt: skip
    text = st.lists(st.sampled_from(pieces), max_size=8).map("".join)
    stdout, stderr = (data.draw(text).encode("utf-8", "surrogatepass") for _ in range(2))
    came = read(output, code, stdout, stderr)
    if isinstance(came, Failure):
        assert came.reason
        assert came.reason.isprintable()
        assert (came.scope is not None) == (came.kind == "permanent")
    else:
        assert isinstance(came.text, str)


def test_a_number_that_is_no_status_is_none() -> None:
    assert failed(*on_codex('{"error":{"code":1000}}')).reason.startswith("failed with exit code 1")
    assert failed(*on_codex('{"error":{"code":true}}')).reason.startswith("failed with exit code 1")


def test_deep_nesting_ends() -> None:
    deep = "x"
    for _ in range(8):
        deep = json.dumps({"error": {"message": deep, "code": "insufficient_quota" if deep == "x" else "none"}})
    assert failed("codex-jsonl", 1, codex_fails(deep)).kind == "transient"
    assert failed("text", 1, "", "{" * 100_000).kind == "transient"
    assert failed("claude-json", 1, "[" * 100_000).kind == "transient"


def test_broken_objects_without_end_do_not_take_for_ever() -> None:
    broken = '{"a":\n' * 200_000
    for output in FORMATS:
        assert failed(output, 1, broken, broken).kind == "transient"
    reply = read("claude-json", 0, '{"a":\n' * 50 + claude("Fine."))
    assert isinstance(reply, Reply)


def test_the_patterns_of_the_table_are_read_by_people_too() -> None:
    for row in TABLE:
        assert row.what == row.what.strip() != ""
        assert all(word == word.lower() for word in row.words)
        assert row.begins is None or row.begins.flags & re.IGNORECASE
