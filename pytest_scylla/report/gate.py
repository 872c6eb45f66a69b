"""What a person reads of requirements, the comparison with a baseline, and waivers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..experiment.wording import printable
from ..gate.baseline import Comparison
from ..gate.conclusion import Conclusion
from ..gate.waivers import WaiverUse

KINDS_OF_CHANGE = {
    "worse": "worse",
    "better": "better",
    "changed": "changed",
    "scores": "with another score",
    "new": "new",
    "absent": "no longer expected",
}
"""What became of items since the baseline, in people's words."""
MOST_WAIVERS = 50
"""How many waivers a table has at most."""
_MOST_SHOWN = {"worse": 10, "better": 3, "changed": 3, "scores": 3}


class Line(NamedTuple):
    """One line, and whether it tells why the session fails."""

    text: str
    fails: bool = False


def conclusion_lines(conclusion: Conclusion, verbosity: int = 0) -> Iterator[Line]:
    """What was concluded of an experiment; only what fails the session below -q, each change from -v on."""
    lines = [Line(str(measured), not measured.holds) for measured in conclusion.measured]
    if conclusion.compared is not None:
        lines += map(Line, comparison_lines(conclusion.compared, verbosity))
    if conclusion.ratchet is not None:
        lines.append(Line(str(conclusion.ratchet), not conclusion.ratchet.holds))
    return (line for line in lines if line.fails or verbosity >= -1)


def comparison_lines(compared: Comparison, verbosity: int = 0) -> Iterator[str]:
    """What became better and worse: how many items, and some of them."""
    of_kind = {kind: [str(change) for change in getattr(compared, kind)] for kind in KINDS_OF_CHANGE}
    parts = [f"{len(changes)} {KINDS_OF_CHANGE[kind]}" for kind, changes in of_kind.items() if changes]
    if compared.not_compared:
        parts.append(f"{compared.not_compared} not compared")
    when = f" of {compared.generated_at}" if compared.generated_at else ""
    yield f"compared with {printable(compared.baseline)}{when}: {', '.join(parts) or 'nothing changed'}"
    for kind, changes in of_kind.items():
        most = len(changes) if verbosity > 0 else _MOST_SHOWN.get(kind, 0) if verbosity == 0 or kind == "worse" else 0
        yield from (f"  {kind:8}{change}" for change in changes[:most])
        if 0 < most < len(changes):
            yield f"  {'':8}and {len(changes) - most} more; -v lists them"


def waiver_lines(uses: Iterable[WaiverUse], verbosity: int = 0) -> Iterator[Line]:
    """How many items are waived, the faults of waivers, and from -v on every waiver.

    ``uses`` are those of all experiments.
    """
    waived: Counter[str] = Counter()
    by_place: dict[str, WaiverUse] = {}
    for use in uses:
        waived[use.place] += use.waived
        by_place[use.place] = use
    items = waived.total()
    if items and verbosity >= -1:
        yield Line(f"waived: {items} item{'s' * (items != 1)}")
    for place, use in by_place.items():
        if use.fault:
            yield Line(f"{place}: {use.problem}", fails=True)
        elif verbosity > 0:
            yield Line(f"  {place}: {waived[place]} until {use.waiver.until}: {use.waiver.reason}")
