"""The verdicts that a judge's reply holds.

A reply is prose with a JSON object somewhere: in a fence, or bare. A judge may think aloud and give several. A verdict
object has a ``score`` that is a number from 0 to 1 and a boolean ``passed``; an object inside another object, such as
a criterion's score, is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from ..experiment.strict_json import Json, MalformedJSON, decode_object_at, parse_object

MOST_OBJECTS = 64

_FENCE = "```"
_FENCE_TAG = re.compile(r"`*[\w+.-]*[ \t]*(\r?\n)?")
_OBJECT_START = re.compile(r'\{\s*["}]')
# A string cannot contain a line break, so an odd quote in prose spoils no more than its own line. The closing quote is
# optional so that every quote is read once, whatever follows it.
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[{}]')


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict object: its ``score`` (0 to 1), whether it ``passed``, and the whole object as the reply holds it."""

    score: float
    passed: bool
    record: dict[str, Json]

    def agrees_with(self, score: float, passed: bool) -> bool:
        """Whether it is the same verdict, score within 1e-6."""
        return self.passed is passed and abs(self.score - score) <= 1e-6


def verdicts_in(reply: str) -> list[Verdict]:
    """The verdict objects of a judge's reply in their order, of its first 64 objects."""
    if '"passed"' not in reply:
        # No verdict can be without that key, but a command line may have wrapped the reply in JSON of its own.
        if '\\"passed\\"' not in reply or not (inner := unwrapped(reply)):
            return []
        reply = inner
    found = []
    for candidate in islice(_objects(reply), MOST_OBJECTS):
        verdict = None if candidate is None else as_verdict(candidate)
        if verdict is not None:
            found.append(verdict)
    return found


def as_verdict(candidate: dict[str, Json]) -> Verdict | None:
    """Read one object as a verdict, or return ``None``."""
    score, passed = candidate.get("score"), candidate.get("passed")
    if isinstance(passed, bool) and isinstance(score, (int, float)) and not isinstance(score, bool) and 0 <= score <= 1:
        return Verdict(float(score), passed, candidate)
    return None


def unwrapped(reply: str) -> str | None:
    """The judge's text, where a command line wrapped it in a JSON object of its own; else ``None``."""
    try:
        result = parse_object(reply).get("result")
    except MalformedJSON:
        return None
    return result if isinstance(result, str) else None


def _objects(reply: str) -> Iterator[dict[str, Json] | None]:
    """The top-level objects of each part of the reply: what stands between two fence lines, or outside of them.

    ``None`` stands for an object that is broken: it counts among those that were looked at.
    """
    start, fence = 0, reply.find(_FENCE)
    while fence >= 0:
        line_end = reply.find("\n", fence)
        if not reply[reply.rfind("\n", 0, fence) + 1 : fence].strip():
            yield from _objects_in(reply, start, fence)
            tag = _FENCE_TAG.match(reply, fence)
            start = tag.end() if tag else fence
        fence = reply.find(_FENCE, line_end) if line_end >= 0 else -1
    yield from _objects_in(reply, start, len(reply))


def _objects_in(reply: str, start: int, end: int) -> Iterator[dict[str, Json] | None]:
    if reply.find('"passed"', start, end) < 0:
        return
    if reply.startswith("{", start):
        try:
            yield parse_object(reply[start:end])
        except MalformedJSON:
            pass  # more than one object, prose, or a broken one: look closer
        else:
            return
    closing: dict[int, int] | None = None
    while opening := _OBJECT_START.search(reply, start, end):
        begin = opening.start()
        try:
            candidate, start = decode_object_at(reply, begin)
            yield candidate
        except MalformedJSON:
            yield None
            # What stands inside a broken object is not at top level: go on behind it, or, where it never closes, stop.
            if closing is None:
                closing = _closing_braces(reply, start, end)
            if begin not in closing:
                return
            start = closing[begin] + 1


def _closing_braces(reply: str, start: int, end: int) -> dict[int, int]:
    closing: dict[int, int] = {}
    open_braces: list[int] = []
    for token in _TOKEN.finditer(reply, start, end):
        if token[0] == "{":
            open_braces.append(token.start())
        elif token[0] == "}" and open_braces:
            closing[open_braces.pop()] = token.start()
    return closing
