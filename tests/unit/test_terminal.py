"""The summary on the terminal: tiers by status, findings by code, what was rebuilt, in as few lines as that takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import pytest_scylla
from benchmarks.synthetic import small, write_experiment
from pytest_scylla.auditing.findings import CODES, finding
from pytest_scylla.outcomes import NOT_AUDITED, WHOLES, AuditedExperiment, ItemOutcome, Selection
from pytest_scylla.repair.actions import Action, Ending
from pytest_scylla.report.causes import causes, causes_lines
from pytest_scylla.report.terminal import header, summary_lines
from pytest_scylla.settings import Settings


def sound(experiment: Path) -> AuditedExperiment:
    """An experiment in which every item passed."""
    audited = AuditedExperiment("exp", pytest_scylla.load(experiment, given="exp"), Selection([]))
    for item_id in audited.item_ids():
        status = "complete" if "judge_" in item_id else "sound" if item_id in WHOLES else "completed"
        audited.keep(item_id, ItemOutcome(status, "passed"))
    return audited


@pytest.fixture
def audited(pristine_experiment: Path) -> AuditedExperiment:
    """An experiment of two tiers in which every item passed."""
    return sound(pristine_experiment)


def leave(audited: AuditedExperiment, item_id: str, status: str, *codes: str, warning: bool = False) -> None:
    """Leave an item in a status, with findings."""
    found = tuple(finding(code, f"{item_id}/file.json", f"expected {code}, found none", "/here") for code in codes)
    audited.keep(item_id, ItemOutcome(status, "passed" if warning else "failed", found))


class _Options:
    """The one option that a command to type names."""

    subtests = None


SETTINGS: Settings = _Options()  # type: ignore[assignment]


def lose(audited: AuditedExperiment, run: str) -> None:
    """Have nothing of a run."""
    leave(audited, run, "missing", "run-missing")
    for number in (1, 2, 3):
        leave(audited, f"{run}/judge_0{number}", "agent_failed", "no-agent-result")


def tier_lines(audited: AuditedExperiment, width: int = 80, verbosity: int = 0) -> list[str]:
    """The lines about tiers."""
    names = {"tier", *audited.experiment.subtests}
    return [line for line in summary_lines(audited, verbosity, width) if line.split()[0] in names]


def finding_lines(audited: AuditedExperiment, width: int = 200, *, listed: bool = False) -> list[str]:
    """The lines about findings, below their heading."""
    lines = summary_lines(audited, 0, width, listed=listed)
    return lines[lines.index("findings") + 1 :] if "findings" in lines else []


def whole_lines(audited: AuditedExperiment, verbosity: int = 0) -> list[str]:
    """The lines about checkpoint and aggregates."""
    return [line for line in summary_lines(audited, verbosity) if line.startswith(WHOLES)]


# Runs and judge slots


def total_lines(audited: AuditedExperiment, width: int = 80, verbosity: int = 0) -> list[str]:
    """The lines about all runs and slots, and about each judge's."""
    lines = summary_lines(audited, verbosity, width)
    return lines[: next((place for place, line in enumerate(lines) if line.startswith(("tier", *WHOLES))), len(lines))]


def test_runs_and_slots_are_told_by_the_statuses_that_occur(audited: AuditedExperiment) -> None:
    lose(audited, "T0/00/run_02")
    leave(audited, "T1/02/run_01/judge_02", "failed", "judgment-missing")
    assert total_lines(audited)[:6] == [
        "runs          6 expected: 5 completed, 1 missing",
        "judge slots   18 expected: 14 complete, 1 failed, 3 agent_failed",
        "judge                      slots  complete  failed  agent failed",
        "judge_01 (judge-large-1)       6         5       -             1",
        "judge_02 (judge-medium-1)      6         4       1             1",
        "judge_03 (judge-small-1)       6         5       -             1",
    ]
    assert total_lines(audited, verbosity=-1) == total_lines(audited)[:2]


