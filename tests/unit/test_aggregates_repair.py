"""Aggregates mended on the disk: only what is wrong, whole or not at all, and nothing that was there is lost."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pytest_scylla
from benchmarks.synthetic import small, write_experiment
from pytest_scylla.aggregates.facts import RunFigures
from pytest_scylla.aggregates.repair import planned_repair, repair_aggregates
from pytest_scylla.experiment.errors import ExperimentGone
from pytest_scylla.experiment.keeping import KEEPING, Keeping
from pytest_scylla.experiment.layout import RunId
from pytest_scylla.experiment.locks import Held, locked
from pytest_scylla.experiment.records import Folder
from pytest_scylla.experiment.schemas import is_valid
from pytest_scylla.experiment.writing import CannotWrite
from pytest_scylla.repair.actions import Action

from .aggregating import aggregates_of, audit, edit, faults, figures, judged, load, mend, store
from .damage import Run, lose
from .repairing import count_calls, digest, journal, quarantined, repair, staged, tree

FIRST = "T0/00/run_01"
CHANGED = {*aggregates_of(FIRST), "T0/00/report.md", "T0/report.md", "T0/summary.md", "report.md", "summary.md"}
"""The aggregates above a run, Markdown as well."""


@pytest.fixture(scope="module")
def healthy_experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiers, two subtests, four runs, with Markdown reports. Shared: not to be written to."""
    root = tmp_path_factory.mktemp("mended") / "exp"
    write_experiment(root, small(tiers={"T0": ("00",), "T1": ("01",)}))
    return root


