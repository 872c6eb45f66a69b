"""The collection tree: experiment > tier > subtest > run > its judge slots and the run itself; last, what follows from
the runs as a whole.

Items are ordinary pytest functions on this tree, so that options, markers and fixtures mean what they mean elsewhere.
Collecting reads no file: what is expected is known from the experiment, and every worker agrees on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from .auditing.findings import finding
from .auditing.run import garbage_collection_paused
from .experiment.layout import RunId
from .experiment.wording import printable
from .items import audit_items, plan_items, repair_items
from .outcomes import AGGREGATES_ID, CHECKPOINT_ID, AuditedExperiment, ItemOutcome
from .repair.plan import REBUILDABLE
from .report.item import failure_text, headline
from .upkeep import UPKEEP, Foreseen, foresee

if TYPE_CHECKING:
    from .asking import Asking
    from .judging.contract import Judge
    from .repair.actions import Action
    from .repair.request import Regenerate
    from .settings import Settings

ASKING: pytest.StashKey[Asking] = pytest.StashKey()
"""How the items of this process ask their judges, in a session that repairs."""


class _OfExperiment:
    """What all nodes of an experiment share: hooks are those that apply where pytest was started."""

    session: pytest.Session
    config: pytest.Config

    parent: Any

    @cached_property
    def ihook(self) -> Any:
        """The hooks to call for this node: by its own path it would lose those of the project's conftest.py."""
        if isinstance(self.parent, _OfExperiment):
            return self.parent.ihook
        return self.session.gethookproxy(self.config.invocation_params.dir)


class InvocationDirectory(pytest.Directory):
    """The directory where pytest was started, when no positional argument asks for anything in it.

    It is what the experiments hang under, so that the fixtures of the conftest.py there are visible to them.
    """

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Collect nothing: the session adds the experiments."""
        return iter(())


class ExperimentNode(_OfExperiment, pytest.Collector):
    """An experiment."""

    audited: AuditedExperiment
    settings: Settings
    fixture_info: Any = None

    @classmethod
    def make(cls, parent: pytest.Collector, audited: AuditedExperiment, settings: Settings) -> ExperimentNode:
        """Make the node of ``audited``; its node id is the experiment's name."""
        node: ExperimentNode = cls.from_parent(
            parent, name=audited.name, nodeid=audited.name, path=audited.experiment.root
        )
        node.audited, node.settings = audited, settings
        return node

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """The tiers, then what follows from their runs: the checkpoint, and the aggregates."""
        for tier in self.audited.experiment.subtests:
            yield TierNode.from_parent(self, name=tier, nodeid=f"{self.name}/{tier}")
        for name, upkeep in UPKEEP.items():
            if name in self.audited.selection:
                place = ItemsNode.from_parent(self, name=name, nodeid=f"{self.name}/{name}", path=self.path)
                item: WholeItem = WholeItem.from_parent(place, name=name, callobj=_CHECKS[name])
                item.item_id, item.subject = name, upkeep.subject
                yield item

    @cached_property
    def regenerates_as_shipped(self) -> bool:
        """Whether nobody overrides the fixture ``scylla_regenerate`` for this experiment."""
        return self._is_as_shipped("scylla_regenerate")

    @cached_property
    def makes_workspaces_as_shipped(self) -> bool:
        """Whether nobody overrides the fixture ``scylla_workspace`` for this experiment."""
        return self._is_as_shipped("scylla_workspace")

    def _is_as_shipped(self, fixture: str) -> bool:
        # No public API tells; a test overrides it from every place where that is possible.
        providers = self.session._fixturemanager.getfixturedefs(fixture, self)
        return providers is not None and len(providers) == 1

    @cached_property
    def relative_root(self) -> str:
        """The experiment's root relative to pytest's rootdir, for locations."""
        return printable(os.path.relpath(self.audited.experiment.root, self.config.rootpath))


class TierNode(_OfExperiment, pytest.Collector):
    """A tier."""

    parent: ExperimentNode

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """The subtests; for a tier of which nobody knows them, one item that says so."""
        subtests = self.parent.audited.experiment.subtests[self.name]
        if not subtests and self.name in self.parent.audited.selection:
            place = ItemsNode.from_parent(self, name=self.name, nodeid=self.nodeid, path=self.path)
            item: TierItem = TierItem.from_parent(place, name="subtests", callobj=check)
            item.item_id = item.subject = self.name
            yield item
        for subtest in subtests:
            yield SubtestNode.from_parent(self, name=subtest, nodeid=f"{self.nodeid}/{subtest}")


