"""A shorter protocol for items that need no fixture, or only the plugin's own that nobody overrides.

For such an item, four fifths of the time of pytest's own protocol go into capturing, logging and fixture machinery
around three phases of which two do nothing. It gets its reports made directly: those of all three phases where somebody
beside pytest's own terminal and cache listens (JUnit, xdist, a report log, a conftest.py), else only that of the call,
since nothing comes of the others. Whoever could tell the difference gets pytest's own protocol: every item where an
autouse fixture applies, or another plugin or conftest.py takes part in running tests.
"""

from __future__ import annotations

from itertools import zip_longest
from types import ModuleType
from typing import Literal

import pytest

from .nodes import ScyllaItem, check_item
from .repair.regenerate import regenerate
from .report.item import action_line

_RUNNING_HOOKS = (
    "pytest_runtest_protocol",
    "pytest_runtest_setup",
    "pytest_runtest_call",
    "pytest_runtest_teardown",
    "pytest_runtest_makereport",
    "pytest_pyfunc_call",
    "pytest_fixture_setup",
)
_INDIFFERENT = ("_pytest.terminal.", "_pytest.main.", "_pytest.cacheprovider.", "_pytest.logging.", "_pytest.runner.")
"""Modules that do not mind if the reports of a setup and a teardown that did nothing are left out."""

_WATCHING_OPTIONS = ("setupshow", "setuponly", "setupplan", "trace", "usepdb")
_OWN_MODULES = ("_pytest.", "xdist.")


class ShortProtocol:
    """Runs items of experiments the short way, where that cannot be noticed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._possible: bool | None = None
        self._phases_matter = True
        # The deepest node that pytest keeps set up for the items to come; leaving it takes pytest's own protocol.
        self._standing: pytest.Collector | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the session's items in turn, as pytest does, but ours without asking every plugin.

        Where items are run by somebody else, such as xdist, this only serves as the protocol of each.
        """
        if _implementers(self._config, "pytest_runtestloop", but="_pytest.") or session.config.option.collectonly:
            return None
        if session.testsfailed and not session.config.option.continue_on_collection_errors:
            return None
        for item, nextitem in zip_longest(session.items, session.items[1:]):
            if not self.run_short(item, nextitem):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run ``item`` the short way and return True, or leave it to pytest."""
        if self.run_short(item, nextitem):
            return True
        self._standing = _deepest_common(item, nextitem)
        return None

    def run_short(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run ``item`` the short way if nobody can tell; whether that was so."""
        if not self._fits(item, nextitem):
            return False
        assert isinstance(item, ScyllaItem)
        _run(item, all_phases=self._phases_matter)
        return True

    def _fits(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        if not isinstance(item, ScyllaItem) or item.fixturenames != ["request"]:
            return False
        if (
            item.asks_for_agent
            or item.asks_for_judge
            or (item.asks_for_repair and not item.parent.experiment_node.regenerates_as_shipped)
        ):
            return False
        if len(item.own_markers) > 1 or item.parent.marked:  # skip, xfail and the like: pytest knows what they mean
            return False
        if self._possible is None:
            self._possible = not _others_take_part(self._config)
            self._phases_matter = bool(_implementers(self._config, "pytest_runtest_logreport", but=_INDIFFERENT))
        if not self._possible:
            return False
        if self._standing is None or (nextitem is not None and nextitem.parent is item.parent):
            return True
        return nextitem is not None and self._standing in nextitem.listchain()


def _others_take_part(config: pytest.Config) -> bool:
    if any(config.getoption(option, default=False) for option in _WATCHING_OPTIONS):
        return True
    return any(_implementers(config, name, but=_OWN_MODULES) for name in _RUNNING_HOOKS)


def _implementers(config: pytest.Config, hook: str, but: str | tuple[str, ...]) -> list[str]:
    """The modules that implement ``hook``, ours and those whose names begin with ``but`` aside."""
    plugins = [implementation.plugin for implementation in getattr(config.hook, hook).get_hookimpls()]
    modules = [plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__ for plugin in plugins]
    return [name for name in modules if not f"{name}.".startswith(but) and not name.startswith("pytest_scylla.")]


def _run(item: ScyllaItem, *, all_phases: bool) -> None:
    hook, nodeid, location = item.ihook, item.nodeid, item.location
    hook.pytest_runtest_logstart(nodeid=nodeid, location=location)
    call = pytest.CallInfo.from_call(
        lambda: check_item(item, {"scylla_regenerate": regenerate}.__getitem__),
        when="call",
        reraise=(KeyboardInterrupt, pytest.exit.Exception),
    )
    properties = user_properties(item)

    def report(when: Literal["setup", "call", "teardown"], start: float) -> pytest.TestReport:
        return pytest.TestReport(
            nodeid,
            location,
            item.keyword_names,
            "passed",
            None,
            when,
            start=start,
            stop=start,
            user_properties=properties,
        )

    if all_phases:
        hook.pytest_runtest_logreport(report=report("setup", call.start))
    of_call = report("call", call.start)
    of_call.duration, of_call.stop = call.duration, call.stop
    if call.excinfo is not None:
        of_call.outcome, of_call.longrepr = "failed", item.repr_failure(call.excinfo)
        if isinstance(call.excinfo.value, pytest.xfail.Exception):
            of_call.outcome, of_call.wasxfail = "skipped", call.excinfo.value.msg or ""
    attach_outcome(of_call, item, call)
    hook.pytest_runtest_logreport(report=of_call)
    if of_call.failed:
        hook.pytest_exception_interact(node=item, call=call, report=of_call)
    if all_phases:
        hook.pytest_runtest_logreport(report=report("teardown", call.stop))
    hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def user_properties(item: ScyllaItem) -> list[tuple[str, object]]:
    """The properties that a report such as JUnit's shows for the item."""
    outcome = item.outcome
    findings = "; ".join(map(str, outcome.findings))
    actions = "; ".join(map(action_line, outcome.actions))
    before = item.parent.experiment_node.audited.status_before(item.item_id)
    told = (("status_before", before), ("findings", findings), ("actions", actions))
    return [("status", outcome.status), *((name, value) for name, value in told if value)]


def attach_outcome(report: pytest.TestReport, item: ScyllaItem, call: pytest.CallInfo[None]) -> None:
    """Send the outcome along: a report's extra attributes survive the way from an xdist worker, as plain data.

    One says so if it was no verdict that made the test fail, but an error, such as one of somebody's fixture.
    The item on whose behalf runs were changed tells about their other items as well: those may never run.
    """
    report.scylla_outcome = item.outcome.as_data()  # type: ignore[attr-defined]
    if call.excinfo is not None and (
        not isinstance(call.excinfo.value, pytest.fail.Exception) or call.excinfo.value.pytrace
    ):
        report.scylla_error = True  # type: ignore[attr-defined]
    if item.acted_on:
        report.scylla_others = {  # type: ignore[attr-defined]
            run.experiment_node.audited.nodeid(item_id): run.outcomes[name].as_data()
            for run in item.acted_on
            for name, item_id in run.experiment_node.audited.items_of(run.run)
            if item_id != item.item_id or run is not item.parent
        }


def _deepest_common(item: pytest.Item, nextitem: pytest.Item | None) -> pytest.Collector | None:
    if nextitem is None:
        return None
    coming = set(nextitem.listchain())
    common = [node for node in item.listchain() if node in coming and isinstance(node, pytest.Collector)]
    return common[-1] if common else None
