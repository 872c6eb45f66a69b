"""The agent's output: which of its copies are whole, which of them is the true one, and what it counts.

The same text is kept up to four times (agent/stdout.log, output.txt, cmd_0000_stdout.log, and in result.json), so one
damaged copy costs nothing as long as another is sound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..experiment.schemas import is_valid, problems
from ..experiment.strict_json import Json, MalformedJSON, decode_object_at, parse_object


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of an agent's execution: ``input`` and ``output`` proper, and the two cache counts."""

    input: int
    output: int
    cache_creation: int
    cache_read: int

    @property
    def none_at_all(self) -> bool:
        """Whether all four are zero."""
        return not (self.input or self.output or self.cache_creation or self.cache_read)

    @classmethod
    def from_stats(cls, stats: Mapping[str, Json]) -> TokenCounts:
        """Read a sound ``token_stats``; old files carry the cache counts under their long names."""
        return cls(
            int(stats["input_tokens"]),
            int(stats["output_tokens"]),
            int(stats.get("cache_creation_tokens", stats.get("cache_creation_input_tokens", 0))),
            int(stats.get("cache_read_tokens", stats.get("cache_read_input_tokens", 0))),
        )

    @classmethod
    def from_usage(cls, usage: Json) -> TokenCounts | None:
        """Read a reply's ``usage``; ``None`` where it does not say both input and output."""
        if not isinstance(usage, Mapping) or usage.get("input_tokens") is None or usage.get("output_tokens") is None:
            return None
        return cls(
            int(usage["input_tokens"]),
            int(usage["output_tokens"]),
            int(usage.get("cache_creation_input_tokens") or 0),
            int(usage.get("cache_read_input_tokens") or 0),
        )


@dataclass(frozen=True, slots=True)
class AgentReply:
    """The object in which an agent's command line reports its execution.

    ``tokens``, ``cost_usd`` and ``turns`` are ``None`` where it does not say. ``service_error`` is true where the reply
    is itself an error of the service (``is_error`` with an ``api_error_status``); an agent that merely failed at its
    task has none.
    """

    tokens: TokenCounts | None
    cost_usd: float | None
    turns: int | None
    service_error: bool
    record: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class OutputCopy:
    """One copy of the output: where it stands, its bytes, and why it is unsound ("" if it is sound)."""

    file: str
    data: bytes
    fault: str
    reply: AgentReply | None = None


@dataclass(frozen=True, slots=True)
class AgentOutput:
    """What the copies say together.

    ``data`` is the true text, ``None`` where no copy is sound or sound ones contradict each other (``conflicting``).
    ``faults`` names the unsound copies.
    """

    data: bytes | None
    reply: AgentReply | None
    sound: tuple[OutputCopy, ...]
    faults: tuple[OutputCopy, ...]

    @property
    def conflicting(self) -> bool:
        """Whether there are sound copies of which none can be told to be the true one."""
        return self.data is None and bool(self.sound)


def read_copies(copies: list[tuple[str, bytes]]) -> AgentOutput:
    """Judge the copies ``[(file, bytes)]`` that are there, each by itself and all together.

    The true text is the one that most sound copies agree on; else, what a longer sound copy continues is a truncation
    and does not count, and the rest must agree.
    """
    judged: dict[bytes, OutputCopy] = {}
    sound: list[OutputCopy] = []
    faults: list[OutputCopy] = []
    for file, data in copies:
        known = judged.get(data)
        if known is None:
            known = judged[data] = _judge_copy(file, data)
        copy = known if known.file == file else OutputCopy(file, data, known.fault, known.reply)
        (faults if copy.fault else sound).append(copy)
    truth = _true_text([copy.data for copy in sound])
    return AgentOutput(truth, judged[truth].reply if truth is not None else None, tuple(sound), tuple(faults))


def _true_text(texts: list[bytes]) -> bytes | None:
    counts = Counter(texts)
    if len(counts) > 1:
        leading, count = counts.most_common(1)[0]
        if 2 * count > len(texts):
            return leading
        counts = Counter(
            text for text in texts if not any(other != text and other.startswith(text) for other in counts)
        )
        leading, count = counts.most_common(1)[0]
        return leading if 2 * count > counts.total() else None
    return texts[0] if texts else None


def _judge_copy(file: str, data: bytes) -> OutputCopy:
    stripped = data.strip()
    if not stripped:
        return OutputCopy(file, data, "expected the agent's output, found it blank")
    if b"\0" in data:
        return OutputCopy(file, data, f"expected text, found a NUL byte at offset {data.index(0)}")
    record, fault = _find_reply(stripped)
    if record is None:
        return OutputCopy(file, data, fault if stripped.startswith(b"{") else "")
    if not is_valid("agent-reply", record):
        problem = problems("agent-reply", record)[0]
        return OutputCopy(file, data, f"expected a reply object; at {problem.pointer or '/'} {problem.message}")
    return OutputCopy(file, data, "", _as_reply(record))


def _find_reply(text: bytes) -> tuple[dict[str, Any] | None, str]:
    """The reply object in ``text``: the whole of it, or the last of its lines that is one; else why there is none."""
    fault = "expected a reply object with usage or is_error, found none"
    if text.startswith(b"{"):
        try:
            record = parse_object(text)
        except MalformedJSON as error:
            fault = str(error)
        else:
            return (record, "") if _is_reply(record) else (None, fault)
    for line in reversed(text.splitlines()):
        if line.lstrip().startswith(b"{") and (b'"usage"' in line or b'"is_error"' in line):
            try:
                record = parse_object(line)
            except MalformedJSON:
                continue
            if _is_reply(record):
                return record, ""
    leading = _leading_object(text) if text.startswith(b"{") else None
    return (leading, "") if leading is not None and _is_reply(leading) else (None, fault)


def _leading_object(text: bytes) -> dict[str, Any] | None:
    """The object, perhaps over several lines, that ``text`` begins with and goes on behind."""
    try:
        return decode_object_at(text.decode("utf-8"), 0)[0]
    except (MalformedJSON, UnicodeDecodeError):
        return None


def _is_reply(record: Mapping[str, Json]) -> bool:
    return "usage" in record or "is_error" in record


def _as_reply(record: Mapping[str, Json]) -> AgentReply:
    turns = record.get("num_turns")
    return AgentReply(
        tokens=TokenCounts.from_usage(record.get("usage")),
        cost_usd=record.get("total_cost_usd"),
        turns=None if turns is None else int(turns),
        service_error=record.get("is_error") is True and record.get("api_error_status") is not None,
        record=record,
    )