class SubtestNode(_OfExperiment, pytest.Collector):
    """A subtest: one configuration of a tier."""

    parent: TierNode

    def collect(self) -> Iterator[pytest.Collector]:
        """The runs that are selected, in part or whole."""
        audited = self.parent.parent.audited
        selection, judges = audited.selection, audited.experiment.judges_per_run
        places = [audited.experiment.root / stage / self.parent.name / self.name for stage in audited.experiment.stages]
        fallback = _existing_ancestor(places[0], audited.experiment.root)
        for number in range(1, audited.experiment.config.runs_per_subtest + 1):
            run = RunId(self.parent.name, self.name, number)
            if selection.run_is_whole(run) or any(
                f"{run}/judge_{judge:02d}" in selection for judge in range(1, judges + 1)
            ):
                paths = (place / run.name for place in places)
                path = next((path for path in paths if path.is_dir()), fallback)
                node = RunNode.from_parent(self, name=run.name, nodeid=f"{self.nodeid}/{run.name}", path=path)
                node.run = run
                yield node


class ItemsNode(_OfExperiment, pytest.Module):
    """What items hang under: a "module" without source, so that module-scoped fixtures live once for its items."""

    obj = None

    @cached_property
    def selected(self) -> set[str]:
        """The names of its items that the session runs, once that is known."""
        return set()

    @cached_property
    def experiment_node(self) -> ExperimentNode:
        """The experiment that the items belong to."""
        node = self.getparent(ExperimentNode)
        assert node is not None
        return node

    @cached_property
    def marked(self) -> bool:
        """Whether it, or what is above it, has a marker, which can only be somebody else's."""
        return any(node.own_markers for node in self.listchain())

    @cached_property
    def keyword_names(self) -> dict[str, Literal[1]]:
        """The keywords that its items have from it and from above it."""
        return dict.fromkeys(self.keywords, 1)


