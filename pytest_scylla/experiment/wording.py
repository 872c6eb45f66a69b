"""Text from an experiment, made fit for one line of a finding.

Everything an experiment holds is untrusted: names and values may carry terminal escapes, workflow commands of a CI
service, line breaks, or characters that no encoder accepts. A finding therefore never carries raw text: it carries
what these functions return, which is printable, one line, and bounded in length.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST_QUOTE = 80

_INSIDE_A_WORD = re.compile(r"\w::\w")


def printable(text: str, limit: int = 500) -> str:
    r"""Return ``text`` as one printable line of at most ``limit`` characters.

    Whatever is not printable (controls, escapes, bidirectional marks, lone surrogates) becomes a backslash escape,
    and so does the second character of ``##`` and ``::``, with which CI services begin commands; not of a single ``::``
    inside of a word, as a node id has.

    >>> printable("a\x1b[31m::error::"), printable("exp/T0/00/run_01::judge_02")
    ('a\\x1b[31m:\\x3aerror:\\x3a', 'exp/T0/00/run_01::judge_02')
    """
    is_harmless = text.count("::") == 1 and _INSIDE_A_WORD.search(text) is not None
    if not (text.isprintable() and len(text) <= limit):
        text = _shortened(text, limit)
    if not is_harmless:
        text = text.replace("::", ":\\x3a")
    return text.replace("##", "#\\x23")


def _shortened(text: str, limit: int) -> str:
    pieces: list[str] = []
    room = limit
    for character in text:
        piece = character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        room -= len(piece)
        if room < 2:
            return "".join(pieces) + ".."
        pieces.append(piece)
    return "".join(pieces)


def describe(value: Any, *, secret: bool = False) -> str:
    """Say what ``value`` (anything JSON can hold) is, in a few words; of a ``secret`` one only its kind.

    >>> describe(85), describe("85%"), describe({"a": 1})
    ('85', '"85%"', 'an object with 1 key')
    """
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"an object with {len(value)} key{'s' * (len(value) != 1)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if secret:
        return "a text" if isinstance(value, str) else "a value of another kind"
    if isinstance(value, str):
        return f'"{printable(value, LONGEST_QUOTE)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
