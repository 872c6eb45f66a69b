"""Any of a run's files are lost or cut off: what a free repair restores is what was there, and what it cannot is named.

The runs are healthy before, and told in several ways; the losses are drawn.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

import pytest_scylla
from benchmarks.synthetic import JsonObject, consensus, response, small, write_experiment
from pytest_scylla import RunAudit
from pytest_scylla.auditing.evidence import DEFAULT_POLICY
from pytest_scylla.auditing.run import examine
from pytest_scylla.auditing.status import Case
from pytest_scylla.experiment.expected import Experiment
from pytest_scylla.repair.plan import make_plan
from pytest_scylla.repair.regenerate import regenerate
from pytest_scylla.repair.remedies import remedies
from pytest_scylla.repair.transaction import repair_run

from . import damage as do
from .damage import (
    CONSENSUS,
    FILE_COPIES,
    JUDGMENTS,
    LOG,
    OUTPUT,
    RESULT,
    RUN_RESULT,
    SLOTS,
    Damage,
    Run,
    each,
    opinions,
    retell,
)
from .repairing import Tree, quarantined, run_named, tree

RUN = "T0/00/run_01"
SOUND = ("completed", "complete")
TIMING, JUDGE_TIMING = "agent/timing.json", "judge/timing.json"
STDERR, STDERR_COPY = "agent/stderr.log", "agent/cmd_0000_stderr.log"
PATHS = ("workspace_path", "logs_path", "command_log_path")
AGENT_FILES = (*FILE_COPIES, RESULT, STDERR, STDERR_COPY, TIMING, LOG, "agent/MODEL.md")
OF_A_SLOT = ("judgment.json", "response.txt", "stdout.log", "timing.json", "MODEL.md")
SLOT_FILES = tuple(f"{slot}/{name}" for slot in SLOTS for name in OF_A_SLOT)
FILES = (*AGENT_FILES, *SLOT_FILES, CONSENSUS, JUDGE_TIMING, "judge_prompt.md", RUN_RESULT)
RECORDS = tuple(name for name in FILES if name.endswith(".json"))
REPLIES = tuple(name for name in SLOT_FILES if name.endswith(("response.txt", "stdout.log")))


# ---------------------------------------------------------------------------------------------------------
# What is told of a run, and what is lost of it


def thinking_aloud(stored_at: int) -> Damage:
    """Let every judge have given another verdict before, or behind, the one that counted."""

    def damage(run: Run) -> None:
        for slot in SLOTS:
            stored = run.load(f"{slot}/judgment.json")
            verdicts = [{**stored, "score": 0.123, "passed": not stored["passed"], "criteria_scores": None}]
            verdicts.insert(stored_at, stored)
            for name in ("response.txt", "stdout.log"):
                run.write(f"{slot}/{name}", "\n".join(response(verdict, "On reflection:") for verdict in verdicts))

    return damage


STORIES: dict[str, Damage] = {
    "as usual": do.nothing,
    "plain text": retell(stdout="I wrote tally.py.\n\nAll of its tests pass.\n"),
    "an exit code": retell(exit_code=3),
    "a first verdict counted": thinking_aloud(0),
    "a last verdict counted": thinking_aloud(1),
    "last line breaks": do.in_every_record(lambda name: do.change(name, lambda data: data + b"\n")),
}


@dataclass(frozen=True)
class Loss:
    """What happens to a run: its story, the judges' scores and verdicts, and the files that are lost or cut off.

    `cut` holds the share of a file that is left. `bare` says whether directories go with the last of their files.
    """

    story: str
    verdicts: tuple[tuple[float, bool], ...]
    lost: frozenset[str] = frozenset()
    cut: tuple[tuple[str, float], ...] = ()
    bare: bool = False


def may_be_cut(story: str) -> list[str]:
    """The files whose cutting can be told from their content.

    A beginning of plain text is plain text; a reply with two verdicts that is cut behind the first is one with one.
    """
    names = list(RECORDS)
    if story != "plain text":
        names += FILE_COPIES
    if "verdict" not in story:
        names += REPLIES
    return names


@st.composite
def losses(draw: st.DrawFn) -> Loss:
    story = draw(st.sampled_from(sorted(STORIES)))
    scores = st.sampled_from([0.0, 0.1, 0.35, 0.6, 0.7, 0.7, 0.8, 0.95, 1.0])
    verdicts = draw(st.tuples(*[st.tuples(scores, st.booleans())] * 3))
    lost = draw(st.sets(st.sampled_from(FILES)) | st.sets(st.sampled_from(FILES), min_size=len(FILES) // 2))
    for whole in draw(st.lists(st.sampled_from([*SLOTS, "agent/"]), max_size=2)):
        lost |= {name for name in FILES if name.startswith(whole)}
    cut = draw(st.dictionaries(st.sampled_from(may_be_cut(story)), st.sampled_from([0.0, 0.3, 0.9]), max_size=4))
    kept = draw(st.sets(st.sampled_from(FILES), max_size=3))
    return Loss(story, verdicts, frozenset(lost - kept), tuple(sorted(cut.items())), draw(st.booleans()))


@pytest.fixture(scope="session")
def one_run() -> Iterator[Path]:
    """A healthy experiment of one run, where possible in memory. Shared: to be copied."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        root = Path(place, "exp")
        write_experiment(root, small(tiers={"T0": ("00",)}, runs_per_subtest=1, side_files=False))
        yield root