class RunNode(ItemsNode):
    """A run.

    Its path is the run's directory, or where that is absent the nearest directory that exists: --last-failed asks for
    the path, and an absent run is an item as well.
    """

    run: RunId
    was_repaired = was_executed = False

    @cached_property
    def judged(self) -> set[str]:
        """The names of its slots that were judged, or are not going to be."""
        return set()

    def collect(self) -> Iterator[pytest.Item]:
        """The judge slots, then the run itself, which is repaired last."""
        audited = self.experiment_node.audited
        whole = audited.selection.run_is_whole(self.run)
        for number in range(1, audited.experiment.judges_per_run + 1):
            name = f"judge_{number:02d}"
            if whole or f"{self.run}/{name}" in audited.selection:
                slot = self._item(JudgeSlotItem, name, check_judge_slot)
                slot.item_id, slot.subject = f"{self.run}/{name}", f"{self.run}/judge/{name}/judgment.json"
                yield slot
        if whole:
            run = self._item(RunItem, "run", check_run)
            run.item_id, run.subject = str(self.run), f"{self.run}/run_result.json"
            yield run

    def _item(self, kind: type[ItemOfRun], name: str, test: Callable[[pytest.FixtureRequest], None]) -> ItemOfRun:
        """Make an item, telling pytest what it worked out for the first: which fixtures apply.

        That is the same for all items of an experiment, since no conftest.py inside of it counts, and working it out
        again is half of the time of collecting. The argument is documented; the attribute it comes from is not.
        """
        known = self.experiment_node.fixture_info
        item: ItemOfRun = kind.from_parent(self, name=name, callobj=test, fixtureinfo=known)
        if known is None:
            self.experiment_node.fixture_info = item._fixtureinfo
        return item

    @cached_property
    def outcomes(self) -> dict[str, ItemOutcome]:
        """The outcome of the run and of each of its slots, by item name; audited when first asked for."""
        audited = self.experiment_node.audited
        if audited.before:
            return {name: audited.before[item_id] for name, item_id in audited.items_of(self.run)}
        return audit_items(audited, self.run, self.experiment_node.settings)

    @cached_property
    def admitted(self) -> frozenset[str]:
        """The names of the run's items that a repair may act on: those that were selected, in a status to repair.

        What is waived is none of them, not even for what is free: a person has said that it may stay as it is. It is
        asked for once all are selected.
        """
        repair = self.experiment_node.settings.repair
        if repair is None:
            return frozenset()
        return frozenset(
            name
            for name in self.selected
            if self.outcomes[name].outcome != "waived" and repair.admits(name, self.outcomes[name].status)
        )

    @property
    def is_named(self) -> bool:
        """Whether a person named this very run, so that it may be run again whatever it holds."""
        return str(self.run) in self.experiment_node.settings.select

    @property
    def asks_for_agent(self) -> bool:
        """Whether its agent is to run again, and has not yet."""
        repair = self.experiment_node.settings.repair
        if repair is None or not repair.runs_agents or self.was_executed or "run" not in self.admitted:
            return False
        return self.outcomes["run"].level == "agents" or (repair.fresh and self.is_named)

    @property
    def may_be_repaired(self) -> bool:
        """Whether something may be wrong with the run that a repair may act on, and none has yet."""
        return not self.was_repaired and any(self.is_damaged(name) for name in self.admitted)

    def is_damaged(self, name: str) -> bool:
        """Whether anything is wrong with the item ``name`` that a repair may solve."""
        outcome = self.outcomes[name]
        return not outcome.sound or any(found.code in REBUILDABLE for found in outcome.findings)

    @property
    def slots_to_judge(self) -> list[str]:
        """The names of the slots that a judge is yet to be asked about, in their order."""
        repair = self.experiment_node.settings.repair
        if repair is None or not repair.asks_judges:
            return []
        found = []
        if self.asks_for_agent:  # what it leaves is then to be judged
            return []
        for name in sorted(self.admitted - self.judged - {"run"}):
            outcome = self.outcomes[name]
            again = not outcome.exhausted or repair.retry or repair.judge.fallback
            if outcome.level == "judges" and not outcome.sound and again:
                found.append(name)
        return found

    def repair(self, regenerate: Regenerate, acting: str = "run", *, wait: bool = True) -> None:
        """Rebuild what survives of the run, or only plan it, on behalf of the item ``acting``; all at once, and once.

        What is to be kept current beyond the items that may be acted on counts as an action of that item.

        :raises Held: another process is at work on the run, and this one was not to ``wait``.
        """
        node = self.experiment_node
        settings, audited = node.settings, node.audited
        assert settings.repair is not None
        admits = self.admitted.__contains__
        with garbage_collection_paused():
            if settings.repair.plan_only:
                asking = self.config.stash[ASKING]
                executed = asking.plan_execution(self, regenerate) if self.asks_for_agent else {}
                # One that is refused, or not due, leaves its slots to their judges.
                self.was_executed = all(action.outcome == "refused" for action in executed.get("run", ()))
                after, actions = plan_items(
                    audited, self.run, settings, regenerate, admits, asking.terms, self.slots_to_judge
                )
                actions = {name: (*actions.get(name, ()), *executed.get(name, ())) for name in {**actions, **executed}}
            else:
                after, actions = repair_items(audited, self.run, settings, regenerate, admits, wait=wait)
        shares: dict[str, tuple[Action, ...]] = {}
        first = min((name for name in actions if name in self.admitted), default=acting)
        for name, done in actions.items():
            share = name if name in self.admitted else first
            shares[share] = (*shares.get(share, ()), *done)
        before = self.outcomes
        self.outcomes = {name: after[name].after(before[name], shares.get(name, ())) for name in before}
        self.was_repaired = True
        self.tell_refusals()

    def plan_call(self, regenerate: Regenerate, slot: str, reason: str) -> None:
        """Plan the judge call for a slot, in a session that would make it if it were not for ``reason``."""
        node = self.experiment_node
        terms = self.config.stash[ASKING].terms
        after, actions = plan_items(
            node.audited, self.run, node.settings, regenerate, self.admitted.__contains__, terms, [slot]
        )
        planned = (action for action in actions.get(slot, ()) if action.outcome == "planned")
        told = tuple(replace(action, reason=reason) if action.level == "judges" else action for action in planned)
        self.take(after, slot, told)
        self.judged.add(slot)
        self.leave(slot)

    def plan_execution(self, regenerate: Regenerate, reason: str) -> None:
        """Plan the agent's run, in a session that would run it if it were not for ``reason``."""
        planned = self.config.stash[ASKING].plan_execution(self, regenerate, reason)
        self.outcomes = {
            name: replace(found, actions=(*found.actions, *planned.get(name, ())))
            for name, found in self.outcomes.items()
        }
        for name in self.admitted:
            self.leave(name)

    def take(self, after: dict[str, ItemOutcome], slot: str, actions: tuple[Action, ...]) -> None:
        """Take the run's outcomes ``after`` something was done about ``slot``, beside what was done before."""
        before = self.outcomes
        self.outcomes = {
            name: after[name].after(before[name], (*before[name].actions, *(actions if name == slot else ())))
            for name in before
        }

    def leave(self, slot: str) -> None:
        """Count a slot that is not sound as one that was not run."""
        if not self.outcomes[slot].sound:
            self.outcomes[slot] = replace(self.outcomes[slot], outcome="not-run")

    def tell_refusals(self) -> None:
        """Say of every item that is not sound, and that nothing more is done about, why not."""
        left = self.slots_to_judge
        waiting = {*left, "run"} if left or self.asks_for_agent else set()
        if self.asks_for_agent:
            waiting = set(self.admitted)
        for name in waiting & self.admitted:  # that no file gives a judgment back is no refusal: a judge will
            outcome = self.outcomes[name]
            actions = tuple(action for action in outcome.actions if action.outcome != "refused")
            self.outcomes[name] = replace(outcome, actions=actions)
        for name in self.admitted - waiting:
            self.outcomes[name] = self.outcomes[name].with_refusal()


