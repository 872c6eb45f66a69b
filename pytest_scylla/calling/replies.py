"""What came of a call of a judge's command line: its answer, or what kind of failure.

An answer is what the command's own format says is one, or, of a command that prints plain text, whatever it prints
while it exits with 0. What an answer says is never looked at: it may speak of limits, errors and logins as it likes.

Of a failure, the first row of :data:`TABLE` that knows it tells what it means. A row knows a failure by a word of its
structured fields, or else by how a message of it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ..auditing.verdicts import as_verdict
from ..experiment.journal import known_cost
from ..experiment.strict_json import Json, MalformedJSON, decode_object_at, parse_object
from ..experiment.wording import printable
from .failures import Scope
from .limits import epoch_time, reset_time
from .process import Finished

Output = Literal["claude-json", "codex-jsonl", "gemini-json", "text"]
"""The formats in which a command prints; "text" also stands for a claude-like object, where it is one."""

Kind = Literal["limit", "transient", "timeout", "permanent"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``cost_usd`` and ``usage`` are ``None`` where the command does not tell."""

    text: str
    cost_usd: float | None = None
    usage: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: ``reason``, one printable line.

    ``reset_at`` is when a limit ends, in UTC, if that is known. ``scope`` says of a permanent failure which other calls
    would fail as well. ``cost_usd`` is what was paid all the same, ``None`` where the command does not tell.
    """

    kind: Kind
    reason: str
    reset_at: datetime | None = None
    scope: Scope | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of failure and what it is known by.

    ``what`` says it in a few words. ``words`` are ends ("timed-out"), exit codes ("exit 2"), HTTP statuses ("http 429",
    "http 5xx"), claude's own word for a limit ("rate limit rejected"), and the error codes of the commands and their
    services, in small letters. ``begins`` is how a message begins, in letters of any size, behind words like "Error:".
    """

    kind: Kind | Literal["answer"]
    scope: Scope | None
    what: str
    words: frozenset[str]
    begins: re.Pattern[str] | None


_LEAD = r"(?:\[?(?:API Error|Error|Fatal|Warning): ?|\[Error\] ?)*"


def _row(
    kind: Kind | Literal["answer"],
    scope: Scope | None,
    what: str,
    *,
    words: Iterable[str] = (),
    begins: Iterable[str] = (),
) -> Row:
    texts = "|".join(begins)
    pattern = re.compile(f"{_LEAD}(?:{texts})", re.IGNORECASE) if texts else None
    return Row(kind, scope, what, frozenset(words), pattern)


