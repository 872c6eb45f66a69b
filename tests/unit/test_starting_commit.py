"""The commit that another attempt at a run starts from, with real git: whose branches tell, and what they do not."""

from __future__ import annotations

import shutil

import pytest

from .repositories import (
    AGENT_WORK,
    CONFIGURATION,
    RUN,
    SIBLING,
    Setting,
    archive,
    commit,
    git,
    make,
    needs_git,
    refused,
    write,
)

pytestmark = needs_git


def test_it_is_the_commit_of_a_sibling_where_the_run_itself_never_had_a_branch(bare: Setting) -> None:
    bare.set_up(SIBLING)
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(SIBLING)


def test_it_is_the_commit_of_the_runs_own_branch_where_no_sibling_has_one(bare: Setting) -> None:
    bare.set_up(RUN)
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(RUN)


def test_it_is_the_first_commit_after_the_tasks_however_many_follow(bare: Setting) -> None:
    place = bare.set_up(SIBLING)
    for number in range(3):
        write(place, {f"more{number}": "", "CLAUDE.md": f"{number}"})
        commit(place, "More", f"--date=2001-01-0{number + 1}T00:00:00")
    archive(bare, RUN)
    assert make(bare).base_commit == bare.start(SIBLING)
    assert git(bare.base, "log", "-1", "--format=%s", bare.start(SIBLING)) == "Configuration"


def test_a_branch_of_an_earlier_attempt_is_a_siblings_too(setting: Setting) -> None:
    start = setting.start(RUN)
    make(setting)
    for branch in ("T0_00_run_01", "T0_00_run_02"):
        git(setting.base, "update-ref", "-d", f"refs/heads/{branch}")
    archive(setting, RUN, "run_01_failed_1")
    assert make(setting, attempt=3).base_commit == start


def test_branches_that_are_named_after_the_experiment_are_found(bare: Setting) -> None:
    bare.set_up(SIBLING, branch="syntheti_T0_00_run_02")
    archive(bare, RUN)
    assert make(bare).base_commit == git(bare.base, "rev-parse", "syntheti_T0_00_run_02^")


@pytest.mark.parametrize(
    "branch",
    ["T0_01_run_02", "T1_00_run_02", "T0_00_run_2", "other_T0_00_run_02", "T0_00_run_02--b2-x", "T0_00_run_02x"],
)
def test_branches_of_other_subtests_and_experiments_are_not(bare: Setting, branch: str) -> None:
    bare.set_up(SIBLING, branch=branch)
    archive(bare, RUN)
    told = refused(bare)
    assert "it has none of this subtest's runs" in told
    assert "T0_00_run_01--a0-start" in told


def test_siblings_that_have_the_same_configuration_at_different_times_agree(bare: Setting) -> None:
    bare.set_up(SIBLING)
    bare.set_up(RUN, work=None)
    place = bare.workspace(RUN)
    git(place, "commit", "--quiet", "--amend", "--no-edit", "--date=2001-01-01T00:00:00")
    archive(bare, RUN)
    assert bare.start(RUN) != bare.start(SIBLING)
    assert make(bare).base_commit == bare.start(RUN)


def test_of_those_that_agree_the_run_with_the_lowest_number_is_taken_and_its_earliest_attempt(bare: Setting) -> None:
    bare.set_up("T0/00/run_10", work=None)
    for number, branch in enumerate(("T0_00_run_07--a10-x", "T0_00_run_07--a2-x", "T0_00_run_09"), 1):
        place = bare.set_up(f"T0/00/run_{number + 10}", work=None, branch=branch)
        git(place, "commit", "--quiet", "--amend", "--no-edit", f"--date=200{number}-01-01T00:00:00")
    archive(bare, RUN)
    assert make(bare).base_commit == git(bare.base, "rev-parse", "T0_00_run_07--a2-x")


def test_siblings_that_do_not_agree_are_named(bare: Setting) -> None:
    bare.set_up(RUN)
    bare.set_up(SIBLING, {**CONFIGURATION, "CLAUDE.md": "Do not think.\n"})
    archive(bare, RUN)
    told = refused(bare)
    assert "T0_00_run_01 and T0_00_run_02 do not agree" in told
    assert bare.start(SIBLING)[:12] in told


