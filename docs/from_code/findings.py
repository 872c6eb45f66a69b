"""The table of findings."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_scylla.auditing.findings import CODES, Code
from pytest_scylla.repair.plan import REBUILDABLE

from .wording import prose


def codes(severity: str) -> str:
    """The codes of a severity, "error" or "warning", in the table's order, each under a heading of its own."""
    return "\n".join(line for name, code in CODES.items() if code.severity == severity for line in _code(name, code))


def _code(name: str, code: Code) -> Iterator[str]:
    yield f"({name})=\n### {name}\n"
    yield f"{prose(code.meaning)}\n"
    yield f"Usual cause\n: {prose(code.cause)}\n"
    yield f"To put it right\n: {prose(code.remedy)}\n"
    if name in REBUILDABLE:
        yield "`--repair`\n: writes the file anew at the level `regenerate`, where sound records give it back.\n"