def test_that_nothing_is_complete_is_told(one_run_experiment: Path) -> None:
    one = sound(one_run_experiment)
    lose(one, "T0/00/run_01")
    assert total_lines(one)[:2] == [
        "runs          1 expected: 0 completed, 1 missing",
        "judge slots   3 expected: 0 complete, 3 agent_failed",
    ]


def test_a_line_that_is_too_long_is_wrapped_where_no_number_leaves_what_it_counts(audited: AuditedExperiment) -> None:
    for run, status in (("T0/00/run_01", NOT_AUDITED), ("T1/01/run_01", "results"), ("T1/01/run_02", "missing")):
        leave(audited, run, status)
    assert total_lines(audited, 48)[:2] == [
        "runs          6 expected: 3 completed,",
        "              1 results, 1 missing,",
    ]
    assert total_lines(audited, 48)[2] == "              1 not audited"


def test_a_table_of_judges_that_is_too_wide_is_several(audited: AuditedExperiment) -> None:
    lose(audited, "T0/00/run_02")
    assert total_lines(audited, 50)[3:] == [
        "judge                      slots  complete",
        "judge_01 (judge-large-1)       6         5",
        "judge_02 (judge-medium-1)      6         5",
        "judge_03 (judge-small-1)       6         5",
        "judge                      agent failed",
        "judge_01 (judge-large-1)              1",
        "judge_02 (judge-medium-1)             1",
        "judge_03 (judge-small-1)              1",
    ]


# The width


def damage_everything(audited: AuditedExperiment) -> None:
    """Have every status, long texts, repairs of all kinds, and what a session did not come to."""
    lose(audited, "T0/00/run_01")
    statuses = iter(("results", "failed", "partial", "conflict", "unsafe"))
    for run in ("T0/00/run_02", "T1/01/run_01", "T1/01/run_02", "T1/02/run_01", "T1/02/run_02"):
        leave(audited, run, next(statuses), "consensus-stale", "run-result-missing", "output-copies-conflict")
        for number, status in enumerate(("missing", "conflict", NOT_AUDITED), 1):
            leave(audited, f"{run}/judge_0{number}", status, "judge-slot-missing", "judgment-not-valid")
    for item_id in WHOLES:
        leave(audited, item_id, "stale", "checkpoint-lacks-run", "checkpoint-state-differs", "aggregate-stale")
    audited.before = dict(audited.outcomes)
    slot = "T0/00/run_02/judge_01"
    left = Action("judges", "judge call", "refused", reason="not-run: " + "a limit that is told of at length " * 4)
    failed = Action("judges", "judge call", "failed", reason="the judge said nothing that could be used; " * 4, calls=3)
    rebuilt = Action("regenerate", "run_result.json", "planned", ("T0/00/run_02/run_result.json",))
    outcome = replace(audited.outcomes[slot], outcome="not-run", remedy="1 judge call, and that is explained " * 4)
    audited.keep(slot, replace(outcome, actions=(left, failed, rebuilt)))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("done", [False, True])
def test_no_line_is_wider_than_the_terminal(audited: AuditedExperiment, width: int, done: bool) -> None:
    damage_everything(audited)
    if done:
        made = Action("regenerate", "checkpoint.json", "done", ("checkpoint.json",))
        audited.keep("checkpoint", ItemOutcome("sound", "repaired", actions=(made,)))
    lines = summary_lines(audited, 0, width)
    lines += [line for line in causes_lines(audited, causes(audited), SETTINGS, width) if "look at one: " not in line]
    assert [line for line in lines if len(line) > width] == []
    assert any(len(line) > 40 for line in lines)


def test_no_line_of_the_header_is_wider_than_80_columns_but_for_names(audited: AuditedExperiment) -> None:
    assert header(audited) == [
        "scylla: exp: 6 runs and 18 judge slots expected",
        "scylla: subtests as found on disk, in checkpoint and aggregates",
    ]


# Tiers


