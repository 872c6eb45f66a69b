"""What a person reads of one item that is not sound."""

from __future__ import annotations

from pytest_scylla.auditing.findings import finding
from pytest_scylla.outcomes import ItemOutcome
from pytest_scylla.repair.actions import Action
from pytest_scylla.report.item import failure_text


def outcome(findings: int, actions: int) -> ItemOutcome:
    """Aggregates with so many findings, and so many files that could not be rebuilt, each of its own."""
    return ItemOutcome(
        "stale",
        "failed",
        tuple(finding("aggregate-stale", f"T0/{number:02d}/report.json", "it differs") for number in range(findings)),
        "free (rebuild them from the runs)",
        actions=tuple(Action("regenerate", f"{number:02d}.json", "refused", reason="no") for number in range(actions)),
    )


def test_twenty_findings_and_twenty_actions_are_told_a_line_each() -> None:
    lines = failure_text("aggregates", outcome(20, 20)).splitlines()
    assert len(lines) == 1 + 20 + 20 + 1
    assert lines[20] == "  aggregate-stale: T0/19/report.json: it differs"
    assert lines[-2] == "  19.json not rebuilt: no"


def test_of_more_the_rest_is_counted_and_the_report_named() -> None:
    lines = failure_text("aggregates", outcome(250, 21)).splitlines()
    more = [line for line in lines if line.startswith("  and ")]
    assert more == [
        "  and 230 more: --scylla-report=FILE.json has them all",
        "  and 1 more: --scylla-report=FILE.json has them all",
    ]
    assert len(lines) == 1 + 20 + 1 + 20 + 1 + 1