# ---------------------------------------------------------------------------------------------------------
# What it is after a repair


@dataclass(frozen=True)
class RoundTrip:
    """A run before its loss (`original`), before its repair, and behind it; the files by name, and how the items stand.

    `free` are the items whose remedy before was free.
    """

    loss: Loss
    original: Mapping[str, bytes]
    damaged: Mapping[str, bytes]
    repaired: Mapping[str, bytes]
    before: Mapping[str, str]
    after: Mapping[str, str]
    free: frozenset[str]
    audit: RunAudit

    def intact(self, *names: str) -> bool:
        """Whether any of these files survived the loss as it was."""
        return any(self.damaged.get(name) == self.original[name] for name in names)

    def written(self, name: str) -> bool:
        """Whether the repair wrote the file."""
        return self.repaired.get(name) != self.damaged.get(name)

    def was(self, name: str) -> JsonObject:
        value: JsonObject = json.loads(self.original[name])
        return value

    def is_now(self, name: str) -> JsonObject:
        value: JsonObject = json.loads(self.repaired[name])
        return value

    @property
    def complete(self) -> list[int]:
        """The numbers of the slots that are complete behind the repair."""
        return [slot.slot.number for slot in self.audit.slots if slot.complete]


def files_of(found: Tree) -> dict[str, bytes]:
    return {name: found[f"{RUN}/{name}"].content for name in FILES if f"{RUN}/{name}" in found}


def statuses(audit: RunAudit) -> dict[str, str]:
    return {"run": audit.status, **{slot.slot.name: slot.status for slot in audit.slots}}


def free_items(experiment: Experiment, case: Case, audit: RunAudit) -> frozenset[str]:
    found = remedies(case, audit, make_plan(experiment, case, audit, regenerate))
    return frozenset(item for item, remedy in found.items() if remedy.level == "regenerate")