@pytest.fixture
def root(healthy_experiment: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, to damage."""
    copy = tmp_path / "exp"
    shutil.copytree(healthy_experiment, copy)
    yield copy
    shutil.rmtree(copy, ignore_errors=True)


def judged_otherwise(root: Path) -> None:
    judged(root, FIRST, (0.1, False), (0.2, False), (0.3, False))


def plan(root: Path) -> tuple[Action, ...]:
    return planned_repair(pytest_scylla.load(root), figures(root))


def by_file(actions: tuple[Action, ...]) -> dict[str, str]:
    return {action.what: action.outcome for action in actions}


def test_healthy_aggregates_are_not_touched(root: Path) -> None:
    before = tree(root)
    assert plan(root) == ()
    assert not (root / KEEPING).exists()
    assert mend(root) == ()
    assert tree(root) == before


def test_what_a_changed_run_made_wrong_is_mended_and_a_second_repair_changes_nothing(root: Path) -> None:
    judged_otherwise(root)
    before = tree(root)
    stale = faults(root)
    done = mend(root)
    assert set(by_file(done).values()) == {"done"}
    assert set(by_file(done)) == CHANGED
    assert {action.what: list(action.solved) for action in done if action.solved} == stale
    assert all(action.files == (action.what,) and action.level == "regenerate" for action in done)
    assert audit(root) == ()
    after = tree(root)
    assert {file for file in after if after[file] != before[file]} == CHANGED
    assert mend(root) == ()
    assert tree(root) == after
    assert staged(root) == []


def test_subtests_are_mended_before_their_tier_and_tiers_before_the_experiment(root: Path) -> None:
    judged_otherwise(root)
    depths = [action.what.count("/") for action in mend(root)]
    assert depths == sorted(depths, reverse=True)
    assert set(depths) == {0, 1, 2}


def test_what_was_there_is_kept_and_the_journal_tells_of_it(root: Path) -> None:
    judged_otherwise(root)
    os.chmod(root / "T0/result.json", 0o600)
    old = {file: (root / file).read_bytes() for file in CHANGED}
    done = mend(root)
    assert {digest(data) for data in old.values()} == set(quarantined(root))
    entries = {entry["file"]: entry for entry in journal(root)}
    assert list(entries) == [action.what for action in done]
    for file, entry in entries.items():
        assert is_valid("journal-entry", entry)
        assert (entry["item"], entry["what"]) == ("aggregates", "regenerate")
        assert entry["sha256"] == digest((root / file).read_bytes())
        assert entry["replaced"]["sha256"] == digest(old[file])
        assert (root / entry["replaced"]["quarantine"]).read_bytes() == old[file]
    assert entries["T0/result.json"]["solves"] == ["aggregate-stale"]
    assert entries["T0/result.json"]["replaced"]["mode"] == "0600"
    assert (root / "T0/result.json").stat().st_mode & 0o777 == 0o600


def test_the_plan_is_what_a_repair_does(root: Path) -> None:
    judged_otherwise(root)
    (root / "T1/result.json").unlink()
    before = tree(root, but=None)
    planned = plan(root)
    assert tree(root, but=None) == before
    assert set(by_file(planned).values()) == {"planned"}
    done = mend(root)
    assert [(one.what, one.files, one.solved) for one in planned] == [(one.what, one.files, one.solved) for one in done]


def test_a_plan_goes_by_what_the_runs_are_going_to_be(root: Path) -> None:
    ahead = figures(root)
    judged_otherwise(root)
    changed = figures(root)
    planned = planned_repair(pytest_scylla.load(root), changed)
    shutil.rmtree(root / "T0/00/run_01")
    assert planned_repair(pytest_scylla.load(root), changed) == planned
    assert planned_repair(pytest_scylla.load(root), ahead) == ()


def test_a_lost_record_is_made_anew_and_its_report_stays(root: Path) -> None:
    judged_otherwise(root)
    mend(root)
    whole = tree(root)
    for file in ("T0/00/report.json", "T0/best_subtest.json", "tier_comparison.json"):
        (root / file).unlink()
        assert by_file(mend(root)) == {file: "done"}
    times = {"generated_at"}
    for file in ("T0/best_subtest.json", "tier_comparison.json"):
        assert (root / file).read_bytes() == whole[file].content
    made = load(root, "T0/00/report.json")
    old = json.loads(whole["T0/00/report.json"].content)
    assert {key for key in old if old[key] != made[key]} == times


def test_a_lost_report_is_made_anew_alone(root: Path) -> None:
    (root / "T0/00/report.md").unlink()
    before = tree(root)
    (action,) = mend(root)
    assert (action.what, action.outcome, action.solved) == ("T0/00/report.md", "done", ("report-missing",))
    assert set(tree(root)) - set(before) == {"T0/00/report.md"}
    assert "# Subtest Report: 00" in (root / "T0/00/report.md").read_text()


HEADLINES: dict[str, tuple[tuple[str, ...], ...]] = {
    "T0/00/report.json": (("summary", "grade_distribution"), ("summary", "modal_grade")),
    "T0/result.json": (("cost_of_pass",), ("inherited_from",), ("subtest_results", "00", "max_grade")),
    "T0/report.json": (("best",),),
    "T0/best_subtest.json": (("tiebreaker_result",),),
    "result.json": (("frontier_cop",), ("frontier_cop_tier",), ("best_overall_tier",), ("best_overall_subtest",)),
    "report.json": (("best",), ("summary", "best_tier"), ("summary", "frontier_cop")),
}
"""Keys that no schema requires, by file."""


@pytest.mark.parametrize("file", HEADLINES)
def test_a_lost_key_comes_back_with_what_stood_there(root: Path, file: str) -> None:
    original = load(root, file)
    record = load(root, file)
    for *way, last in HEADLINES[file]:
        inner = record
        for step in way:
            inner = inner[step]
        del inner[last]
    store(root, file, record)
    assert by_file(mend(root))[file] == "done"
    assert audit(root) == ()
    made = load(root, file)
    for *way, last in HEADLINES[file]:
        old, new = original, made
        for step in way:
            old, new = old[step], new[step]
        assert new[last] == old[last]
    assert mend(root) == ()


@pytest.mark.parametrize("content", [b"", None], ids=["emptied", "another total cost"])
def test_a_markdown_report_that_says_something_else_is_made_anew_alone(root: Path, content: bytes | None) -> None:
    judged_otherwise(root)
    mend(root)
    text = (root / "report.md").read_bytes()
    spoilt = re.sub(rb"\$[0-9.]+", b"$999.5", text, count=1) if content is None else content
    (root / "report.md").write_bytes(spoilt)
    before = tree(root)
    (planned,) = plan(root)
    (done,) = mend(root)
    assert (planned.what, planned.solved) == (done.what, done.solved) == ("report.md", ("report-stale",))
    after = tree(root)
    assert {file for file in after if after[file] != before[file]} == {"report.md"}
    assert (root / "report.md").read_bytes() == text
    assert spoilt in quarantined(root).values()
    assert mend(root) == ()


def test_a_page_of_the_configuration_of_its_day_is_made_anew_as_it_was(root: Path) -> None:
    edit(root, "config/experiment.json", runs_per_subtest=7)
    (root / "report.md").write_bytes(b"")
    assert by_file(mend(root)) == {"report.md": "done"}
    assert "- **Runs per Sub-test**: 2\n" in (root / "report.md").read_text("utf-8")
    assert audit(root) == ()


def test_an_experiment_without_markdown_gets_none(tmp_path: Path) -> None:
    root = tmp_path / "exp"
    write_experiment(root, small(tiers={"T0": ("00",), "T1": ("01",)}, side_files=False))
    judged_otherwise(root)
    assert set(by_file(mend(root))) == {file for file in CHANGED if file.endswith(".json")}
    assert list(root.rglob("report.md")) == []


@pytest.mark.parametrize("content", [b"", b'{"tier_id": "T0", ', b'{"a": 1, "a": 2}', b'{"tier_id": 7}', b"\xff"])
def test_a_record_that_is_not_sound_is_replaced_and_kept(root: Path, content: bytes) -> None:
    expected = load(root, "T0/report.json")["summary"]
    for file in ("T0/result.json", "T0/report.json", "result.json"):
        (root / file).write_bytes(content)
    mend(root)
    assert audit(root) == ()
    assert content in quarantined(root).values()
    summary = load(root, "T0/report.json")["summary"]
    assert {**expected, "total_duration": None, "coverage": summary["coverage"]} == summary


def test_a_directory_in_the_place_of_a_file_is_moved_aside(root: Path) -> None:
    for file in ("T0/result.json", "T1/report.md"):
        (root / file).unlink()
        (root / file).mkdir()
        (root / file / "inside").write_text("kept")
    assert by_file(mend(root)) == {
        "T0/result.json": "done",
        "T0/report.md": "done",
        "T0/summary.md": "done",
        "T1/report.md": "done",
    }
    assert audit(root) == ()
    assert len(list((root / KEEPING / "quarantine").glob("*/inside"))) == 2


@pytest.mark.parametrize("file", ["T0/result.json", "T0/00/report.json", "result.json"])
def test_nothing_is_written_through_a_link(root: Path, tmp_path: Path, file: str) -> None:
    judged_otherwise(root)
    elsewhere = tmp_path / "elsewhere.json"
    os.rename(root / file, elsewhere)
    os.symlink(elsewhere, root / file)
    before = elsewhere.read_bytes()
    actions = mend(root)
    refused = [action for action in actions if action.outcome == "refused"]
    assert [(action.what, action.files, action.solved) for action in refused] == [(file, (), ())]
    assert "link" in (refused[0].reason or "")
    assert elsewhere.read_bytes() == before
    assert (root / file).is_symlink()
    assert set(faults(root)) == {file}
    assert by_file(plan(root)) == {file: "refused"}


def test_a_tier_whose_runs_have_to_be_rebuilt_first_is_left_as_it_is(root: Path) -> None:
    judged_otherwise(root)
    lose("run_result.json")(Run(root, FIRST))
    before = tree(root)
    actions = mend(root)
    assert set(by_file(actions).values()) == {"refused"}
    assert {action.reason for action in actions} == {"run_result.json of T0/00/run_01 has to be rebuilt first"}
    assert by_file(plan(root)) == by_file(actions)
    assert tree(root) == before
    assert repair(root, FIRST).audit.status == "completed"
    assert set(by_file(mend(root)).values()) == {"done"}
    assert audit(root) == ()


def test_another_tier_is_mended_all_the_same(root: Path) -> None:
    lose("run_result.json")(Run(root, FIRST))
    for file in ("T0/report.json", "T1/report.json", "report.json"):
        edit(root, file, children=[])
    found = by_file(mend(root))
    assert (found["T0/report.json"], found["report.json"], found["T1/report.json"]) == ("refused", "refused", "done")


def test_aggregates_of_the_staged_layout_are_mended_where_they_lie(tmp_path: Path) -> None:
    root = tmp_path / "exp"
    write_experiment(root, small(layout="staged"))
    judged(root, "completed/T1/02/run_02", (0.1, False), (0.2, False), (0.3, False))
    (root / "completed/T0/result.json").unlink()
    done = by_file(mend(root))
    assert set(done.values()) == {"done"}
    assert {"completed/T1/02/report.json", "completed/T0/result.json", "result.json"} <= set(done)
    assert audit(root) == ()


def test_runs_are_read_while_no_other_process_can_write_aggregates(root: Path) -> None:
    experiment = pytest_scylla.load(root)
    tried = []
    with Keeping(root) as keeping:

        def read_runs() -> dict[RunId, RunFigures]:
            with pytest.raises(Held), locked(keeping.lock_path("aggregates"), wait=False):
                pass
            tried.append(True)
            return figures(root)

        assert repair_aggregates(experiment, keeping, read_runs) == ()
    assert tried == [True]
    with locked(root / KEEPING / "locks/aggregates.lock", wait=False):
        pass


def test_an_experiment_that_is_gone_is_told_as_such(root: Path) -> None:
    experiment, runs = pytest_scylla.load(root), figures(root)
    shutil.rmtree(root)
    with pytest.raises(ExperimentGone):
        planned_repair(experiment, runs)


# -------------------------------------------------------------------------------------------------------------- stopped


class Killed(BaseException):
    """The process ends here."""


def stop_at(number: int, error: BaseException, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do something whose ``number``-th change of the file system, and every later one, fails; whether it came through.

    What is still done about it then changes nothing either.
    """
    calls: list[str] = []

    def counted(name: str) -> None:
        calls.append(name)
        if len(calls) > number:
            raise error

    with monkeypatch.context() as patched:
        for name, replacement in count_calls(counted).items():
            patched.setattr(os, name, replacement)
        try:
            act()
        except Killed:
            return False
    return len(calls) <= number


def undated_text(data: bytes) -> list[str]:
    """The lines of a Markdown report but that which tells when it was written."""
    return [line for line in data.decode().splitlines() if not line.startswith("**Generated**")]


def undated(path: Path) -> list[str]:
    return undated_text(path.read_bytes())


def test_killed_anywhere_files_are_old_or_new_and_the_next_repair_finishes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_otherwise(root)
    pristine, runs = tmp_path / "pristine", figures(root)
    shutil.copytree(root, pristine)
    old = tree(root)
    mend(root)
    new = tree(root)

    def act() -> None:
        with Keeping(root) as keeping:
            repair_aggregates(pytest_scylla.load(root), keeping, lambda: runs)

    number, came_through = 0, False
    while not came_through:
        shutil.rmtree(root)
        shutil.copytree(pristine, root)
        came_through = stop_at(number, Killed(), act, monkeypatch)
        left = tree(root)
        assert set(left) == set(old)
        for file in CHANGED:
            content = left[file].content
            changed = content != old[file].content
            assert not changed or digest(old[file].content) in quarantined(root), file
            if changed and file.endswith(".json"):
                again, made = json.loads(content), json.loads(new[file].content)
                assert {key for key in made if again[key] != made[key]} <= {"generated_at"}, file
        act()
        assert audit(root) == ()
        assert staged(root) == []
        for file in CHANGED:
            if file.endswith(".md"):
                assert undated(root / file) == undated_text(new[file].content), file
        number += 13
    assert number > 100


def test_a_full_disk_makes_actions_fail_and_nothing_half(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_otherwise(root)
    runs, before = figures(root), tree(root)
    found: list[tuple[Action, ...]] = []

    def act() -> None:
        with Keeping(root) as keeping:
            found.append(repair_aggregates(pytest_scylla.load(root), keeping, lambda: runs))

    with Keeping(root):
        pass
    assert not stop_at(40, OSError(errno.ENOSPC, "full"), act, monkeypatch)
    (actions,) = found
    outcomes = [action.outcome for action in actions]
    assert set(outcomes) == {"done", "failed"}
    assert outcomes == sorted(outcomes), "nothing is written behind a failure"
    failed = [action for action in actions if action.outcome == "failed"]
    assert all(os.strerror(errno.ENOSPC) in (action.reason or "") for action in failed)
    assert all(not action.files and not action.solved for action in failed)
    after = tree(root)
    assert {file for file in after if after[file] != before[file]} == {
        action.what for action in actions if action.outcome == "done"
    }
    assert set(by_file(mend(root)).values()) == {"done"}
    assert audit(root) == ()


def test_nothing_is_written_behind_a_file_that_could_not_be(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_otherwise(root)
    before = tree(root)
    original = Keeping.put_in_place

    def failing(keeping: Keeping, file: str, folder: Folder) -> None:
        if file == "T0/result.json":
            raise CannotWrite(f"{file}: not this one")
        original(keeping, file, folder)

    monkeypatch.setattr(Keeping, "put_in_place", failing)
    actions = mend(root)
    outcomes = [action.outcome for action in actions]
    first = [action.what for action in actions].index("T0/result.json")
    assert outcomes == ["done"] * first + ["failed"] * (len(actions) - first)
    assert {action.reason for action in actions[first:]} == {"T0/result.json: not this one"}
    after = tree(root)
    assert {file for file in after if after[file] != before[file]} == {action.what for action in actions[:first]}
    assert staged(root) == []


def test_what_somebody_else_put_there_meanwhile_is_no_repair(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_otherwise(root)
    original = Keeping.put_in_place

    def overwritten(keeping: Keeping, file: str, folder: Folder) -> None:
        original(keeping, file, folder)
        if file in ("T0/report.json", "T0/report.md"):
            (root / file).write_bytes(b"{}")

    monkeypatch.setattr(Keeping, "put_in_place", overwritten)
    actions = {action.what: action for action in mend(root)}
    assert actions["T0/report.json"].outcome == "failed"
    assert "aggregate-invalid" in (actions["T0/report.json"].reason or "")
    assert actions["T0/report.md"].outcome == "failed"
    assert actions["T0/report.md"].reason == "read again, it is not what was written"
    assert actions["T0/result.json"].outcome == "done"
