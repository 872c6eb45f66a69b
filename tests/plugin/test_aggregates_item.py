"""All aggregates as an item: what is found wrong with them, what a repair makes of them, when their turn comes."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic import run_ids, small
from pytest_scylla.aggregates.repair import repair_aggregates
from pytest_scylla.repair.actions import Action

from ..unit import aggregating
from ..unit.aggregating import aggregates_in, aggregates_of
from ..unit.repairing import Tree, journal, quarantined, staged, tree
from .judges import ScriptedJudge, judges
from .support import (
    AGGREGATES,
    CHECKPOINT,
    NASTY,
    SLOTS,
    Project,
    acted_on,
    collected,
    damaged_for_free,
    edit_json,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    never_begin,
    node_ids,
    outcomes,
    printed,
    record_run,
    report_of_repair,
    reports,
    snapshot,
    with_outcome,
    without_durations,
    write_logging,
)

NODE = "exp/aggregates::aggregates"
ONLY = "--scylla-select=aggregates"
REPORT = "--scylla-report=report.json"
RUN = "T1/01/run_02"
SLOT = f"{RUN}/judge_01"
REPAIRED, STOPPED_EARLY, DAMAGE_LEFT, OPERATIONAL_ERROR = 1, 2, 4, 8

NUMBERS: Mapping[str, tuple[str | int, ...]] = {
    "T1/02/report.json": ("summary", "passed"),
    "T1/result.json": ("subtest_results", "02", "runs", 0, "cost_usd"),
    "T1/report.json": ("children", 1, "score"),
    "T1/best_subtest.json": ("margin",),
    "result.json": ("total_cost",),
    "report.json": ("summary", "total_tiers"),
    "tier_comparison.json": ("T1", "best_score"),
}
"""A file of each kind, with the place of a number that runs decide about."""

FILE = "T1/report.json"
BESIDE = ("T1/report.md", "T1/summary.md")
"""One of them, and the Markdown reports beside it."""

ANCESTORS = aggregates_of(RUN)
MARKDOWN = ["T1/01/report.md", "T1/report.md", "T1/summary.md", "report.md", "summary.md"]
"""The records above a run, and the Markdown reports beside these."""


def _message(result: pytest.RunResult) -> str:
    """What the failing aggregates say."""
    (report,) = [report for report in reports(result) if report.nodeid == NODE and report.failed]
    return str(report.longrepr)


def _number(project: Project, file: str) -> Any:
    value: Any = json.loads((project.experiment / file).read_text("utf-8"))
    for step in NUMBERS[file]:
        value = value[step]
    return value


def _changed(before: Tree, after: Tree) -> set[str]:
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}


def _found(project: Project, name: str = "report.json") -> dict[str, list[str]]:
    """The codes of the findings that the item has in a report, by file."""
    found: dict[str, list[str]] = {}
    for one in items_of_repair(project, name)[AGGREGATES]["findings"]:
        found.setdefault(one["file"], []).append(one["code"])
    return found


def _rebuilt(project: Project, name: str = "report.json", outcome: str = "done") -> list[str]:
    """The files that a session rebuilt, or would."""
    actions = acted_on(project, name).get(AGGREGATES, [])
    return [file for action in actions if action["outcome"] == outcome for file in action["files"]]


# What is wrong with them


def _stale(project: Project, file: str = FILE) -> None:
    record = json.loads((project.experiment / file).read_text("utf-8"))
    *way, last = NUMBERS[file]
    inner = record
    for step in way:
        inner = inner[step]
    value = inner[last]
    inner[last] = value + 1 if isinstance(value, int) else value + (0.01 if value < 0.5 else -0.01)
    (project.experiment / file).write_text(json.dumps(record, indent=2))


def _lost(project: Project, file: str = FILE) -> None:
    (project.experiment / file).unlink()


def _cut_off(project: Project, file: str = FILE) -> None:
    path = project.experiment / file
    path.write_bytes(path.read_bytes()[:-20])


def _invalid(project: Project, file: str = FILE) -> None:
    (project.experiment / file).write_text('{"T1": 5}')


KINDS: Mapping[str, tuple[Callable[..., None], str, str]] = {
    "stale": (_stale, "aggregate-stale", "stale"),
    "lost": (_lost, "aggregate-missing", "missing"),
    "cut-off": (_cut_off, "aggregate-malformed", "malformed"),
    "invalid": (_invalid, "aggregate-invalid", "malformed"),
}
"""What a repair puts right: how to do it, the finding's code, and the status then."""