def test_tiers_are_told_by_the_statuses_that_occur(audited: AuditedExperiment) -> None:
    lose(audited, "T0/00/run_02")
    leave(audited, "T1/01/run_01", "results", "run-result-missing")
    leave(audited, "T1/02/run_01/judge_02", "failed", "judgment-missing")
    assert tier_lines(audited) == [
        "tier  runs  completed  results  missing  slots  complete  failed  agent failed",
        "T0       2          1        -        1      6         3       -             3",
        "T1       4          3        1        -     12        11       1             -",
    ]
    assert tier_lines(audited, verbosity=1) == tier_lines(audited)
    assert tier_lines(audited, verbosity=-1) == []


def test_a_table_of_tiers_that_is_too_wide_is_two(audited: AuditedExperiment) -> None:
    lose(audited, "T0/00/run_02")
    one = tier_lines(audited)
    assert [len(line) for line in one] == [61] * 3
    assert tier_lines(audited, 61) == one
    assert tier_lines(audited, 60) == [
        "tier  runs  completed  missing",
        "T0       2          1        1",
        "T1       4          4        -",
        "tier  slots  complete  agent failed",
        "T0        6         3             3",
        "T1       12        12             -",
    ]


def test_what_was_not_audited_is_a_column(audited: AuditedExperiment) -> None:
    leave(audited, "T0/00/run_01", NOT_AUDITED)
    assert tier_lines(audited)[0] == "tier  runs  completed  not audited  slots  complete"


def test_columns_are_as_wide_as_their_longest_cell(tmp_path: Path) -> None:
    plan = small(tiers={"T0": ("00",), "T10": tuple(f"{n:02d}" for n in range(6))}, side_files=False)
    write_experiment(tmp_path / "exp", plan)
    audited = sound(tmp_path / "exp")
    leave(audited, "T10/00/run_01", "partial")
    assert tier_lines(audited) == [
        "tier  runs  completed  partial  slots  complete",
        "T0       2          2        -      6         6",
        "T10     12         11        1     36        36",
    ]


def test_where_all_is_complete_or_there_is_one_tier_only_no_tier_is_told(
    audited: AuditedExperiment, one_run_experiment: Path
) -> None:
    assert tier_lines(audited) == []
    one = sound(one_run_experiment)
    lose(one, "T0/00/run_01")
    assert tier_lines(one) == []


# Findings


def test_findings_are_told_by_code_errors_first_then_the_most_each_with_one_example(
    audited: AuditedExperiment,
) -> None:
    leave(audited, "T0/00/run_01", "completed", "side-file-missing", "side-file-missing", "fallback", warning=True)
    leave(audited, "T1/01/run_01", "results", "consensus-stale", "run-result-missing")
    leave(audited, "T1/01/run_02", "results", "run-result-missing")
    assert finding_lines(audited) == [
        f"       2 run-result-missing: {CODES['run-result-missing'].meaning}",
        "         e.g. T1/01/run_01/file.json /here: expected run-result-missing, found none",
        f"       1 consensus-stale: {CODES['consensus-stale'].meaning}",
        "         e.g. T1/01/run_01/file.json /here: expected consensus-stale, found none",
        f"       2 side-file-missing (warning): {CODES['side-file-missing'].meaning}",
        "         e.g. T0/00/run_01/file.json /here: expected side-file-missing, found none",
        f"       1 fallback (warning): {CODES['fallback'].meaning}",
        "         e.g. T0/00/run_01/file.json /here: expected fallback, found none",
    ]


def test_findings_fit_into_the_terminal_and_no_name_is_broken(audited: AuditedExperiment) -> None:
    name = "T0/00/run_01/" + "a-long-name-" * 8 + ".json"
    fault = finding("aggregate-stale", name, "expected one thing, found another; and that is told at length")
    audited.keep("aggregates", ItemOutcome("stale", "failed", (fault,)))
    lines = finding_lines(audited, 60)
    assert [line.split()[-1] for line in lines if name in line] == [f"{name}:"]
    assert all(len(line) <= 60 for line in lines if name not in line)
    assert lines[0].startswith("       1 aggregate-stale: ")
    assert " ".join(" ".join(lines).split()) == (
        f"1 aggregate-stale: {CODES['aggregate-stale'].meaning} e.g. {name}: {fault.message}"
    )