def round_trip(source: Path, loss: Loss) -> RoundTrip:
    """Tell a run, lose some of it, and repair it; what holds whatever was lost is asserted on the way."""
    with tempfile.TemporaryDirectory(dir=source.parent) as place:
        root = Path(place, "exp")
        shutil.copytree(source, root, copy_function=shutil.copyfile)
        run = Run(root, RUN)
        each(retell(judgments=opinions(*loss.verdicts)), STORIES[loss.story])(run)
        experiment = pytest_scylla.load(root)
        run_id = run_named(experiment, RUN)
        original = tree(root)
        healthy = examine(experiment, run_id, DEFAULT_POLICY)[1]
        assert set(statuses(healthy).values()) == set(SOUND), healthy

        for name, share in loss.cut:
            do.cut(name, share)(run)
        for name in loss.lost:
            run.delete(name)
        for folder in (*SLOTS, "judge", "agent") if loss.bare else ():
            if not any(run.path(folder).iterdir()):
                run.path(folder).rmdir()
        damaged = tree(root)
        case, audit = examine(experiment, run_id, DEFAULT_POLICY)

        outcome = repair_run(experiment, run_id, DEFAULT_POLICY, regenerate)
        repaired = tree(root)
        assert not [one for done in outcome.actions.values() for one in done if one.outcome == "failed"]
        assert statuses(outcome.audit) == statuses(examine(experiment, run_id, DEFAULT_POLICY)[1])

        # No byte is lost.
        kept = set(quarantined(root).values())
        for name, entry in damaged.items():
            assert entry == repaired.get(name) or entry.content in kept or not entry.content, name
            assert name in repaired, name

        # A second repair changes nothing.
        whole = tree(root, but=None)
        again = repair_run(experiment, run_id, DEFAULT_POLICY, regenerate)
        assert tree(root, but=None) == whole
        assert not [one for done in again.actions.values() for one in done if one.outcome != "refused"]
        if not (repaired.keys() - damaged.keys()) and repaired == damaged:
            assert not (root / ".scylla").exists()
        return RoundTrip(
            loss,
            files_of(original),
            files_of(damaged),
            files_of(repaired),
            statuses(audit),
            statuses(outcome.audit),
            free_items(experiment, case, audit),
            outcome.audit,
        )


def no_item_is_worse_off(trip: RoundTrip) -> None:
    for item, before in trip.before.items():
        alike = {before}
        if item == "run" and before == "failed":
            alike.add("partial")  # an agent that left nothing but errors is another matter once a judgment is back
        assert trip.after[item] in (*SOUND, *alike), item


def what_is_free_is_done_and_nothing_else_is_sound(trip: RoundTrip) -> None:
    for item, before in trip.before.items():
        assert (trip.after[item] in SOUND) == (before in SOUND or item in trip.free), item


def what_is_left_alone_is_as_it_was(trip: RoundTrip) -> None:
    for name in FILES:
        if trip.intact(name):
            expected = trip.original[name]
            # A consensus of three is not one of the two that are left, where nothing tells what the third said.
            if name != CONSENSUS or len(trip.complete) == 3 or trip.intact(RUN_RESULT):
                assert trip.repaired[name] == expected, name


def the_output_is_back(trip: RoundTrip) -> None:
    if trip.intact(*FILE_COPIES, RESULT):
        for name in FILE_COPIES:
            assert trip.repaired[name] == trip.original[name], name
    else:
        assert trip.after["run"] not in SOUND
        for name in FILE_COPIES:
            assert not trip.written(name)


def the_agents_record_is_back(trip: RoundTrip) -> None:
    if trip.written(RESULT):
        expected = trip.was(RESULT)
        if not trip.intact(STDERR, STDERR_COPY):
            expected["stderr"] = None
        assert trip.is_now(RESULT) == expected
        if expected["stderr"] is not None:
            assert trip.repaired[RESULT].rstrip() == trip.original[RESULT].rstrip()
    elif not trip.intact(RESULT):
        known = trip.intact(*FILE_COPIES) and trip.loss.story != "plain text" and trip.intact(LOG, RUN_RESULT)
        assert not known
        assert trip.after["run"] not in SOUND


def the_standard_error_is_back(trip: RoundTrip) -> None:
    if trip.written(STDERR):
        assert trip.repaired[STDERR] == trip.original[STDERR]


def the_timings_are_back(trip: RoundTrip) -> None:
    if trip.written(TIMING):
        log = trip.was(LOG)
        assert trip.is_now(TIMING)["agent_duration_seconds"] == trip.was(TIMING)["agent_duration_seconds"]
        assert trip.is_now(TIMING)["measured_at"] == log["generated_at"]
    if trip.written(JUDGE_TIMING):
        slots = [trip.was(f"{slot}/timing.json") for slot in SLOTS]
        stored = trip.was(JUDGE_TIMING)["judge_duration_seconds"]
        summed = math.fsum(slot["judge_duration_seconds"] for slot in slots)
        assert trip.is_now(JUDGE_TIMING) == {
            "judge_duration_seconds": stored if trip.intact(RUN_RESULT) else summed,
            "measured_at": max(slot["measured_at"] for slot in slots),
        }
        assert summed == pytest.approx(stored, abs=1e-6)