faulty = pytest.mark.parametrize("kind", KINDS)
every_file = pytest.mark.parametrize("file", NUMBERS)


@faulty
@every_file
def test_what_is_wrong_with_a_file_fails_the_item_and_writes_nothing(project: Project, kind: str, file: str) -> None:
    spoil, code, status = KINDS[kind]
    spoil(project, file)
    before = snapshot(project.experiment)
    result = project.audit(REPORT)
    assert result.ret == 1
    assert with_outcome(result, "failed") == [NODE]
    assert _message(result).startswith(f"{AGGREGATES}: {status} ({code})\n  {code}: {file}")
    assert _message(result).endswith("\n  repair: free (rebuild them from the runs)")
    item = {item["id"]: item for item in project.only_experiment()["items"]}[AGGREGATES]
    assert {(finding["code"], finding["file"]) for finding in item.pop("findings")} == {(code, file)}
    assert item == {
        "id": AGGREGATES,
        "kind": "aggregates",
        "nodeid": NODE,
        "status_before": status,
        "status": status,
        "outcome": "failed",
        "remedy": "free (rebuild them from the runs)",
        "level": "regenerate",
        "actions": [],
    }
    assert project.report()["exit_bits"] == DAMAGE_LEFT
    assert snapshot(project.experiment) == before


@faulty
@every_file
def test_a_repair_rebuilds_it_and_keeps_what_was_there(project: Project, kind: str, file: str) -> None:
    spoil, code, status = KINDS[kind]
    number = _number(project, file)
    spoil(project, file)
    before = tree(project.experiment)
    result = project.audit("--repair", ONLY, REPORT)
    assert result.ret == 0
    assert outcomes(result) == {NODE: "passed"}
    assert result.parseoutcomes() == {"repaired": 1}
    # With a record that was wrong, the Markdown reports beside it may be as wrong.
    folder = file.rpartition("/")[0]
    beside = {name for name in aggregates_in(project.experiment) if name.endswith(".md")} if kind != "lost" else set()
    written = {file, *(name for name in beside if name.rpartition("/")[0] == folder)}
    assert {*_rebuilt(project)} == written
    changed = _changed(before, tree(project.experiment))
    assert file in changed
    assert changed <= written
    assert _number(project, file) == pytest.approx(number)
    assert Counter(quarantined(project.experiment).values()) == Counter(
        before[name].content for name in written if name in before
    )
    assert {entry["file"]: entry["item"] for entry in journal(project.experiment)} == dict.fromkeys(written, AGGREGATES)
    assert staged(project.experiment) == []
    item = items_of_repair(project)[AGGREGATES]
    assert (item["status_before"], item["status"], item["outcome"]) == (status, "sound", "repaired")
    assert item["findings"] == []
    (action,) = [action for action in acted_on(project)[AGGREGATES] if action["what"] == file]
    assert action == {
        "level": "regenerate",
        "what": file,
        "files": [file],
        "solved": [code],
        "sources": [],
        "outcome": "done",
        "reason": None,
        "calls": 0,
        "cost_usd": 0,
    }
    assert report_of_repair(project)["exit_bits"] == REPAIRED
    assert project.audit("--scylla-strict").ret == 0


@faulty
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_second_repair_changes_nothing(project: Project, kind: str, workers: str) -> None:
    KINDS[kind][0](project)
    assert project.audit("--repair", "-n", workers).ret == 0
    before = snapshot(project.experiment)
    assert project.audit("--repair", "-n", workers, REPORT).parseoutcomes() == {"passed": len(item_ids())}
    assert snapshot(project.experiment) == before
    assert experiment_of_repair(project)["items"] == []
    assert report_of_repair(project)["exit_bits"] == 0


@faulty
@pytest.mark.parametrize("option", [(), ("--repair-plan",), ("--repair",)], ids=" ".join)
def test_workers_tell_the_same(project: Project, kind: str, option: tuple[str, ...]) -> None:
    told = []
    for workers in ("0", "2"):
        shutil.copytree(project.experiment, project.path / "kept")
        KINDS[kind][0](project)
        result = project.audit(*option, "-n", workers, REPORT)
        found = without_durations(report_of_repair(project))
        told.append((result.ret, found, result.parseoutcomes()))
        shutil.rmtree(project.experiment)
        (project.path / "kept").rename(project.experiment)
    assert told[0] == told[1]


def test_the_worst_of_several_faults_is_the_status(project: Project) -> None:
    for spoil, file, status in (
        (_stale, "result.json", "stale"),
        (_lost, "T1/02/report.json", "missing"),
        (_cut_off, "report.json", "malformed"),
    ):
        spoil(project, file)
        assert _message(project.audit()).startswith(f"{AGGREGATES}: {status} (")
    assert project.audit("--repair").ret == 0