class ScyllaItem(_OfExperiment, pytest.Function):
    """An item of an experiment. Its ``outcome`` is its verdict; the test fails if that is not sound.

    ``item_id`` is the id by which --scylla-select and the reports name it, such as ``T5/13/run_10/judge_01``;
    ``subject`` is the file that it is about, relative to the experiment. ``acted_on`` are the runs that were changed
    on its behalf: its own, and others while it had to wait.
    """

    parent: ItemsNode
    item_id: str
    subject: str
    acted_on: tuple[RunNode, ...] = ()

    @property
    def outcome(self) -> ItemOutcome:
        """The verdict on this item."""
        raise NotImplementedError

    @property
    def asks_for_repair(self) -> bool:
        """Whether its test calls the repair's fixture: it may be acted on, and something is wrong with it."""
        return False

    @property
    def asks_for_agent(self) -> bool:
        """Whether its test runs an agent."""
        return False

    @property
    def asks_for_judge(self) -> bool:
        """Whether its test asks a judge."""
        return False

    def put_right(self, fixture: Callable[[str], Any]) -> None:
        """Repair it as far as it asks for that, by what ``fixture`` returns for a fixture's name."""

    @property
    def keyword_names(self) -> dict[str, Literal[1]]:
        """The item's keywords as a report has them; those of its run are looked up once."""
        return {**self.parent.keyword_names, self.name: 1, **{mark.name: 1 for mark in self.own_markers}}

    @property
    def location(self) -> tuple[str, int | None, str]:
        """The file that a person would open, relative to rootdir, and the item's id."""
        return (f"{self.parent.experiment_node.relative_root}/{self.subject}", 0, self.item_id)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        """Show a verdict as it is, without the search for the frames that it came by; anything else as pytest does."""
        value = excinfo.value
        if isinstance(value, pytest.xfail.Exception) or (
            isinstance(value, pytest.fail.Exception) and not value.pytrace
        ):
            shown = excinfo.getrepr(style="value", tbfilter=False)
            crash = shown.reprcrash
            if crash is not None:
                # What the short summary and --tb=line say: the file in question, not this one, and why in one line.
                crash.path, crash.lineno, crash.message = self.location[0], 1, headline(self.outcome)
            return shown
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """What :attr:`location` is made of."""
        return (self.parent.experiment_node.audited.experiment.root / self.subject, 0, self.item_id)