def the_judgments_are_back(trip: RoundTrip) -> None:
    for slot, name in zip(SLOTS, JUDGMENTS, strict=True):
        if trip.written(name):
            assert trip.is_now(name) == trip.was(name)
            assert trip.repaired[name].rstrip() == trip.original[name].rstrip()
        elif not trip.intact(name):
            told = "verdict" not in trip.loss.story or trip.intact(RUN_RESULT)
            assert not (trip.intact(f"{slot}/response.txt", f"{slot}/stdout.log") and told), name
            assert trip.after[slot.rpartition("/")[2]] not in SOUND


def the_replies_are_back(trip: RoundTrip) -> None:
    pairs = [(f"{slot}/response.txt", f"{slot}/stdout.log") for slot in SLOTS]
    held = [tuple(trip.damaged.get(name, b"").strip() for name in pair) for pair in pairs]
    # One that is cut off shows, for all that its content tells, that the two are different texts in this run.
    copies = not any(one and other and one != other for one, other in held)
    for slot, pair in zip(SLOTS, pairs, strict=True):
        for name, other in (pair, pair[::-1]):
            if trip.written(name):
                assert trip.repaired[name] == trip.damaged[other]
            elif copies and trip.after[slot.rpartition("/")[2]] in SOUND and not trip.damaged.get(name):
                assert not trip.damaged.get(other)


def the_models_are_named(trip: RoundTrip) -> None:
    for name in ("agent/MODEL.md", *[f"{slot}/MODEL.md" for slot in SLOTS]):
        if trip.written(name):
            line = next(line for line in trip.original[name].splitlines() if line.startswith(b"**Model**"))
            assert line in trip.repaired[name].splitlines()


def surviving_judgments(trip: RoundTrip) -> list[JsonObject]:
    return [trip.was(JUDGMENTS[number - 1]) for number in trip.complete]


def the_consensus_is_back(trip: RoundTrip) -> None:
    if not trip.written(CONSENSUS):
        return
    expected = trip.was(CONSENSUS)
    if len(trip.complete) < 3 and not trip.intact(RUN_RESULT):
        expected = consensus(surviving_judgments(trip))
    found = trip.is_now(CONSENSUS)
    assert found.pop("score") == pytest.approx(expected.pop("score"), abs=1e-12)
    assert found == expected


def run_result_is_back(trip: RoundTrip) -> None:
    if not trip.written(RUN_RESULT):
        return
    assert not trip.intact(RUN_RESULT)
    found, expected = trip.is_now(RUN_RESULT), trip.was(RUN_RESULT)
    verdict = trip.is_now(CONSENSUS)
    expected |= {f"judge_{key}": verdict[key] for key in ("score", "passed", "grade", "reasoning")}
    expected["criteria_scores"] = verdict["criteria_scores"]
    expected["judges"] = [entry for entry in expected["judges"] if entry["judge_number"] in trip.complete]
    if not trip.intact(JUDGE_TIMING):
        slots = [trip.was(f"{slot}/timing.json") for slot in SLOTS if trip.intact(f"{slot}/timing.json")]
        judging = math.fsum(slot["judge_duration_seconds"] for slot in slots)
        expected["judge_duration_seconds"] = judging
        expected["duration_seconds"] = expected["agent_duration_seconds"] + judging
    assert list(found) == list(expected)
    for key in PATHS:
        del found[key], expected[key]
    assert found == expected
    if len(trip.complete) == 3:
        # Nothing was lost for good, so it is what it was; a sum of floats may be rounded otherwise.
        original = trip.was(RUN_RESULT)
        for key in found:
            is_number = isinstance(original[key], float)
            assert found[key] == (pytest.approx(original[key], abs=1e-6) if is_number else original[key]), key


