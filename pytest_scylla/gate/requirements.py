"""What an experiment has to reach: read strictly, and decided without rounding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor
from typing import Any, Literal, get_args

from ..experiment.wording import describe

Kind = Literal["min-runs", "min-slots", "max-fallback"]

KINDS: tuple[Kind, ...] = get_args(Kind)

_LIMIT = re.compile(r"(?P<whole>[0-9]{1,9})(?:(?:\.(?P<decimals>[0-9]{1,6}))?(?P<percent>%))?")
_FORM = "expected KIND=LIMIT, such as min-runs=99.5% or max-fallback=3"


class RequirementError(ValueError):
    """A requirement that says nothing; ``str()`` is one line, with what is expected instead."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """A least, or a most, of what an experiment has.

    ``min-runs``: completed runs of the expected ones; ``min-slots``: complete judge slots of the expected ones;
    ``max-fallback``: fallback judgments of the complete slots. ``limit`` is a number of them, or a percentage from 0
    to 100 where ``percent``, written with ``decimals`` places. ``str()`` is as the user wrote it.
    """

    kind: Kind
    limit: Fraction
    percent: bool
    decimals: int
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def is_most(self) -> bool:
        """Whether it is a most that may be there, and not a least that has to be."""
        return self.kind == "max-fallback"

    def measure(self, counts: Mapping[str, Any]) -> Measured:
        """Hold it against COUNTS of the report's contract."""
        runs, slots = counts["runs"], counts["judge_slots"]
        if self.kind == "min-runs":
            return Measured(self, runs["completed"], runs["expected"])
        if self.kind == "min-slots":
            return Measured(self, slots["complete"], slots["expected"])
        return Measured(self, slots["fallback"], slots["complete"])


@dataclass(frozen=True, slots=True)
class Measured:
    """A requirement and what an experiment has: ``count`` things ``of`` so many.

    ``refused`` says why that cannot be held against it; such a requirement does not hold.
    """

    requirement: Requirement
    count: int
    of: int
    refused: str = ""

    @property
    def holds(self) -> bool:
        """Whether the experiment meets the requirement. That there is nothing to count is no least of anything."""
        if self.refused or (self.requirement.percent and not self.of and not self.requirement.is_most):
            return False
        return self.count <= self._bound if self.requirement.is_most else self.count >= self._bound

    @property
    def _bound(self) -> Fraction:
        limit = self.requirement.limit
        return limit * self.of / 100 if self.requirement.percent else limit

    @property
    def percentage(self) -> str:
        """The share, rounded so that it never looks better than it is; "" of nothing.

        >>> parse_requirement("min-runs=99.95%").measure({"runs": {"completed": 99999, "expected": 100000},
        ...     "judge_slots": {}}).percentage
        '99.99%'
        """
        if not self.of:
            return ""
        scale = 10 ** max(2, self.requirement.decimals)
        share = Fraction(100 * scale * self.count, self.of)
        whole, rest = divmod(ceil(share) if self.requirement.is_most else floor(share), scale)
        return f"{whole}.{rest:0{len(str(scale)) - 1}d}%" if rest else f"{whole}%"

    def __str__(self) -> str:
        noun = {"min-runs": "completed", "min-slots": "complete", "max-fallback": "fallback"}[self.requirement.kind]
        share = f", {self.percentage}" if self.percentage else ""
        return f"{self.requirement}: {self.count} of {self.of} {noun}{share}: {self._verdict}"

    @property
    def _verdict(self) -> str:
        if self.refused:
            return f"refused, {self.refused}"
        if self.holds:
            return "holds"
        if self.requirement.is_most:
            return f"does not hold, {self.count - floor(self._bound)} too many"
        lacking = ceil(self._bound) - self.count
        return f"does not hold, {lacking} too few" if lacking > 0 else "does not hold, nothing is expected"

    def but_refused(self, reason: str) -> Measured:
        """The same, refused for ``reason`` unless that is ""."""
        return replace(self, refused=reason)

    def as_data(self) -> dict[str, Any]:
        """The same under the names of the report; ``holds`` is ``None`` where it was refused."""
        return {
            "requirement": self.requirement.text,
            "count": self.count,
            "of": self.of,
            "percent": 100 * self.count / self.of if self.of else None,
            "holds": None if self.refused else self.holds,
            "reason": self.refused or None,
        }


def parse_requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    """Read requirements, each kind at most once.

    :raises RequirementError: one of them says nothing, or a kind is there twice.
    """
    found: dict[Kind, Requirement] = {}
    for text in texts:
        requirement = parse_requirement(text)
        if other := found.get(requirement.kind):
            raise RequirementError(f"expected every kind once, found {describe(other.text)} and {describe(text)}")
        found[requirement.kind] = requirement
    return tuple(found.values())


def parse_requirement(text: str) -> Requirement:
    """Read one requirement, such as ``min-runs=99.5%`` (of those that are expected) or ``min-runs=1100``.

    :raises RequirementError: it is none.
    """
    name, separator, given = text.partition("=")
    kind = next((kind for kind in KINDS if kind == name), None)
    if not separator or kind is None:
        raise RequirementError(f"{_FORM}, with one of {', '.join(KINDS)}; found {describe(text)}")
    match = _LIMIT.fullmatch(given)
    if match is None:
        raise RequirementError(f"{_FORM}, with at most six decimals; found {describe(text)}")
    decimals = match["decimals"] or ""
    limit = Fraction(int(match["whole"] + decimals), 10 ** len(decimals))
    if match["percent"] and limit > 100:
        raise RequirementError(f"expected at most 100%, found {describe(text)}")
    return Requirement(kind, limit, bool(match["percent"]), len(decimals), text)