TABLE: tuple[Row, ...] = (
    _row("permanent", "all", "cannot be started", words=["not-started"]),
    _row("timeout", None, "no answer in time", words=["timed-out"]),
    _row("permanent", "slot", "too much output", words=["too-much-output"]),
    # A model that refuses has answered: without a verdict.
    _row(
        "answer",
        None,
        "a refusal",
        words=["refusal", "invalid_stream", "cyber_policy", "bio_policy", "invalid_prompt"],
        begins=[
            r".{1,80} can't help with this\.",
            r".{1,80}'s safeguards flagged this message",
            r".{1,80} has safety measures that flagged this message",
            r"Claude Code is unable to respond to this request",
        ],
    ),
    # Before what is too long: while a limit holds, nothing can be made shorter, and a message then says both.
    _row(
        "limit",
        None,
        "a usage limit is reached",
        words=["rate limit rejected", "usage_limit_reached", "terminalquotaerror"],
        begins=[
            r"(?:Prompt is too long · automatic compaction failed: )?You've (?:hit|reached) your .{0,60}limit\b",
            r"You have reached your .{0,60}limits\b",
            r"You're out of extra usage\b",
            r"(?!(?:Context|Rate) )(?:[\w-]{1,30} ){0,4}limit reached\b",
            r"You have exhausted your (?:capacity|daily quota) on this model",
        ],
    ),
    _row(
        "permanent",
        "all",
        "no credit",
        words=["http 402", "billing_error", "insufficient_quota"],
        begins=[
            r"(?:Your )?credit balance is too low",
            r"Your workspace is out of credits",
            r"You hit your spend cap",
            r"Quota exceeded\. Check your plan",
            r"To use Codex with your ChatGPT plan, upgrade",
        ],
    ),
    _row(
        "permanent",
        "model",
        "the model cannot be used",
        words=["http 404", "model_not_found", "not_found_error", "modelnotfounderror"],
        begins=[
            r"There's an issue with the selected model",
            r"The '.{1,200}' model is not supported",
            r"Model .{1,200} is not a recognized model id",
            r"Model .{1,200} is restricted by your organization",
            r"Claude .{1,40} is not available with the Claude .{1,40} plan",
            r"Usage credits required for 1M context",
        ],
    ),
    _row(
        "permanent",
        "all",
        "not logged in, or not allowed",
        words=[
            "http 401",
            "http 403",
            "authentication_error",
            "permission_error",
            "api_key_invalid",
            "ineligibletiererror",
            "gemini exit 41",
        ],
        begins=[
            r"Not logged in",
            r"Please run /login",
            r"Login expired",
            r"Failed to authenticate",
            r"Invalid API key",
            r"Invalid auth token",
            r"API key not valid",
            r"OAuth token (?:has expired|revoked)",
            r"Your organization has disabled",
            r"This organization has been disabled",
            r"Could not resolve authentication method",
            r"Your access token could not be refreshed",
            r"Missing environment variable:",
            r"Please set an Auth method",
            r"IneligibleTierError",
        ],
    ),
    _row(
        "permanent",
        "slot",
        "the prompt is too long",
        words=[
            "http 413",
            "prompt_too_long",
            "request_too_large",
            "context_length_exceeded",
        ],
        begins=[
            r"Prompt is too long",
            r"Input is too long",
            r"Request too large",
            r"Context limit reached",
            r"Codex ran out of room in the model's context window",
            r"(?:turn/start(?: failed)?: )*Input exceeds the maximum length",
            r"The input token count .{0,40}exceeds the maximum",
        ],
    ),
    _row(
        "permanent",
        "slot",
        "the prompt is not taken",
        words=["gemini exit 42"],
        begins=[r"Input must be provided", r"Input contained only whitespace"],
    ),
    _row(
        "permanent",
        "slot",
        "the command's own limit on turns or money is reached",
        words=["error_max_turns", "max_turns", "error_max_budget_usd", "budget_exhausted", "gemini exit 53"],
    ),
    # Before what else comes with status 429: here everybody waits, not only who called too often.
    _row(
        "transient",
        None,
        "the service is overloaded",
        words=["http 529", "overloaded_error", "model_capacity_exhausted"],
        begins=[
            r"Repeated 529 Overloaded",
            r"Selected model is at capacity",
            r"We're currently experiencing high demand",
            r"No capacity available for model",
            r"The model is overloaded",
        ],
    ),
    _row(
        "limit",
        None,
        "too many calls",
        words=[
            "http 429",
            "rate_limit_error",
            "rate_limit_exceeded",
            "resource_exhausted",
            "retryablequotaerror",
        ],
        begins=[r"Server is temporarily limiting requests", r"Rate limit reached\b"],
    ),
    _row(
        "transient",
        None,
        "the service failed",
        words=["http 5xx", "http 408", "server_error", "unavailable"],
        begins=[
            r"Server error mid-response",
            r"API returned an empty or malformed response",
            r"Error while reading the server response",
        ],
    ),
    _row(
        "transient",
        None,
        "the service was not reached",
        begins=[
            r"Unable to connect",
            r"Can't reach the API server",
            r"Couldn't connect through your proxy",
            r"No internet route",
            r"Connection (?:dropped|lost|closed|failed|refused|error)",
            r"The response (?:stopped arriving|stalled)",
            r"Request timed out",
            r"SSL certificate verification failed",
            r"fetch failed",
            r"stream disconnected before completion",
            r"error sending request for url",
        ],
    ),
    _row(
        "permanent",
        "all",
        "the command does not work as it is called",
        words=["exit 2", "exit 126", "exit 127", "gemini exit 44", "gemini exit 52", "gemini exit 55"],
        begins=[
            r"unknown (?:option|argument)",
            r"unexpected argument",
            r"unrecognized (?:option|argument)",
            r"option '.{1,100}' argument '.{0,100}' is invalid",
            r"Error loading config\.toml",
            r"Not inside a trusted directory",
        ],
    ),
    _row("transient", None, "killed", words=["killed"]),
    _row("transient", None, "no output", words=["silent"]),
)
"""The kinds of failure. What no row knows may pass, so that it changes no slot."""