class ItemOfRun(ScyllaItem):
    """An item of a run: the run itself, or one of its judge slots."""

    parent: RunNode

    @property
    def outcome(self) -> ItemOutcome:
        """The verdict on this item."""
        return self.parent.outcomes[self.name]

    @property
    def asks_for_repair(self) -> bool:
        """Whether its test calls the repair's fixture: it may be acted on, and something is wrong with it."""
        run = self.parent
        if run.was_repaired or self.name not in run.admitted:
            return False
        return run.is_damaged(self.name) or run.asks_for_agent  # which runs when the rest is put right

    @property
    def asks_for_agent(self) -> bool:
        """Whether its test runs the agent of its run, once what survives was rebuilt."""
        repair = self.parent.experiment_node.settings.repair
        return repair is not None and not repair.plan_only and self.parent.asks_for_agent

    @property
    def slots_to_ask_about(self) -> list[str]:
        """The names of the slots that its test asks a judge about, once what survives was rebuilt."""
        repair = self.parent.experiment_node.settings.repair
        return [] if repair is None or repair.plan_only else self.parent.slots_to_judge

    @property
    def asks_for_judge(self) -> bool:
        """Whether its test asks a judge."""
        return bool(self.slots_to_ask_about)

    def repair(self, regenerate: Regenerate) -> None:
        """Rebuild what survives of the run, on behalf of this item."""
        self.parent.repair(regenerate, self.name)
        self.acted_on = (self.parent,)

    def execute(self, fixture: Callable[[str], Any]) -> None:
        """Run the run's agent again, on behalf of this item, unless it is not to run in this session."""
        asking, run = self.config.stash[ASKING], self.parent
        run.was_executed = True
        if asking.held_back:
            run.plan_execution(fixture("scylla_regenerate"), asking.held_back)
        else:
            others = asking.execute(
                run,
                fixture("scylla_agent"),
                fixture("scylla_workspace"),
                fixture("scylla_judge"),
                fixture("scylla_regenerate"),
            )
            self.acted_on = (run, *others)
        run.tell_refusals()

    def ask(self, slot: str, judge: Callable[[], Judge], regenerate: Regenerate) -> None:
        """Ask the judge for a slot's judgment, unless it is not to be asked in this session."""
        asking, run = self.config.stash[ASKING], self.parent
        if asking.held_back:
            run.plan_call(regenerate, slot, asking.held_back)
        else:
            others = asking.judge(run, slot, judge(), regenerate)
            self.acted_on = tuple(dict.fromkeys((*self.acted_on, run, *others)))
        run.tell_refusals()

    def put_right(self, fixture: Callable[[str], Any]) -> None:
        """Rebuild what survives, run the agent if it has to run, ask the judge if it has to be asked."""
        if self.asks_for_repair:
            self.repair(fixture("scylla_regenerate"))
        if self.asks_for_agent:
            self.execute(fixture)
        for slot in self.slots_to_ask_about:
            self.ask(slot, lambda: fixture("scylla_judge"), fixture("scylla_regenerate"))


class RunItem(ItemOfRun):
    """A run. Its verdict rests on its slots', so where these may run later, or elsewhere, it has them judged itself."""

    @property
    def slots_to_ask_about(self) -> list[str]:
        """The names of the slots that are left, but for those whose judge raised something, which their items show.

        Where they come first, what is left is of no use: an item that took its worker down is not started again.
        """
        if self.parent.experiment_node.audited.in_order:
            return []
        left = super().slots_to_ask_about
        return [slot for slot in left if not self.config.stash[ASKING].is_broken(self.parent, slot)]

    def ask(self, slot: str, judge: Callable[[], Judge], regenerate: Regenerate) -> None:
        """Ask the judge for a slot's judgment; what it raises is left to the slot's own item."""
        with suppress(Exception):
            super().ask(slot, judge, regenerate)


class JudgeSlotItem(ItemOfRun):
    """A judge slot."""

    @property
    def slots_to_ask_about(self) -> list[str]:
        """Its own name, if it is left."""
        return [slot for slot in super().slots_to_ask_about if slot == self.name]