def test_with_v_only_warnings_are_told_and_with_q_only_how_many(audited: AuditedExperiment) -> None:
    leave(audited, "T0/00/run_01", "completed", "side-file-missing", warning=True)
    leave(audited, "T1/01/run_01", "results", "run-result-missing")
    assert [line for line in summary_lines(audited, 1) if "file.json" in line] == [
        f"warning: T0/00/run_01: {audited.outcomes['T0/00/run_01'].findings[0]}"
    ]
    assert summary_lines(audited, -1)[-1] == "warnings      1"


def test_what_was_listed_by_cause_is_not_told_again(audited: AuditedExperiment) -> None:
    leave(audited, "T0/00/run_01", "completed", "side-file-missing", warning=True)
    leave(audited, "T1/01/run_01", "results", "run-result-missing", "consensus-stale")
    told = [line.split()[1].rstrip(":") for line in finding_lines(audited, listed=True) if "e.g." not in line]
    assert told == ["consensus-stale", "side-file-missing"]


def test_a_sound_experiment_has_none(audited: AuditedExperiment) -> None:
    assert "findings" not in summary_lines(audited)


# Checkpoint and aggregates, and what was rebuilt


def test_what_follows_from_runs_has_a_line_where_it_is_not_sound_or_was_not(audited: AuditedExperiment) -> None:
    assert whole_lines(audited) == []
    assert whole_lines(audited, 1) == ["checkpoint    sound", "aggregates    sound"]
    leave(audited, "checkpoint", "stale", "checkpoint-lacks-run", "checkpoint-lacks-run", "checkpoint-state-differs")
    audited.before["aggregates"] = ItemOutcome("missing", "failed")
    audited.keep("aggregates", ItemOutcome("sound", "repaired"))
    assert whole_lines(audited) == [
        "checkpoint    stale (checkpoint-lacks-run, checkpoint-state-differs)",
        "aggregates    sound, was missing",
    ]


RUN_FILES = {"T0/00/run_01": ("T0/00/run_01/run_result.json", "T0/00/run_01/agent/output.txt")}


@pytest.mark.parametrize(
    ("files", "amount"),
    [
        (RUN_FILES, "2 files in 1 run"),
        ({"T0/00/run_01/judge_01": ("a",), "T0/00/run_01": ("b",), "T0/00/run_02": ("c",)}, "3 files in 2 runs"),
        ({"T0/00/run_01": ("a",)}, "1 file in 1 run"),
        ({"checkpoint": ("checkpoint.json",)}, "checkpoint.json"),
        ({"aggregates": ("report.json",)}, "1 aggregate"),
        ({"checkpoint": ("checkpoint.json",), "aggregates": ("a", "b")}, "checkpoint.json and 2 aggregates"),
        (
            {**RUN_FILES, "checkpoint": ("checkpoint.json",), "aggregates": ("a", "b")},
            "2 files in 1 run, checkpoint.json and 2 aggregates",
        ),
    ],
)
@pytest.mark.parametrize(("ending", "verb"), [("done", "rebuilt"), ("planned", "would rebuild")])
def test_what_was_rebuilt_is_told_as_files_of_runs_checkpoint_and_aggregates(
    audited: AuditedExperiment, files: dict[str, tuple[str, ...]], amount: str, ending: Ending, verb: str
) -> None:
    audited.before = dict(audited.outcomes)
    for item_id, names in files.items():
        actions = tuple(Action("regenerate", name, ending, files=(name,)) for name in names)
        audited.keep(item_id, replace(audited.outcomes[item_id], outcome="repaired", actions=actions))
    assert f"{verb} {amount}" in summary_lines(audited, -1)