# What a judgment makes of them


def _judged_otherwise(project: Project) -> None:
    """Have a run of which all records say something else, and the aggregates do not."""
    aggregating.judged(project.experiment, RUN, (0.1, False), (0.2, False), (0.3, False))
    record_run(project.experiment, RUN, "failed")


def test_a_change_in_one_judgment_makes_exactly_its_ancestors_stale(project: Project) -> None:
    _judged_otherwise(project)
    result = project.audit(REPORT)
    assert with_outcome(result, "failed") == [NODE]
    assert _found(project) == {file: ["aggregate-stale"] for file in ANCESTORS}
    before = tree(project.experiment)
    assert project.audit("--repair", REPORT).ret == 0
    assert {*_rebuilt(project)} == {*ANCESTORS, *MARKDOWN}
    assert _changed(before, tree(project.experiment)) == {*ANCESTORS, *MARKDOWN}
    assert project.audit("--scylla-strict").ret == 0


def test_they_follow_what_a_judge_says_in_the_same_session(project: Project, judge: ScriptedJudge) -> None:
    judge.does({f"{RUN}/{name}": [judges(0.2, passed=False)] for name in SLOTS})
    for name in SLOTS:
        lose_slot(project.experiment, f"{RUN}/{name}")
    assert project.audit("--repair", REPORT).ret == 0
    assert len(judge.calls) == 3
    assert {*_rebuilt(project)} == {*ANCESTORS, *MARKDOWN}
    children = json.loads((project.experiment / "T1/01/report.json").read_text("utf-8"))["children"]
    assert children[1]["score"] == pytest.approx(0.2)
    assert project.audit("--scylla-strict").ret == 0


def test_a_run_that_is_gone_does_not_count_and_the_rest_is_told_to_be_counted(project: Project) -> None:
    lose_run(project.experiment, RUN)
    assert "T1/01/report.json /summary/total_runs: expected 1, found 2" in _message(project.audit())
    assert project.audit("--repair", ONLY).ret == 0
    summary = json.loads((project.experiment / "T1/01/report.json").read_text("utf-8"))["summary"]
    assert (summary["total_runs"], summary["coverage"]["expected"], summary["coverage"]["scored"]) == (1, 2, 1)
    assert project.audit(ONLY).ret == 0