def runs_behind_their_slots(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    """The items in their order, but for runs that come before a slot of theirs: those follow behind their last one."""
    last = {item.parent: item for item in items if isinstance(item, JudgeSlotItem)}
    held: dict[pytest.Collector, pytest.Item] = {}
    for item in items:
        if isinstance(item, RunItem) and item.parent in last:
            held[item.parent] = item
            continue
        yield item
        if isinstance(item, JudgeSlotItem) and last[item.parent] is item:
            del last[item.parent]
            if item.parent in held:
                yield held[item.parent]


class TierItem(ScyllaItem):
    """A tier of which nothing says what subtests it has: it cannot be green."""

    @cached_property
    def outcome(self) -> ItemOutcome:
        """Always a failure, with the remedy, unless that is waived."""
        message = "expected subtests, found none on disk, in the checkpoint or in an aggregate"
        remedy = "none: name the definitions with --scylla-subtests=DIR, or take the tier out of tiers_to_run"
        outcome = ItemOutcome("missing", "failed", (finding("subtests-unknown", self.item_id, message),), remedy)
        return self.parent.experiment_node.audited.unless_waived(self.item_id, outcome)


class WholeItem(ScyllaItem):
    """Something that has to say what the files of an experiment's runs say: its checkpoint, or all its aggregates."""

    @cached_property
    def outcome(self) -> ItemOutcome:
        """The verdict on it, once its turn has come: in a session that repairs, after the runs."""
        node = self.parent.experiment_node
        found = UPKEEP[self.item_id].audit(node.audited, node.settings)
        before = node.audited.before.get(self.item_id)
        return found if before is None else found.after(before, ())

    @property
    def asks_for_repair(self) -> bool:
        """Whether it may be acted on, and is not right, or may not be once what is planned for the runs is done."""
        repair = self.parent.experiment_node.settings.repair
        if repair is None or self.outcome.outcome == "waived" or not repair.admits(self.name, self.outcome.status):
            return False
        return repair.plan_only or UPKEEP[self.item_id].is_damaged(self.outcome)

    def put_right(self, fixture: Callable[[str], Any]) -> None:
        """Let it say what the runs' own files say, or only plan that."""
        if not self.asks_for_repair:
            return
        node, upkeep = self.parent.experiment_node, UPKEEP[self.item_id]
        settings, audited = node.settings, node.audited
        assert settings.repair is not None
        if settings.repair.plan_only:
            actions = upkeep.plan(audited, settings, self._runs_ahead(fixture("scylla_regenerate")))
            self.outcome = replace(self.outcome, actions=actions)
        elif audited.in_order:
            found, actions = upkeep.repair(audited, settings)
            self.outcome = found.after(audited.before[self.item_id], actions)
        elif self.outcome.level == "regenerate":  # the controlling process does it, once the runs are repaired
            self.outcome = ItemOutcome("sound", "repaired")

    def _runs_ahead(self, regenerate: Regenerate) -> dict[RunId, Foreseen | None]:
        """The runs for which something is planned."""
        node = self.parent.experiment_node
        ahead: dict[RunId, Foreseen | None] = {}
        for run in self.config.stash[ASKING].runs:
            if run.experiment_node is not node:
                continue
            if run.asks_for_agent or run.slots_to_judge:
                ahead[run.run] = None
            elif any(map(run.is_damaged, run.admitted)):
                admits = run.admitted.__contains__
                ahead[run.run] = foresee(node.audited, run.run, node.settings, regenerate, admits)
        return ahead


def check(request: pytest.FixtureRequest) -> None:
    """The test of an item; under --repair, what is wrong with it is put right first as far as that goes."""
    check_item(request.node, request.getfixturevalue)


def check_item(item: ScyllaItem, fixture: Callable[[str], Any]) -> None:
    """Repair the item by what ``fixture`` returns for a fixture's name; fail with what is wrong with it then.

    It fails in the item's own words and without a traceback; what is waived fails as expected.
    """
    item.put_right(fixture)
    if item.outcome.outcome == "waived":
        reason = item.parent.experiment_node.audited.reason_of(item.item_id)
        pytest.xfail(f"{headline(item.outcome)}, waived: {reason}")
    if not item.outcome.sound:
        pytest.fail(failure_text(item.item_id, item.outcome), pytrace=False)


@pytest.mark.scylla_run
def check_run(request: pytest.FixtureRequest) -> None:
    """The test of a run."""
    check(request)


@pytest.mark.scylla_judge
def check_judge_slot(request: pytest.FixtureRequest) -> None:
    """The test of a judge slot."""
    check(request)


@pytest.mark.scylla_checkpoint
def check_checkpoint(request: pytest.FixtureRequest) -> None:
    """The test of a checkpoint."""
    check(request)


@pytest.mark.scylla_aggregates
def check_aggregates(request: pytest.FixtureRequest) -> None:
    """The test of all aggregates of an experiment."""
    check(request)


_CHECKS = {CHECKPOINT_ID: check_checkpoint, AGGREGATES_ID: check_aggregates}


def _existing_ancestor(path: Path, root: Path) -> Path:
    while path != root and not path.is_dir():
        path = path.parent
    return path
