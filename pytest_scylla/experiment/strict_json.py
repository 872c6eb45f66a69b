"""Strict JSON: accepted only where every reader would agree on what it says.

Two parsers do the work. ``orjson`` is fast and refuses most of what is unsound, but not all of it: what it accepts is
looked through once more, and wherever a doubt remains Python's own parser decides, with hooks for every rule, and says
in words what is wrong.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from .wording import describe, printable

Json = Any
"""What :mod:`json` returns: dict, list, str, int, float, bool or None."""

MAX_DEPTH = 100

# From here on an integer may be too large, or have been read as a float.
_LARGE = 1e18
_SPACE = b" \t\n\r"


class MalformedJSON(ValueError):
    """A text is not the sound JSON that a record has to be; the message says why, in one printable line.

    ``discreet`` says the same without a word from the text, for files that can hold secrets.
    """

    def __init__(self, message: str, discreet: str = "") -> None:
        super().__init__(message)
        self.discreet = discreet or message


def parse_object(data: bytes | str) -> dict[str, Json]:
    """Parse one JSON object, strictly: what two readers could understand differently is refused.

    Refused are: bytes that are not UTF-8, a byte order mark, anything but one object, a key given twice, NaN,
    Infinity and numbers that no double or 64-bit integer holds, and nesting deeper than 100. A ``\\uD800``-style escape
    without its partner is accepted, as JSON allows it: text cut in the middle of a character is still evidence.

    :raises MalformedJSON: with the reason.
    """
    try:
        raw = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _parse_carefully(data)
    return value if type(value) is dict and _beyond_doubt(value, raw) else _parse_carefully(data)


def parse_roughly(data: bytes) -> dict[str, Json]:
    """Parse one JSON object for a glance at it, by none of the rules that protect a record.

    :raises MalformedJSON: it is none.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedJSON(printable(str(error), 100)) from None
    if type(value) is not dict:
        raise MalformedJSON(f"expected a JSON object, found {describe(value)}")
    return value


def _beyond_doubt(value: dict[str, Json], raw: bytes) -> bool:
    """Whether ``value`` surely is all that ``raw`` says: no key lost to a later one, no large number, no great depth.

    A key given twice is noticed by counting: without white space, every key is followed by ``":``. Where that also
    stands inside a text there is one too many of it, which is a doubt, and never one too few.
    """
    keys = 0
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for container in level:
            if type(container) is dict:
                keys += len(container)
                container = container.values()
            for child in container:
                kind = type(child)
                if kind is str:
                    continue
                if kind is float or kind is int:
                    if not -_LARGE < child < _LARGE:
                        return False
                elif kind is dict or kind is list:
                    below.append(child)
        if not below:
            return keys == raw.translate(None, _SPACE).count(b'":')
        level = below
    return False


def _parse_carefully(data: bytes | str) -> dict[str, Json]:
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = _DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise MalformedJSON(f"expected UTF-8, found another byte at offset {error.start}") from None
    except RecursionError:
        raise MalformedJSON(f"expected nesting of at most {MAX_DEPTH}, found deeper") from None
    except json.JSONDecodeError as error:
        if not text.strip():
            raise MalformedJSON("expected a JSON object, found an empty file") from None
        if error.pos >= len(text.rstrip()):
            raise MalformedJSON(f"expected a whole JSON object, found that it ends at line {error.lineno}") from None
        place = f"at line {error.lineno} column {error.colno}"
        if error.msg.startswith("Unterminated string"):
            raise MalformedJSON(f"expected a whole JSON object, found it cut off inside the text {place}") from None
        raise MalformedJSON(f"expected JSON, found {error.msg[:1].lower()}{error.msg[1:]} {place}") from None
    except MalformedJSON:
        raise
    except ValueError as error:
        raise MalformedJSON(f"expected JSON, found {printable(str(error), 100)}") from None
    if type(value) is not dict:
        raise MalformedJSON(f"expected a JSON object, found {describe(value)}")
    if text.count("{") + text.count("[") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedJSON(f"expected nesting of at most {MAX_DEPTH}, found deeper")
    return value


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedJSON(
                    f"expected every key once, found {describe(key)} twice", "expected every key once, found one twice"
                )
            seen.add(key)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise MalformedJSON(f"expected a finite number, found {printable(text, 20)}")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise MalformedJSON(f"expected a 64-bit integer, found one of {len(text.lstrip('-'))} digits")
    return int(text)


def _no_constant(text: str) -> float:
    raise MalformedJSON(f"expected a finite number, found {text}")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_float=_finite, parse_int=_bounded, parse_constant=_no_constant
)


def decode_object_at(text: str, start: int) -> tuple[dict[str, Json], int]:
    """Parse the object that begins at ``text[start]``, by the rules of :func:`parse_object`; return it and its end.

    :raises MalformedJSON: there is none.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        raise MalformedJSON("expected a JSON object") from None
    if type(value) is not dict:
        raise MalformedJSON("expected a JSON object")
    brackets = text.count("{", start, end) + text.count("[", start, end)
    if brackets > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise MalformedJSON("expected a JSON object")
    return value, end


def _deeper_than(value: Json, limit: int) -> bool:
    # By level, not by recursion: the text decides how deep this goes.
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return False
    return True