def test_a_run_counts_as_it_is_when_they_are_rebuilt(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process changes it after the item's audit."""

    def meanwhile(*args: Any) -> tuple[Action, ...]:
        _judged_otherwise(project)
        return repair_aggregates(*args)

    monkeypatch.setattr("pytest_scylla.aggregates.repair.repair_aggregates", meanwhile)
    _stale(project)
    assert project.audit("--repair", ONLY, REPORT).ret == 0
    assert {*_rebuilt(project)} == {*ANCESTORS, *MARKDOWN}


def test_what_is_right_again_once_the_runs_are_is_not_written(project: Project) -> None:
    damaged_for_free(project.experiment)
    files = aggregates_in(project.experiment)
    before = {file: (project.experiment / file).read_bytes() for file in files}
    assert NODE in with_outcome(project.audit(), "failed")
    assert project.audit("--repair", REPORT).ret == 0
    item = items_of_repair(project)[AGGREGATES]
    assert (item["status_before"], item["status"], item["outcome"]) == ("stale", "sound", "repaired")
    assert item["actions"] == []
    assert {file: (project.experiment / file).read_bytes() for file in files} == before


# Sound ones, and an experiment under way


@pytest.mark.parametrize("args", [(), ("-n", "2"), ("--repair-level=agents",)], ids=" ".join)
def test_sound_ones_are_not_touched_by_a_repair(project: Project, args: tuple[str, ...]) -> None:
    before = snapshot(project.experiment)
    assert project.audit("--repair", *args, REPORT).ret == 0
    assert snapshot(project.experiment) == before
    assert experiment_of_repair(project)["items"] == []


def test_those_of_the_recorded_experiment_are_sound(recorded_experiment: Path, empty_project: Project) -> None:
    empty_project.copy(recorded_experiment, "exp")
    result = empty_project.audit(ONLY, "-v")
    assert result.ret == 0
    assert "aggregates    sound" in result.outlines


def test_those_of_the_healthy_sample_are_sound(empty_project: Project) -> None:
    empty_project.copy(Path(__file__).resolve().parents[2] / "examples" / "healthy", "exp")
    assert empty_project.audit(ONLY, "--scylla-strict").ret == 0


def test_those_of_the_later_layout_are_sound_and_rebuilt_in_their_place(
    empty_project: Project, staged_experiment: Path
) -> None:
    root = empty_project.copy(staged_experiment, "exp")
    assert empty_project.audit(ONLY).ret == 0
    file = "completed/T1/best_subtest.json"
    (root / file).unlink()
    assert empty_project.audit("--repair", ONLY, REPORT).ret == 0
    assert _rebuilt(empty_project) == [file]


@pytest.mark.parametrize("args", [(), ("--scylla-strict",), ("--repair", "--repair-level=regenerate"), ("-n", "2")])
def test_an_experiment_under_way_has_none_of_what_is_not_done(project: Project, args: tuple[str, ...]) -> None:
    never_begin(project.experiment, RUN)
    files = aggregates_in(project.experiment)
    assert {file.partition("/")[0] for file in files} == {"T0"}
    before = snapshot(project.experiment)
    assert outcomes(project.audit(*args))[NODE] == "passed"
    assert snapshot(project.experiment) == before


def test_those_of_a_tier_that_is_done_are_due_while_another_is_under_way(project: Project) -> None:
    never_begin(project.experiment, RUN)
    (project.experiment / "T0/result.json").unlink()
    assert outcomes(project.audit())[NODE] == "failed"
    project.audit("--repair", "--repair-level=regenerate", REPORT)
    assert _rebuilt(project) == ["T0/result.json"]
    assert not list((project.experiment / "T1").glob("*.json"))


def test_they_are_no_part_of_counts_selected_or_completeness(project: Project) -> None:
    _stale(project)
    project.audit(REPORT)
    found = project.only_experiment()
    assert (found["completeness"], found["selected"], found["not_audited"]) == (1, 24, 0)
    assert project.audit("--scylla-require=min-runs=100%").ret == 0


# Markdown


def test_a_lost_markdown_report_is_a_warning(project: Project) -> None:
    (project.experiment / "T1/summary.md").unlink()
    before = snapshot(project.experiment)
    result = project.audit(REPORT)
    assert result.ret == 0
    assert outcomes(result)[NODE] == "passed"
    item = {item["id"]: item for item in project.only_experiment()["items"]}[AGGREGATES]
    assert (item["status"], item["outcome"]) == ("sound", "passed")
    assert [(found["code"], found["severity"]) for found in item["findings"]] == [("report-missing", "warning")]
    strict = project.audit("--scylla-strict")
    assert with_outcome(strict, "failed") == [NODE]
    assert _message(strict).startswith(f"{AGGREGATES}: sound (report-missing)\n")
    assert snapshot(project.experiment) == before


def test_a_lost_markdown_report_is_rebuilt(project: Project) -> None:
    file = project.experiment / "T1/summary.md"
    file.unlink()
    before = tree(project.experiment)
    result = project.audit("--repair", REPORT)
    assert result.parseoutcomes() == {"passed": len(item_ids()) - 1, "repaired": 1}
    assert _changed(before, tree(project.experiment)) == {"T1/summary.md"}
    (action,) = acted_on(project)[AGGREGATES]
    assert (action["what"], action["outcome"], action["solved"]) == ("T1/summary.md", "done", ["report-missing"])
    assert file.read_bytes() == aggregating.rebuild(project.experiment)["T1/summary.md"]
    assert quarantined(project.experiment) == {}
    assert project.audit("--scylla-strict").ret == 0


def test_a_markdown_report_that_was_emptied_is_a_warning_and_rebuilt(project: Project) -> None:
    file = project.experiment / "report.md"
    file.write_bytes(b"")
    before = tree(project.experiment)
    assert project.audit().ret == 0
    strict = project.audit("--scylla-strict")
    assert with_outcome(strict, "failed") == [NODE]
    assert _message(strict).startswith(
        f"{AGGREGATES}: sound (report-stale)\n  warning: report-stale: report.md: expected "
    )
    assert project.audit("--repair", REPORT).ret == 0
    assert _changed(before, tree(project.experiment)) == {"report.md"}
    assert file.read_bytes() == aggregating.rebuild(project.experiment)["report.md"]
    assert list(quarantined(project.experiment).values()) == [b""]
    assert project.audit("--scylla-strict").ret == 0


@pytest.mark.parametrize("mode", ["load", "loadfile"])
def test_a_lost_markdown_report_is_rebuilt_under_whichever_mode_of_xdist(project: Project, mode: str) -> None:
    (project.experiment / "report.md").unlink()
    assert project.audit_apart("--repair", "-n", "2", f"--dist={mode}", REPORT).ret == 0
    assert _rebuilt(project) == ["report.md"]
    assert items_of_repair(project)[AGGREGATES]["outcome"] == "repaired"
    assert project.audit("--scylla-strict").ret == 0


def test_an_experiment_without_any_markdown_has_lost_none(empty_project: Project, lean_experiment: Path) -> None:
    root = empty_project.copy(lean_experiment, "exp")
    assert not list(root.rglob("report.md"))
    assert empty_project.audit(ONLY, "--scylla-strict").ret == 0
    (root / FILE).unlink()
    assert empty_project.audit("--repair", ONLY, REPORT).ret == 0
    assert _rebuilt(empty_project) == [FILE]


# What may not be replaced


def test_a_link_in_the_place_of_one_is_neither_followed_nor_replaced(project: Project) -> None:
    target = project.path / "elsewhere.json"
    (project.experiment / FILE).rename(target)
    (project.experiment / FILE).symlink_to(target)
    _stale(project, "result.json")
    before, content = tree(project.experiment), target.read_bytes()
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert _message(result).startswith(f"{AGGREGATES}: unsafe (unsafe-object)\n")
    assert "repair: none: put a regular file" in _message(result)
    assert target.read_bytes() == content
    changed = _changed(before, tree(project.experiment))
    assert "result.json" in changed  # what else is wrong is put right
    assert not any(file.startswith("T1/") for file in changed)
    (refused,) = [action for action in acted_on(project)[AGGREGATES] if action["outcome"] == "refused"]
    assert (refused["what"], refused["files"]) == (FILE, [])
    assert report_of_repair(project)["exit_bits"] == REPAIRED + DAMAGE_LEFT


@pytest.mark.parametrize("file", [FILE, "T1/report.md"])
def test_a_directory_in_the_place_of_one_is_kept(project: Project, file: str) -> None:
    (project.experiment / file).unlink()
    (project.experiment / file).mkdir()
    (project.experiment / file / "mine").write_text("kept")
    assert project.audit("--repair", REPORT).ret == 0
    assert (project.experiment / file).is_file()
    (kept,) = (project.experiment / ".scylla/quarantine").rglob("mine")
    assert kept.read_text() == "kept"
    assert project.audit("--scylla-strict").ret == 0


def test_what_has_to_be_rebuilt_first_is_said(project: Project) -> None:
    """A run whose consensus is known, but whose run_result.json no file gives back."""
    lose_run_result(project.experiment, RUN)
    _stale(project, "T1/result.json")
    before = tree(project.experiment)
    result = project.audit("--repair", ONLY, REPORT)
    assert result.ret == 1
    reason = f"run_result.json of {RUN} has to be rebuilt first"
    assert _message(result).endswith(f"\n  repair: free (rebuild them from the runs; but {reason})")
    actions = acted_on(project)[AGGREGATES]
    assert {(action["outcome"], action["reason"]) for action in actions} == {("refused", reason)}
    assert tree(project.experiment) == before
    assert project.audit("--repair").ret == 0


@pytest.mark.parametrize("option", [(), ("--repair",), ("--repair-plan",)], ids=" ".join)
def test_an_experiment_that_is_gone_by_then_fails_it(project: Project, option: tuple[str, ...]) -> None:
    write_logging(project, "import os\n\n\ndef pytest_collection_finish():\n    os.rename('exp', 'moved')\n")
    result = project.audit_apart(ONLY, *option)
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert "experiment-gone: " in result.stdout.str()


# Selection


@pytest.mark.parametrize(
    "args",
    [
        ("-k", "run"),
        ("-k", "judge_01"),
        ("-k", "checkpoint"),
        ("-m", "scylla_run"),
        ("-m", "scylla_judge or scylla_run or scylla_checkpoint"),
        ("--deselect", "exp/aggregates"),
        ("--deselect", NODE),
        ("--scylla-select=T*",),
        ("--scylla-select=checkpoint",),
        ("--scylla-select=*/run_0?",),
    ],
    ids=" ".join,
)
def test_a_selection_of_anything_else_leaves_it_out(project: Project, args: tuple[str, ...]) -> None:
    _stale(project)
    result = project.audit(*args)
    assert result.ret == 0
    assert outcomes(result)
    assert NODE not in outcomes(result)


@pytest.mark.parametrize(
    "args",
    [
        ("-k", "aggregates"),
        ("-k", "not run and not checkpoint"),
        ("-m", "scylla_aggregates", "--strict-markers"),
        ("-m", "not scylla_run and not scylla_judge and not scylla_checkpoint"),
        ("--deselect", "exp/T0", "--deselect", "exp/T1", "--deselect", "exp/checkpoint"),
        ("--scylla-select=aggregates",),
        ("--scylla-select=agg*",),
        ("--scylla-select=*", "-k", "aggregates"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_it_can_be_looked_at_alone(project: Project, args: tuple[str, ...], workers: str) -> None:
    assert project.audit(*args, "-n", workers).parseoutcomes().get("passed") == 1
    lose_run(project.experiment, RUN)
    result = project.audit(*args, "-n", workers, REPORT)
    assert result.ret == 1
    assert outcomes(result) == {NODE: "failed"}
    (item,) = project.only_experiment()["items"]
    assert item["id"] == AGGREGATES
    assert {found["file"] for found in item["findings"]} <= {*ANCESTORS}


def test_collecting_only_lists_it_last(project: Project) -> None:
    _lost(project)
    before = snapshot(project.experiment)
    assert collected(project.audit("--co", "-q", "--repair"))[-1] == NODE
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize(
    ("args", "mended"),
    [
        (("--repair-status=aggregates:stale",), True),
        (("--repair-status=aggregates:missing", "--repair-status=aggregates:stale"), True),
        (("--repair-status=aggregates:missing",), False),
        (("--repair-status=checkpoint:stale",), False),
        (("--repair-status=run:results", "--repair-status=slot:failed"), False),
    ],
    ids=str,
)
def test_a_repair_of_some_statuses_rebuilds_only_if_its_own_is_among_them(
    project: Project, args: tuple[str, ...], mended: bool
) -> None:
    number = _number(project, FILE)
    _stale(project)
    result = project.audit("--repair", *args)
    assert result.ret == (0 if mended else 1)
    assert (_number(project, FILE) == pytest.approx(number)) is mended


def test_a_status_that_there_is_not_is_refused_with_those_that_there_are(project: Project) -> None:
    line = project.audit("--repair", "--repair-status=aggregates:conflict").errlines[0]
    for known in ("stale", "missing", "malformed", "unsafe"):
        assert f"aggregates:{known}" in line


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
def test_what_is_waived_is_left_as_it_is(project: Project, option: str) -> None:
    _stale(project)
    project.write("waivers.yaml", "- item: aggregates\n  reason: known\n  until: 9999-12-31\n")
    before = snapshot(project.experiment)
    result = project.audit(option, "--scylla-waivers=waivers.yaml", REPORT)
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": len(item_ids()) - 1, "xfailed": 1}
    item = items_of_repair(project)[AGGREGATES]
    assert (item["status"], item["outcome"], item["actions"]) == ("stale", "waived", [])
    assert snapshot(project.experiment) == before


def test_skipped_ones_are_left_as_they_are(project: Project) -> None:
    _stale(project)
    write_logging(
        project,
        "def pytest_collection_modifyitems(items):\n    items[-1].add_marker(pytest.mark.skip(reason='mine'))\n",
    )
    before = snapshot(project.experiment)
    assert outcomes(project.audit("--repair"))[NODE] == "skipped"
    assert snapshot(project.experiment) == before


# What it is held to


@pytest.mark.parametrize("selection", ["aggregates", "aggregates or T0", "aggregates or checkpoint"])
def test_runs_that_are_not_selected_are_read_for_it_once(project: Project, audits: list[str], selection: str) -> None:
    project.audit("-k", selection)
    assert sorted(audits) == sorted(run_ids(small()))


# When its turn comes


def _in_front(project: Project) -> None:
    write_logging(project, "def pytest_collection_modifyitems(items):\n    items.reverse()\n")


def _checkpoint_last(project: Project) -> None:
    write_logging(
        project,
        "def pytest_collection_modifyitems(items):\n    items.sort(key=lambda item: 'checkpoint' in item.nodeid)\n",
    )


def _failed_before(project: Project) -> None:
    project.audit("-k", "aggregates")


@pytest.mark.parametrize(
    ("prepare", "args"),
    [(_in_front, ()), (_checkpoint_last, ()), (_failed_before, ("--ff",))],
    ids=["reversed", "checkpoint-last", "--ff"],
)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_whoever_orders_the_items_it_comes_after_its_runs_and_the_checkpoint(
    project: Project, prepare: Callable[[Project], None], args: tuple[str, ...], workers: str
) -> None:
    lose_run_result(project.experiment, RUN)
    _stale(project)
    prepare(project)
    result = project.audit("--repair", *args, "-n", workers, REPORT)
    assert result.ret == 0
    assert list(outcomes(result))[-2:] == node_ids([CHECKPOINT, AGGREGATES])
    assert {*_rebuilt(project)} == {FILE, *BESIDE}
    assert project.audit("--scylla-strict").ret == 0


WAITS_FOR_THE_AGGREGATES = """
import os
import time


def pytest_runtest_logfinish(nodeid):
    if nodeid.endswith("::aggregates"):
        open("come", "w").close()


def pytest_runtest_setup(item):
    deadline = time.monotonic() + 300
    while {run!r} in item.nodeid and not os.path.exists("come"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""


@pytest.mark.parametrize("mode", ["loadfile", "loadscope"])
@pytest.mark.parametrize("wrong_before", [False, True])
def test_where_it_comes_before_a_run_the_controlling_process_rebuilds_in_the_end(
    project: Project, mode: str, wrong_before: bool
) -> None:
    """The run does not count before its judgments are rebuilt, which is when the aggregates had their turn."""
    for slot in SLOTS:
        lose_judgment(project.experiment, f"{RUN}/{slot}")
    assert {action.outcome for action in aggregating.mend(project.experiment)} == {"done"}
    shutil.rmtree(project.experiment / ".scylla")
    if wrong_before:
        _stale(project)
    project.write("conftest.py", WAITS_FOR_THE_AGGREGATES.format(run=RUN))
    result = project.audit_apart("--repair", "-n", "2", f"--dist={mode}", REPORT)
    assert (project.path / "come").exists()
    assert result.ret == 0, printed(result)
    item = items_of_repair(project)[AGGREGATES]
    assert (item["status"], item["outcome"]) == ("sound", "repaired")
    assert {"T1/01/report.json", "T1/result.json", "result.json"} <= {*_rebuilt(project)}
    assert len(_rebuilt(project)) == len({*_rebuilt(project)})
    (project.path / "conftest.py").unlink()
    assert project.audit("--scylla-strict").ret == 0


PUTS_A_LINK_IN_ITS_PLACE = """

def pytest_testnodedown():
    if not os.path.exists("moved.json"):
        os.rename("exp/result.json", "moved.json")
        os.symlink("../moved.json", "exp/result.json")
"""


def test_what_the_controlling_process_cannot_rebuild_is_not_green(project: Project) -> None:
    lose_run_result(project.experiment, RUN)
    project.write("conftest.py", WAITS_FOR_THE_AGGREGATES.format(run=RUN) + PUTS_A_LINK_IN_ITS_PLACE)
    result = project.audit_apart("--repair", "-n", "2", "--dist=loadfile", REPORT)
    assert result.ret == 1, printed(result)
    item = items_of_repair(project)[AGGREGATES]
    assert (item["status"], item["outcome"]) == ("unsafe", "failed")
    assert "aggregates    unsafe (unsafe-object), was sound" in result.outlines


@pytest.mark.parametrize("mode", ["load", "loadgroup", "worksteal", "each"])
def test_it_is_put_right_under_whichever_mode_of_xdist(project: Project, mode: str) -> None:
    _stale(project)
    result = project.audit_apart("--repair", "-n", "2", f"--dist={mode}", REPORT)
    assert result.ret == 0, printed(result)
    assert items_of_repair(project)[AGGREGATES]["outcome"] == "repaired"
    assert {*_rebuilt(project)} == {FILE, *BESIDE}
    assert project.audit("--scylla-strict").ret == 0


def test_a_session_that_stops_before_it_leaves_it(project: Project) -> None:
    _stale(project)
    lose_slot(project.experiment, "T0/00/run_01/judge_01")
    before = snapshot(project.experiment)
    assert project.audit("--repair", "--repair-level=regenerate", "-x", REPORT).ret == 1
    assert items_of_repair(project)[AGGREGATES]["outcome"] == "not-run"
    assert report_of_repair(project)["exit_bits"] == STOPPED_EARLY + DAMAGE_LEFT
    assert snapshot(project.experiment) == before


def test_two_repairs_at_once_rebuild_each_file_once(project: Project) -> None:
    _judged_otherwise(project)
    ended = project.at_once(*(("--repair", ONLY, f"--scylla-report={number}.json") for number in (1, 2)))
    assert [exit_code for exit_code, _ in ended] == [0, 0], ended
    files = sorted([*ANCESTORS, *MARKDOWN])
    assert sorted([*_rebuilt(project, "1.json"), *_rebuilt(project, "2.json")]) == files
    assert sorted(entry["file"] for entry in journal(project.experiment)) == files
    assert staged(project.experiment) == []
    assert project.audit(ONLY, "--scylla-strict").ret == 0


# Its plan

PLANNED: Mapping[str, Callable[[Project], object]] = {
    **{name: spoil for name, (spoil, _, _) in KINDS.items()},
    "markdown": lambda project: (project.experiment / "T0/report.md").unlink(),
    "another-verdict": _judged_otherwise,
}


@pytest.mark.parametrize("kind", PLANNED)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_a_plan_says_of_it_is_what_the_repair_then_does(project: Project, kind: str, workers: str) -> None:
    PLANNED[kind](project)
    before = snapshot(project.experiment)
    result = project.audit("--repair-plan", "-n", workers, "--scylla-report=plan.json", "--tb=no")
    assert snapshot(project.experiment) == before
    planned = acted_on(project, "plan.json")[AGGREGATES]
    listed = [line.removeprefix("  would rebuild ") for line in result.outlines if line.startswith("  would rebuild ")]
    assert [file for action in planned for file in action["files"]] == [name for name in listed if "/run_" not in name]
    project.audit("--repair", "-n", workers, "--scylla-report=done.json")
    assert {action["outcome"] for action in planned} == {"planned"}
    assert [{**action, "outcome": "done"} for action in planned] == acted_on(project, "done.json")[AGGREGATES]


def test_a_plan_knows_that_what_a_judge_says_may_make_all_above_it_anew(project: Project, judge: ScriptedJudge) -> None:
    lose_slot(project.experiment, SLOT)
    judge.does({SLOT: [judges(0.1, passed=False)]})
    result = project.audit("--repair-plan", "--scylla-report=plan.json")
    assert outcomes(result)[NODE] == "passed"
    planned = _rebuilt(project, "plan.json", "planned")
    assert {*planned} == {*ANCESTORS, *MARKDOWN}
    assert project.audit("--repair", "--scylla-report=done.json").ret == 0
    assert len(judge.calls) == 1
    done = _rebuilt(project, "done.json")
    assert done
    assert {*done} <= {*planned}


# What is told


def test_the_summary_of_a_repair_says_what_became_of_it(project: Project) -> None:
    _stale(project)
    lose_run_result(project.experiment, "T0/00/run_01")
    lines = project.audit("--repair").outlines
    assert "aggregates    sound, was stale" in lines
    assert "rebuilt 1 file in 1 run and 3 aggregates" in lines
    assert "       3 aggregates" in lines
    _stale(project)
    record_run(project.experiment, RUN, None)
    assert "rebuilt checkpoint.json and 3 aggregates" in project.audit("--repair").outlines
    _lost(project)
    lines = project.audit("--repair", "-v").outlines
    assert "rebuilt 1 aggregate" in lines
    assert f"  rebuilt {FILE}" in lines


def test_its_location_is_a_file(project: Project) -> None:
    _stale(project)
    (report,) = [report for report in reports(project.audit()) if report.nodeid == NODE and report.failed]
    assert report.location == ("exp/result.json", 0, AGGREGATES)
    assert dict(report.user_properties)["status"] == "stale"


def test_many_failures_list_it_as_a_cause_with_the_command_that_shows_it(wide_project: Project) -> None:
    for number in range(1, 5):
        lose_run(wide_project.experiment, f"T0/00/run_{number:02d}")
        lose_run(wide_project.experiment, f"T0/01/run_{number:02d}")
    lines = wide_project.audit().outlines
    at = lines.index("aggregates stale: aggregate-stale")
    assert "    look at one: pytest --scylla-exp=exp --scylla-select=aggregates" in lines[at : at + 6]


def test_texts_of_aggregates_are_escaped(project: Project) -> None:
    record = json.loads((project.experiment / "T1/best_subtest.json").read_text("utf-8"))
    edit_json(project.experiment / "T1/best_subtest.json", winning_subtest=NASTY, votes=[*record["votes"]])
    edit_json(project.experiment / "tier_comparison.json", **{NASTY: {}})
    edit_json(project.experiment / "report.json", experiment_id=NASTY)
    for args in ((), ("-n", "2"), ("-v",), ("--repair", "--repair-status=run:results")):
        text = printed(project.audit(*args))
        assert "T1/best_subtest.json /winning_subtest" in text
        for part in ("\x1b", "\x07", "\x9b", "\u202e", "::error", "##[", "##vso"):
            assert part not in text