_UNKNOWN = _row("transient", None, "failed")

_LONGEST_MESSAGE = 4000
_LONGEST_QUOTE = 200
_MOST_LINES = 20
_MOST_BROKEN = 100
_DEEPEST = 4
"""The message of an error may be JSON that holds an error with a message, and so on: so often."""

_STATUS = re.compile(
    rf"{_LEAD}(?:Failed to authenticate\. API Error: |Please run /login · API Error: |unexpected status |"
    r"exceeded retry limit, last status: |Request rejected \()?([45]\d\d)\b",
    re.IGNORECASE,
)
_OBJECT_LINE = re.compile(r"^\{", re.MULTILINE)


@dataclass(slots=True)
class _Told:
    """What a command told in its format.

    ``answer`` is the text of its answer, ``None`` where it does not say that it has one; ``formatted``: the format also
    says that the answer is whole. ``messages`` are its own of an error.
    """

    answer: str | None = None
    formatted: bool = True
    messages: list[str] = field(default_factory=list)
    words: set[str] = field(default_factory=set)
    reset_at: datetime | None = None
    cost_usd: float | None = None
    usage: dict[str, Json] | None = None


def read_reply(finished: Finished, output: Output, now: datetime) -> Reply | Failure:
    """Read what a command printed in the format ``output``.

    A command whose format says that its answer is whole has answered, however it ended: it failed, was killed or was
    stopped only afterwards. Behind output that was cut off, there may be another answer.

    :param now: with a time zone: the one in which the command tells times of day without one.
    """
    stdout = finished.stdout.decode("utf-8", "replace")
    stderr = finished.stderr.decode("utf-8", "replace")
    told = _FORMATS[output](stdout, stderr, now) or _Told(formatted=False)
    if not told.formatted and output == "text" and stdout.strip():
        told.answer = stdout
    if told.answer is not None:
        if finished.exit_code == 0 or (told.formatted and finished.ended != "too-much-output"):
            return Reply(told.answer, told.cost_usd, told.usage)
        told.messages.append(told.answer)
    lines = _lines(stderr)[-_MOST_LINES:]
    if told.formatted and told.messages:
        quote = told.messages[0]
    else:
        told.messages += [*(() if told.formatted or told.answer is not None else _lines(stdout)[:1]), *lines]
        quote = told.messages[-1] if told.messages else ""
    _look_into(told, now)
    told.words |= _ending(finished, output, silent=not told.messages)
    row, message = _known(told, quote)
    if row.kind == "answer":
        return Reply(message, told.cost_usd, told.usage)
    reset_at = None
    if row.kind == "limit":
        reset_at = told.reset_at or _first_reset((message, *told.messages, *lines), now)
    return Failure(row.kind, _reason(finished, row, message), reset_at, row.scope, told.cost_usd)


def _known(told: _Told, quote: str) -> tuple[Row, str]:
    """The first row that knows the failure, and the message that tells of it; ``quote`` where none does."""
    messages = [(message, _squeezed(message).replace("’", "'")) for message in told.messages]
    for row in TABLE:
        if row.begins is not None:
            for message, text in messages:
                if row.begins.match(text):
                    return row, message
        if row.words & told.words:
            return row, quote
    return _UNKNOWN, quote


