"""A shorter protocol for items that have nothing to report.

For a healthy item, four fifths of the time of pytest's own protocol go into capturing, logging and fixture machinery
around three phases in which nothing happens. Such an item gets the same three reports, made directly. Whoever could
tell the difference gets pytest's own protocol: a failing item, and every item where an autouse fixture applies or
another plugin or conftest.py takes part in running tests.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Literal, get_args

import pytest

from .nodes import ScyllaItem

_RUNNING_HOOKS = (
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtest_call",
    "pytest_runtest_teardown",
    "pytest_runtest_makereport",
    "pytest_pyfunc_call",
    "pytest_fixture_setup",
)
_WATCHING_OPTIONS = ("setupshow", "setuponly", "setupplan", "trace", "usepdb")
_OWN_MODULES = ("_pytest.", "pytest_scylla.", "xdist.")

Phase = Literal["setup", "call", "teardown"]


class ShortProtocol:
    """Runs healthy items the short way, where that cannot be noticed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._possible: bool | None = None
        # The deepest node that pytest keeps set up for the items to come; leaving it takes pytest's own protocol.
        self._standing: pytest.Collector | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run ``item`` the short way and return True, or leave it to pytest."""
        if self._fits(item, nextitem):
            assert isinstance(item, ScyllaItem)
            start = time.time()
            began = time.perf_counter()
            if item.outcome.outcome == "passed":
                _report(item, start, time.perf_counter() - began)
                return True
        self._standing = _deepest_common(item, nextitem)
        return None

    def _fits(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        if not isinstance(item, ScyllaItem) or item.fixturenames != ["request"]:
            return False
        if self._possible is None:
            self._possible = not _others_take_part(self._config)
        if not self._possible:
            return False
        if self._standing is None or (nextitem is not None and nextitem.parent is item.parent):
            return True
        return nextitem is not None and self._standing in nextitem.listchain()


def _others_take_part(config: pytest.Config) -> bool:
    if any(config.getoption(option, default=False) for option in _WATCHING_OPTIONS):
        return True
    for name in _RUNNING_HOOKS:
        for implementation in getattr(config.hook, name).get_hookimpls():
            plugin = implementation.plugin
            module = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
            if not f"{module}.".startswith(_OWN_MODULES):
                return True
    return False


def _report(item: ScyllaItem, start: float, duration: float) -> None:
    hook, nodeid, location = item.ihook, item.nodeid, item.location
    hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
    keywords: dict[str, Literal[1]] = dict.fromkeys(item.keywords, 1)
    for phase in get_args(Phase):
        call = phase == "call"
        report = pytest.TestReport(
            nodeid,
            location,
            keywords,
            "passed",
            None,
            phase,
            duration=duration if call else 0.0,
            start=start,
            stop=start + duration if call else start,
            user_properties=user_properties(item),
        )
        if call:
            attach_outcome(report, item)
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def user_properties(item: ScyllaItem) -> list[tuple[str, object]]:
    """The properties that a report such as JUnit's shows for the item."""
    findings = "; ".join(map(str, item.outcome.findings))
    return [("status", item.outcome.status), *([("findings", findings)] if findings else [])]


def attach_outcome(report: pytest.TestReport, item: ScyllaItem) -> None:
    """Send the outcome along: a report's extra attributes survive the way from an xdist worker, as plain data."""
    report.scylla_outcome = item.outcome.as_data()  # type: ignore[attr-defined]


def _deepest_common(item: pytest.Item, nextitem: pytest.Item | None) -> pytest.Collector | None:
    if nextitem is None:
        return None
    coming = set(nextitem.listchain())
    common = [node for node in item.listchain() if node in coming and isinstance(node, pytest.Collector)]
    return common[-1] if common else None