def test_a_tier_without_configuration_starts_at_the_tasks_commit(bare: Setting) -> None:
    bare.set_up(SIBLING, configuration=None, work=None)
    archive(bare, RUN)
    made = make(bare)
    assert made.base_commit == bare.task_commit
    assert not (made.path / "CLAUDE.md").exists()
    archive(bare, RUN, "run_01_failed_1")
    git(bare.base, "update-ref", "-d", "refs/heads/T0_00_run_02")
    assert make(bare, attempt=3).base_commit == bare.task_commit


def test_that_an_agent_ran_without_configuration_is_seen_in_the_archive_too(bare: Setting) -> None:
    bare.set_up(RUN, configuration=None, work=None)
    archive(bare, RUN, "run_01_failed_1")
    assert make(bare).base_commit == bare.task_commit


def test_a_commit_without_changes_is_no_configuration(bare: Setting) -> None:
    place = bare.set_up(SIBLING, configuration=None, work=None)
    commit(place, "Agent changes", "--allow-empty")
    archive(bare, RUN)
    assert make(bare).base_commit == bare.task_commit


@pytest.mark.parametrize("again", [RUN, SIBLING])
def test_a_run_that_was_stopped_before_it_was_configured_says_nothing(bare: Setting, again: str) -> None:
    """Whether its tier has a configuration at all, its branch does not tell."""
    bare.set_up(RUN, configuration=None, work=None)
    shutil.rmtree(bare.root / RUN / "agent")
    archive(bare, again)
    assert "T0_00_run_01 was not configured yet" in refused(bare, again)
    bare.set_up("T0/00/run_07")
    assert make(bare, again).base_commit == bare.start("T0/00/run_07")


def test_a_run_without_configuration_does_not_agree_with_one_that_has_it(bare: Setting) -> None:
    bare.set_up(RUN)
    bare.set_up(SIBLING, configuration=None, work=None)
    archive(bare, RUN)
    assert "do not agree" in refused(bare)


def test_a_run_that_was_first_stopped_early_is_told_of_by_its_next_attempt(bare: Setting) -> None:
    bare.set_up(RUN, configuration=None, work=None)
    bare.set_up(SIBLING)
    (bare.root / RUN / "agent").rename(bare.root / "agent")
    archive(bare, RUN)
    make(bare)
    (bare.root / "agent").rename(bare.root / RUN / "agent")
    archive(bare, RUN, "run_01_failed_1")
    assert make(bare, attempt=3).base_commit == bare.start(SIBLING)


def test_what_an_agent_did_is_never_taken_for_a_configuration(bare: Setting) -> None:
    """Where there was none to commit, the first commit is the agent's, and would give the next one its solution."""
    for run in (RUN, SIBLING):
        bare.set_up(run, configuration=None)
    archive(bare, RUN)
    told = refused(bare)
    assert 'T0_00_run_01 has no configuration first, but a change of "tally.py"' in told
    assert "Make a branch T0_00_run_01--a0-start" in told
    git(bare.base, "branch", "T0_00_run_01--a0-start", bare.task_commit)
    assert make(bare).base_commit == bare.task_commit


def test_a_configuration_that_an_agent_amended_says_nothing(bare: Setting) -> None:
    place = bare.set_up(RUN, work=None)
    write(place, AGENT_WORK)
    commit(place, "Configuration", "--amend")
    archive(bare, RUN)
    assert "tally.py" in refused(bare)
    bare.set_up(SIBLING)
    assert make(bare).base_commit == bare.start(SIBLING)


def test_a_branch_that_does_not_go_on_from_the_tasks_commit_says_nothing(bare: Setting) -> None:
    git(bare.base, "branch", "T0_00_run_02", git(bare.base, "commit-tree", "-m", "Another root", "HEAD^{tree}"))
    archive(bare, RUN)
    assert "T0_00_run_02 does not go on from the task's commit" in refused(bare)


def test_a_branch_that_is_joined_from_several_says_nothing(bare: Setting) -> None:
    place = bare.set_up(SIBLING)
    git(place, "checkout", "--quiet", "-b", "side", bare.task_commit)
    write(place, {"CLAUDE.md": "Do not think.\n"})
    commit(place, "Side")
    git(place, "checkout", "--quiet", "T0_00_run_02")
    git(place, "merge", "--quiet", "--strategy=ours", "-m", "Merge", "side")
    archive(bare, RUN)
    assert "T0_00_run_02 is joined from several" in refused(bare)