def _reason(finished: Finished, row: Row, message: str) -> str:
    if finished.ended == "not-started":
        return printable(finished.reason)
    what = row.what
    if finished.ended == "timed-out":
        return f"{what}: it was stopped after {finished.seconds:.0f} s"
    if row is _UNKNOWN:
        what = f"failed with exit code {finished.exit_code}" if finished.exit_code else "no answer in its format"
    elif "killed" in row.words:
        what = f"killed by signal {-(finished.exit_code or 0)}"
    return f"{what}: {printable(_squeezed(message), _LONGEST_QUOTE)}" if message else what


def _first_reset(messages: Iterable[str], now: datetime) -> datetime | None:
    found = (reset_time(_squeezed(message), now) for message in messages)
    return next((moment for moment in found if moment is not None), None)


def _ending(finished: Finished, output: Output, *, silent: bool) -> set[str]:
    """The words for how a command ended; ``silent``: it printed nothing of use."""
    words = {"silent"} if silent else set()
    code = finished.exit_code
    if code is None:
        return {finished.ended}
    if code < 0:
        return {"killed"}
    words.add(f"exit {code}")
    if output == "gemini-json":
        # Where an exit code comes of an HTTP status, 256 is lost of it.
        words |= _status(code + 256) | {f"gemini exit {code}"}
    return words


# What the formats tell


def _claude(stdout: str, stderr: str, now: datetime) -> _Told | None:
    """A result object, alone, as the last of a list, or as the last of JSON lines."""
    records = list(_objects(stdout))
    results = [record for record in records if record.get("type") == "result"]
    if not results:
        return None
    told = _of_result(results[-1])
    # The last word on limits counts: one that was told of before may have ended, or extra usage is paid for since.
    infos = [info for record in records if isinstance(info := record.get("rate_limit_info"), dict)]
    if infos and infos[-1].get("status") == "rejected" and infos[-1].get("isUsingOverage") is not True:
        told.words.add("rate limit rejected")
        told.reset_at = _epoch(infos[-1].get("resetsAt"), now)
    return told


def _own(stdout: str, stderr: str, now: datetime) -> _Told | None:
    """A result object like claude's, if that is all that was printed. A bare verdict is none, whatever else it says."""
    try:
        record = parse_object(stdout)
    except MalformedJSON:
        return None
    if as_verdict(record) is not None or not (isinstance(record.get("result"), str) or record.get("type") == "result"):
        return None
    return _of_result(record)


def _of_result(record: Mapping[str, Json]) -> _Told:
    usage = record.get("usage")
    told = _Told(cost_usd=known_cost(record.get("total_cost_usd")), usage=usage if isinstance(usage, dict) else None)
    result, status, subtype = record.get("result"), record.get("api_error_status"), record.get("subtype")
    broken = record.get("is_error") is True or status is not None or str(subtype).startswith("error")
    if isinstance(result, str) and not broken:
        told.answer = result
        return told
    errors = record.get("errors")
    told.messages += [
        text
        for text in (result, *(errors if isinstance(errors, list) else ()))
        if isinstance(text, str) and text.strip()
    ]
    told.words |= _status(status)
    told.words |= _words(subtype, record.get("terminal_reason"), record.get("stop_reason"))
    return told


def _codex(stdout: str, stderr: str, now: datetime) -> _Told | None:
    """JSON lines, whose last message of the agent is the answer once the turn is completed."""
    events = [event for event in _objects(stdout) if isinstance(event.get("type"), str)]
    if not events:
        return None
    told = _Told()
    text, completed = "", False
    for event in events:
        item, error = event.get("item"), event.get("error")
        if event["type"] == "item.completed" and isinstance(item, dict) and item.get("type") == "agent_message":
            text = str(item.get("text") or "")
        elif event["type"] == "turn.completed":
            completed = True
            told.usage = event["usage"] if isinstance(event.get("usage"), dict) else None
        elif event["type"] == "turn.failed" and isinstance(error, dict):
            told.messages.insert(0, str(error.get("message") or ""))
        elif event["type"] == "error":  # also each time that it tries again
            told.messages.append(str(event.get("message") or ""))
    failed = any(event["type"] == "turn.failed" for event in events)
    if completed and not failed:
        told.answer, told.messages = text, []
    told.messages = [message for message in told.messages if message.strip()]
    return told


