"""The recorded experiment is clean, but for judges that revised their verdict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest_scylla


def test_recorded_experiment_is_clean(recorded_experiment: Path) -> None:
    audits = list(pytest_scylla.audit(pytest_scylla.load(recorded_experiment)))
    findings = [found for audit in audits for found in audit.findings]
    findings += [found for audit in audits for slot in audit.slots for found in slot.findings]
    assert [audit.status for audit in audits] == ["completed"] * 7
    assert Counter(slot.status for audit in audits for slot in audit.slots) == {"complete": 21}
    assert Counter((found.code, found.severity) for found in findings) == {("verdict-revised", "warning"): 5}