def what_is_not_back_is_named(trip: RoundTrip) -> None:
    audit = trip.audit
    found = {
        finding.file for findings in (audit.findings, *[slot.findings for slot in audit.slots]) for finding in findings
    }
    for name in FILES:
        if name in trip.repaired and (trip.repaired[name] or name in (STDERR, STDERR_COPY)) and not unsound(trip, name):
            continue
        item = name.split("/")[1] if name in SLOT_FILES else "run"
        if name != STDERR_COPY and trip.after[item] in SOUND:
            assert f"{RUN}/{name}" in found, name


def unsound(trip: RoundTrip, name: str) -> bool:
    """Whether a file that a repair did not write is still cut off, as far as its content tells that."""
    return name not in REPLIES and not trip.written(name) and not trip.intact(name)


CHECKS = (
    no_item_is_worse_off,
    what_is_free_is_done_and_nothing_else_is_sound,
    what_is_left_alone_is_as_it_was,
    the_output_is_back,
    the_agents_record_is_back,
    the_standard_error_is_back,
    the_timings_are_back,
    the_judgments_are_back,
    the_replies_are_back,
    the_models_are_named,
    the_consensus_is_back,
    run_result_is_back,
    what_is_not_back_is_named,
)

MIXED = ((0.95, True), (0.8, True), (0.35, False))
ALIKE = ((0.7, True), (0.7, True), (0.7, True))


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(loss=losses())
@example(loss=Loss("as usual", MIXED))
@example(loss=Loss("as usual", MIXED, frozenset(FILES), bare=True))
@example(loss=Loss("as usual", MIXED, frozenset({OUTPUT, RESULT, *JUDGMENTS, CONSENSUS, RUN_RESULT})))
@example(loss=Loss("a last verdict counted", MIXED, frozenset({OUTPUT, RESULT, *JUDGMENTS, CONSENSUS})))
@example(loss=Loss("a last verdict counted", MIXED, frozenset({*JUDGMENTS, RUN_RESULT})))
@example(loss=Loss("plain text", MIXED, frozenset({RESULT})))
@example(loss=Loss("as usual", ALIKE, frozenset({RUN_RESULT, *SLOT_FILES[:5]}), bare=True))
@example(loss=Loss("as usual", MIXED, frozenset({RUN_RESULT, CONSENSUS, JUDGE_TIMING, *SLOT_FILES[:5]}), bare=True))
@example(loss=Loss("an exit code", MIXED, frozenset({LOG, RESULT, *FILE_COPIES[1:]}), ((RUN_RESULT, 0.9),)))
@example(loss=Loss("as usual", MIXED, frozenset({RUN_RESULT, JUDGE_TIMING, f"{SLOTS[1]}/timing.json"})))
@example(loss=Loss("as usual", MIXED, frozenset({RUN_RESULT, JUDGE_TIMING, f"{SLOTS[1]}/timing.json", JUDGMENTS[1]})))
def test_what_a_repair_restores_is_what_was_there_and_what_it_cannot_is_named(one_run: Path, loss: Loss) -> None:
    trip = round_trip(one_run, loss)
    event(f"run {trip.before['run']} -> {trip.after['run']}")
    for check in CHECKS:
        check(trip)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("story", STORIES)
def test_every_single_lost_file_that_another_holds_is_back(one_run: Path, story: str, name: str) -> None:
    trip = round_trip(one_run, Loss(story, MIXED, frozenset({name})))
    for check in CHECKS:
        check(trip)
    gone = {LOG, STDERR_COPY, "judge_prompt.md", *[f"{slot}/timing.json" for slot in SLOTS]}
    if story == "plain text":
        gone.add(RESULT)
    assert (name in trip.repaired) == (name not in gone)
    assert (trip.after["run"] in SOUND) == (name != RESULT or story != "plain text")


def test_a_run_of_which_everything_is_at_hand_is_not_touched(one_run: Path) -> None:
    trip = round_trip(one_run, Loss("as usual", MIXED))
    assert trip.repaired == trip.damaged == trip.original