def _gemini(stdout: str, stderr: str, now: datetime) -> _Told | None:
    """An object with the response or an error; one that ends the command is on the standard error."""
    said = [record for record in _objects(stdout) if "response" in record or "error" in record]
    records = said or [record for record in _objects(stderr) if isinstance(record.get("error"), dict)]
    if not records:
        return None
    told = _Told(usage=_gemini_usage(records[-1].get("stats")))
    response, error = records[-1].get("response"), records[-1].get("error")
    if isinstance(error, dict):
        code = error.get("code")
        told.messages += [text for text in (error.get("message"),) if isinstance(text, str) and text.strip()]
        told.words |= _words(error.get("type"), code) | _status(code)
        if isinstance(code, int):
            told.words.add(f"gemini exit {code}")
    elif isinstance(response, str):
        told.answer = response
    return told


def _gemini_usage(stats: Json) -> dict[str, Json] | None:
    models = stats.get("models") if isinstance(stats, dict) else None
    if not isinstance(models, dict):
        return None
    return {name: model["tokens"] for name, model in models.items() if isinstance(model, dict) and "tokens" in model}


_FORMATS: Mapping[Output, Callable[[str, str, datetime], _Told | None]] = {
    "claude-json": _claude,
    "codex-jsonl": _codex,
    "gemini-json": _gemini,
    "text": _own,
}
"""How each format is read: what is printed on standard output and standard error, and the time; ``None`` where it is
not in the format."""


def _objects(text: str) -> Iterator[dict[str, Json]]:
    """The objects that a text consists of: a list of them, or each that begins a line. What is none is passed over."""
    text = text.strip()
    if text.startswith("["):
        try:
            listed = parse_object(f'{{"listed": {text}}}')["listed"]
        except MalformedJSON:
            return
        yield from (record for record in listed if isinstance(record, dict))
        return
    position = broken = 0
    while broken < _MOST_BROKEN and (opening := _OBJECT_LINE.search(text, position)):
        try:
            record, position = decode_object_at(text, opening.start())
        except MalformedJSON:
            position = opening.end()
            broken += 1
        else:
            yield record


def _look_into(told: _Told, now: datetime) -> None:
    """Add what is inside the messages: a status, and the errors that stand there as JSON."""
    waiting = [(message[:_LONGEST_MESSAGE], 0) for message in told.messages]
    for message, depth in waiting:
        if found := _STATUS.match(_squeezed(message)):
            told.words |= _status(int(found[1]))
        begin = message.find("{")
        if begin < 0 or depth == _DEEPEST:
            continue
        try:
            record, _ = decode_object_at(message, begin)
        except MalformedJSON:
            continue
        error = record.get("error")
        if not isinstance(error, dict):
            continue
        told.words |= _status(record.get("status")) | _status(error.get("code"))
        told.words |= _words(error.get("type"), error.get("code"), error.get("status"), *_reasons(error.get("details")))
        told.reset_at = told.reset_at or _reset_of(error, now)
        if isinstance(error.get("message"), str):
            told.messages.append(error["message"])
            waiting.append((error["message"][:_LONGEST_MESSAGE], depth + 1))


def _reasons(details: Json) -> list[Json]:
    return [detail.get("reason") for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _reset_of(error: Mapping[str, Json], now: datetime) -> datetime | None:
    """When the limit ends that an error tells of in fields of its own."""
    if found := _epoch(error.get("resets_at"), now):
        return found
    seconds = error.get("resets_in_seconds")
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return _epoch(now.timestamp() + seconds, now)
    return None


def _epoch(value: Json, now: datetime) -> datetime | None:
    return epoch_time(value, now) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _words(*values: Json) -> set[str]:
    return {value.lower() for value in values if isinstance(value, str)}


def _status(value: Json) -> set[str]:
    """The words for a number that may be an HTTP status."""
    if not isinstance(value, int) or not 400 <= value <= 599:
        return set()
    return {f"http {value}"} if value < 500 else {f"http {value}", "http 5xx"}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _squeezed(message: str) -> str:
    return " ".join(message[:_LONGEST_MESSAGE].split())
