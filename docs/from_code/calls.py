"""What a call of a judge or an agent may come to, by the table that tells."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_scylla.calling.replies import _LEAD, TABLE, Row

from .wording import literal, prose

MEANINGS = {
    ("answer", None): "No verdict",
    ("timeout", None): "Timeout",
    ("limit", None): "Limit",
    ("transient", None): "Transient",
    ("permanent", "slot"): "Permanent, this slot",
    ("permanent", "model"): "Permanent, this model",
    ("permanent", "all"): "Permanent, all",
}


def failures() -> str:
    """The rows of the table in its order: what it is, what that means, and what it is known by."""
    return "\n".join(line for row in TABLE for line in _row(row))


def _row(row: Row) -> Iterator[str]:
    yield f"{prose(row.what)}\n: {MEANINGS[row.kind, row.scope]}."
    if row.words:
        yield f"  Told by a field: {', '.join(map(literal, sorted(row.words)))}."
    if row.begins is not None:
        pattern = row.begins.pattern.removeprefix(f"{_LEAD}(?:").removesuffix(")")
        told = ", ".join(literal(begin) for begin in _alternatives(pattern))
        yield f"  A message that begins as: {told}."
    yield ""


def _alternatives(pattern: str) -> list[str]:
    """The beginnings that a row knows, each a regular expression."""
    found, depth, begin = [], 0, 0
    for index, char in enumerate(pattern):
        depth += (char == "(") - (char == ")")
        if char == "|" and not depth:
            found.append(pattern[begin:index])
            begin = index + 1
    return [*found, pattern[begin:]]
