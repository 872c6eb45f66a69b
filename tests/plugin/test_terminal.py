"""What a person reads: failing items, the listing of many of them, the summary; and what nobody ever reads."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.synthetic import SECRET, run_ids

from .conftest import WIDE
from .judges import ScriptedJudge
from .support import (
    NASTY,
    SLOTS,
    WHOLES,
    Project,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    item_ids,
    judgment_of,
    lose_judgment,
    lose_run,
    lose_run_result,
    lose_slot,
    node_ids,
    outcomes,
    printed,
    summary_line,
    with_outcome,
)

ORDINARY_FAILURE = """\
def test_ordinary():
    left, right = 41, 43
    assert left == right, "the ordinary failure"
"""


def _section(result: pytest.RunResult, title: str) -> list[str]:
    """The lines below a heading of pytest's, up to the next."""
    lines = result.outlines
    headings = [i for i, line in enumerate(lines) if re.fullmatch(r"[=_]{2,} .* [=_]{2,}", line)]
    (start,) = [i for i in headings if lines[i].strip("=_ ") == title]
    end = next((i for i in headings if i > start), len(lines))
    return [line for line in lines[start + 1 : end] if line]


# One failing item


def test_a_failing_run_says_id_status_file_and_that_its_repair_is_free(project: Project) -> None:
    lose_run_result(project.experiment, "T1/01/run_01")
    result = project.audit()
    lines = _section(result, "T1/01/run_01")
    assert lines[0].startswith("T1/01/run_01: results")
    assert len(lines) == 3
    assert "run-result-missing" in lines[1]
    assert "T1/01/run_01/run_result.json" in lines[1]
    assert "expected" in lines[1]
    assert "found" in lines[1]
    assert lines[2].strip().startswith("repair: free")
    assert "FAILED exp/T1/01/run_01::run - " in result.stdout.str()


def test_a_failing_slot_whose_reply_survives_is_repaired_for_free(project: Project) -> None:
    lose_judgment(project.experiment, "T1/02/run_01/judge_02")
    lines = _section(project.audit(), "T1/02/run_01/judge_02")
    assert lines[0].startswith("T1/02/run_01/judge_02: failed")
    assert "T1/02/run_01/judge/judge_02/judgment.json" in lines[1]
    assert lines[-1].strip().startswith("repair: free")


def test_a_failing_slot_that_nothing_survives_of_costs_one_judge_call(project: Project) -> None:
    lose_slot(project.experiment, "T1/02/run_01/judge_02")
    lines = _section(project.audit(), "T1/02/run_01/judge_02")
    assert lines[0].startswith("T1/02/run_01/judge_02: failed")
    assert lines[-1].strip().startswith("repair: 1 judge call")


def test_an_absent_run_and_its_slots_cost_an_agent_run(project: Project) -> None:
    lose_run(project.experiment, "T0/00/run_02")
    result = project.audit()
    assert _section(result, "T0/00/run_02")[0].startswith("T0/00/run_02: missing")
    for slot in SLOTS:
        assert _section(result, f"T0/00/run_02/{slot}")[0].startswith(f"T0/00/run_02/{slot}: agent_failed")
    for name in ("", *(f"/{slot}" for slot in SLOTS)):
        assert _section(result, f"T0/00/run_02{name}")[-1].strip().startswith("repair: agent run")


def test_a_finding_in_a_record_gives_pointer_expected_and_found(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_03"), score=85)
    lines = _section(project.audit(), "T0/00/run_01/judge_03")
    assert lines[0].startswith("T0/00/run_01/judge_03: failed")
    (finding,) = [line for line in lines if "score-out-of-range" in line and line.startswith(" ")]
    for part in ("T0/00/run_01/judge/judge_03/judgment.json", "/score", "expected", "found", "85"):
        assert part in finding


def test_every_finding_has_a_line_of_its_own(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T0/00/run_01/judge_03"), score="high", passed="yes", reasoning=None)
    lines = _section(project.audit(), "T0/00/run_01/judge_03")
    for pointer in ("/score", "/passed", "/reasoning"):
        assert sum(f" {pointer}:" in line for line in lines) == 1
    assert len(lines) == 5


def test_warnings_of_a_failing_item_are_named_as_such(project: Project) -> None:
    lose_run_result(project.experiment, "T0/00/run_01")
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    lines = _section(project.audit(), "T0/00/run_01")
    assert sum("warning" in line for line in lines) == 1


@pytest.mark.parametrize("args", [(), ("-v",), ("-vv",), ("--tb=short",), ("--tb=long", "-l"), ("-rA",)])
def test_no_traceback_is_shown(project: Project, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(project.experiment)
    text = printed(project.audit(*args))
    assert "Traceback" not in text
    assert "nodes.py" not in text
    assert "pytest.fail(" not in text


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_the_findings_are_the_same_with_workers(project: Project, args: tuple[str, ...]) -> None:
    damaged_in_several_ways(project.experiment)
    text = project.audit(*args).stdout.str()
    assert text.count("repair: free") == 2 + len(WHOLES)
    assert text.count("repair: agent run") == 4


def test_a_ci_log_tells_each_failing_item_once_in_full(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    failing = damaged_in_several_ways(project.experiment)
    result = project.audit()
    assert result.stdout.str().count("  repair: ") == len(failing)
    result.stdout.fnmatch_lines(["FAILED exp/T1/01/run_01::run - results (run-result-missing)"])


def test_nothing_lists_one_line_for_every_run_without_v(wide_project: Project) -> None:
    result = wide_project.audit()
    assert result.ret == 0
    assert sum(line.count("T0/0") for line in result.outlines) == 0
    assert len(result.outlines) < 20


# More than thirty


def _lose_runs(project: Project, count: int) -> list[str]:
    """Lose runs, each of them four items; checkpoint and aggregates, which count them, are two more that fail."""
    lost = list(run_ids(WIDE))[:count]
    for run in lost:
        lose_run(project.experiment, run)
    return lost


def test_up_to_thirty_failing_items_are_shown_one_by_one(wide_project: Project) -> None:
    _lose_runs(wide_project, 7)
    text = wide_project.audit().stdout.str()
    assert text.count("FAILED exp/") == 30
    assert "= FAILURES =" in text


def test_more_than_thirty_failing_items_are_grouped_by_cause(wide_project: Project) -> None:
    _lose_runs(wide_project, 7)
    for run in ("T1/01/run_01", "T1/01/run_02", "T1/01/run_03", "T1/01/run_04"):
        lose_run_result(wide_project.experiment, run)
    result = wide_project.audit()
    assert result.ret == 1
    text = result.stdout.str()
    assert "FAILED exp/" not in text
    assert "= FAILURES =" not in text
    assert re.search(r"\b7 runs missing\b", text)
    assert re.search(r"\b21 judge slots\b", text), "the slots of absent runs, counted under these"
    assert re.search(r"\b4 runs results\b", text)
    assert "agent_failed:" not in text
    for shown in ("T0/00/run_01", "T0/00/run_02", "T0/00/run_03", "T1/01/run_01", "T1/01/run_02", "T1/01/run_03"):
        assert shown in text
    for hidden in ("T0/00/run_04", "T1/01/run_04"):
        assert hidden not in text
    assert "repair: free" in text
    assert "repair: agent run" in text
    assert "checkpoint stale: checkpoint-records-absent-run" in result.outlines
    assert "aggregates stale: aggregate-stale" in result.outlines
    result.assert_outcomes(passed=50 - 34, failed=34)
    assert len(result.outlines) < 60


def test_thirty_one_are_more_than_thirty(wide_project: Project) -> None:
    _lose_runs(wide_project, 7)
    lose_judgment(wide_project.experiment, "T1/01/run_04/judge_01")
    assert "FAILED exp/" in wide_project.audit("--deselect=exp/T1/01/run_04::judge_01").stdout.str()
    text = wide_project.audit().stdout.str()
    assert re.search(r"\b31 items?\b", text)
    assert "FAILED exp/" not in text


def test_the_listing_gives_the_next_command_to_type(wide_project: Project) -> None:
    _lose_runs(wide_project, 10)
    for run in ("T1/01/run_03", "T1/01/run_04"):
        lose_run_result(wide_project.experiment, run)
    text = wide_project.audit().stdout.str()
    commands = re.findall(r"pytest --scylla-exp=.*", text)
    assert len(commands) == 2 + len(WHOLES)
    for command in commands:
        words = shlex.split(command)
        assert any(word.startswith("--scylla-select=") for word in words)
        again = wide_project.run(*words[1:])
        assert again.ret == 1
        assert "repair: " in again.stdout.str()
        assert set(outcomes(again)) <= set(node_ids(item_ids(WIDE)))


def test_the_next_command_names_the_definitions_as_well(wide_project: Project) -> None:
    for name in ("t0/00-a.yaml", "t0/01-b.yaml", "t0/02-c.yaml", "t0/03-d.yaml", "t1/01-e.yaml"):
        wide_project.write(f"defs x/{name}", "name: x\n")
    text = wide_project.audit("--scylla-subtests=defs x").stdout.str()
    (command,) = re.findall(r"pytest --scylla-exp=.*", text)
    again = wide_project.run(*shlex.split(command)[1:])
    assert again.ret == 1
    assert len(outcomes(again)) == 4


def test_the_next_command_works_where_definitions_come_from_the_ini_file(wide_project: Project) -> None:
    for name in ("t0/00-a.yaml", "t0/01-b.yaml", "t0/02-c.yaml", "t0/03-d.yaml", "t1/01-e.yaml"):
        wide_project.write(f"defs/{name}", "name: x\n")
    wide_project.write("pytest.ini", "[pytest]\nscylla_subtests = defs\nscylla_exp = exp\n")
    (wide_project.path / "sub").mkdir()
    text = wide_project.run("--scylla", cwd=wide_project.path / "sub").stdout.str()
    (command,) = re.findall(r"pytest --scylla-exp=.*", text)
    again = wide_project.run(*shlex.split(command)[1:], cwd=wide_project.path / "sub")
    assert again.ret == 1
    assert len(outcomes(again)) == 4


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_many_items_that_were_left_for_a_limit_are_listed_with_it(
    wide_project: Project, wide_judge: ScriptedJudge, args: tuple[str, ...]
) -> None:
    for run in list(run_ids(WIDE))[:11]:
        for slot in SLOTS:
            lose_slot(wide_project.experiment, f"{run}/{slot}")
    result = wide_project.audit("--repair", "--repair-max-calls=1", *args)
    assert len(wide_judge.asked) == 1
    failed = result.parseoutcomes()["failed"]
    assert f"{failed} items are not sound, by cause" in result.stdout.str()
    slots = re.findall(r"(\d+) judge slots failed, not run: judgment-missing", result.stdout.str())
    assert sum(map(int, slots)) == 32
    assert result.outlines.count("    not run: calls: at most 1 call: 1 made or under way") == len(slots)
    assert "10 runs results: no-complete-slot" in result.outlines
    assert failed == 32 + 10
    assert "FAILED exp/" not in result.stdout.str()


def test_failures_of_others_are_shown_in_full_beside_the_listing(wide_project: Project) -> None:
    wide_project.write("test_a.py", ORDINARY_FAILURE)
    _lose_runs(wide_project, 9)
    result = wide_project.audit("test_a.py")
    text = result.stdout.str()
    assert "assert left == right" in text
    assert "FAILED test_a.py::test_ordinary" in text
    assert "9 runs missing" in text
    assert "FAILED exp/" not in text
    result.assert_outcomes(passed=12, failed=39)


@pytest.mark.parametrize("args", [("-v",), ("--tb=short",), ("--tb=long",), ("--tb=line",), ("-v", "--tb=native")])
def test_with_v_or_tb_many_failures_are_shown_as_pytest_does(wide_project: Project, args: tuple[str, ...]) -> None:
    _lose_runs(wide_project, 9)
    text = wide_project.audit(*args).stdout.str()
    assert text.count("FAILED exp/") == 4 * 9 + len(WHOLES)
    assert re.search(r"T0/01/run_03(: |/run_result\.json:1: )missing \(run-missing\)", text)


def test_many_failures_are_listed_by_cause_with_workers(wide_project: Project) -> None:
    _lose_runs(wide_project, 9)
    result = wide_project.audit("-n", "2")
    assert result.ret == 1
    assert "9 runs missing" in result.stdout.str()
    assert "FAILED exp/" not in result.stdout.str()


def test_the_listing_is_the_same_with_workers(wide_project: Project) -> None:
    _lose_runs(wide_project, 8)
    lose_slot(wide_project.experiment, "T1/01/run_04/judge_02")

    def listing(result: pytest.RunResult) -> list[str]:
        start = next(i for i, line in enumerate(result.outlines) if "by cause" in line)
        return result.outlines[start:-1]

    assert listing(wide_project.audit("-n", "2")) == listing(wide_project.audit())


def test_many_failures_of_several_experiments_are_told_apart(wide_project: Project, wide_experiment: Path) -> None:
    other = wide_project.copy(wide_experiment, "other")
    _lose_runs(wide_project, 4)
    for run in list(run_ids(WIDE))[-5:]:
        lose_run(other, run)
    text = wide_project.audit("--scylla-exp=other").stdout.str()
    assert re.search(r"\b4 runs missing\b", text)
    assert re.search(r"\b5 runs missing\b", text)
    assert "--scylla-exp=exp" in text
    assert "--scylla-exp=other" in text


# The summary


def test_the_summary_counts_runs_and_judge_slots_by_status(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    text = project.audit().stdout.str()
    assert summary_line(text, "runs ") == {
        "expected": 6,
        "completed": 4,
        "results": 1,
        "missing": 1,
    }
    assert summary_line(text, "judge slots ") == {
        "expected": 18,
        "complete": 14,
        "failed": 1,
        "agent_failed": 3,
    }
    judges = [line.split() for line in text.splitlines() if line.startswith("judge_0")]
    assert judges == [
        ["judge_01", "(judge-large-1)", "6", "5", "-", "1"],
        ["judge_02", "(judge-medium-1)", "6", "4", "1", "1"],
        ["judge_03", "(judge-small-1)", "6", "5", "-", "1"],
    ]


def test_the_summary_covers_the_whole_matrix_whatever_was_selected(project: Project) -> None:
    text = project.audit("-k", "T0").stdout.str()
    assert summary_line(text, "runs ")["expected"] == 6
    assert summary_line(text, "runs ")["completed"] == 2
    assert summary_line(text, "runs ")["not audited"] == 4
    assert summary_line(text, "judge slots ")["not audited"] == 12


def test_the_summary_counts_warnings_by_code(project: Project) -> None:
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    (project.experiment / "T0/00/run_02/agent/timing.json").unlink()
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True)
    (project.experiment / "T1/01/run_03").mkdir()
    result = project.audit()
    assert result.ret == 0
    text = result.stdout.str()
    assert re.search(r"\b2 +side-file-missing\b", text)
    assert re.search(r"\b1 +fallback\b", text)
    assert re.search(r"\b1 +extra-run\b", text)
    assert "T0/00/run_02/agent/timing.json" not in text


def test_v_lists_every_warning(project: Project) -> None:
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True)
    (project.experiment / "T1/01/run_03").mkdir()
    text = project.audit("-v").stdout.str()
    for part in ("T0/00/run_01/agent/timing.json", "T1/01/run_01/judge/judge_01/judgment.json", "T1/01/run_03"):
        assert any(part in line and "warning" in line for line in text.splitlines()), part


def test_q_shortens_the_summary(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    (project.experiment / "T1/02/run_02/agent/timing.json").unlink()
    usual, quiet = project.audit(), project.audit("-q")
    assert len(quiet.outlines) < len(usual.outlines)
    text = quiet.stdout.str()
    assert summary_line(text, "runs ")["completed"] == 4
    assert summary_line(text, "judge slots ")["complete"] == 14
    assert "judge_01 (judge-large-1)" not in text
    silent = project.audit("-qq")
    assert len(silent.outlines) < len(quiet.outlines)
    assert silent.ret == 1


def test_a_healthy_experiment_has_no_warnings_in_its_summary(project: Project) -> None:
    lines = project.audit("-v").outlines
    start = next(i for i, line in enumerate(lines) if line.startswith("runs "))
    assert "warning" not in "".join(lines[start:])


def test_collect_only_prints_no_summary(project: Project) -> None:
    assert "judge slots   " not in project.audit("--co").stdout.str()


def test_slots_that_are_fallbacks_are_counted(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True)
    assert summary_line(project.audit().stdout.str(), "judge slots ")["fallback"] == 1


# What fails an item


def test_strict_makes_every_warning_fail_its_item(project: Project) -> None:
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True)
    assert project.audit().ret == 0
    result = project.audit("--scylla-strict")
    assert result.ret == 1
    assert with_outcome(result, "failed") == node_ids(["T0/00/run_01", "T1/01/run_01/judge_01"])
    assert "side-file-missing" in "".join(_section(result, "T0/00/run_01"))


def test_strict_is_green_for_a_healthy_experiment(project: Project) -> None:
    assert project.audit("--scylla-strict").ret == 0


def test_a_fallback_can_be_made_a_failure(project: Project) -> None:
    edit_json(judgment_of(project.experiment, "T1/01/run_01/judge_01"), fallback=True)
    project.write("pytest.ini", "[pytest]\nscylla_fallback = fail\n")
    result = project.audit()
    assert with_outcome(result, "failed") == node_ids(["T1/01/run_01/judge_01"])
    assert _section(result, "T1/01/run_01/judge_01")[0].startswith("T1/01/run_01/judge_01: failed")


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_a_tier_of_which_nobody_knows_the_subtests_fails_and_names_scylla_subtests(
    project: Project, args: tuple[str, ...]
) -> None:
    edit_config(project.experiment, tiers_to_run=["T0", "T1", "T2"])
    result = project.audit(*args, "--scylla-report=report.json")
    assert result.ret == 1
    assert "--scylla-subtests" in result.stdout.str()
    assert "T2" in result.stdout.str()
    assert project.report()["exit_bits"] & 4
    assert project.only_experiment()["completeness"] is None
    assert [item["id"] for item in project.only_experiment()["items"]] == ["T2"]


def test_a_tier_of_which_nobody_knows_the_subtests_is_not_hidden_by_a_selection_of_it(project: Project) -> None:
    edit_config(project.experiment, tiers_to_run=["T0", "T1", "T2"])
    assert project.audit("-k", "T2").ret == 1
    first = project.audit()
    failing = with_outcome(first, "failed")
    assert len(failing) == 1
    assert list(outcomes(project.audit("--lf"))) == failing


def test_an_experiment_of_unknown_tiers_only_is_not_green(project: Project) -> None:
    edit_config(project.experiment, tiers_to_run=["T8"])
    assert project.audit().ret == 1


# What is escaped


def _assert_harmless(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text.replace("\r\n", "\n"))
    for word in ("::error", "##[", "##vso["):
        assert word not in text


@pytest.mark.parametrize("args", [(), ("-v",), ("-q",), ("-rA", "--tb=long"), ("-n", "2"), ("--scylla-strict",)])
@pytest.mark.parametrize("text", [NASTY, f"{NASTY}\n::error::boom\r\n##[error]x", "\ud800\x00\x1b[2J"])
def test_texts_of_an_experiment_are_escaped_on_the_terminal(project: Project, args: tuple[str, ...], text: str) -> None:
    root = project.experiment
    models = [text, "judge-medium-1", "judge-small-1"] if "\ud800" not in text else ["a\x1b[2J", "b", "c"]
    edit_config(root, judge_models=models, experiment_id=f"exp{models[0]}", models=[models[0]])
    edit_json(judgment_of(root, "T0/00/run_01/judge_01"), reasoning=text)
    edit_json(judgment_of(root, "T0/00/run_02/judge_02"), score=text, passed=text, reasoning=[text])
    edit_json(judgment_of(root, "T1/01/run_01/judge_02"), fallback=True, fallback_reason=text)
    edit_json(root / "T1/01/run_02/run_result.json", judge_grade=text, judge_reasoning=text)
    edit_json(root / "T1/02/run_01/agent/result.json", **{text: {text: text}, "exit_code": text})
    (root / "T1/02/run_02/judge/judge_03/MODEL.md").write_text(f"**Model**: {text}\n", "utf-8", "surrogatepass")
    (root / "T1/02/run_03").mkdir()
    result = project.audit(*args)
    assert result.ret == 1, printed(result)
    assert "INTERNALERROR" not in printed(result)
    _assert_harmless(printed(result))


def test_texts_of_a_configuration_are_escaped_in_usage_errors(project: Project) -> None:
    edit_config(project.experiment, tiers_to_run=["T0", NASTY])
    _assert_harmless(printed(project.audit()))


def test_the_name_of_a_directory_is_escaped_on_the_terminal(empty_project: Project, lean_experiment: Path) -> None:
    name = "ex\x1b[31m\n::error::p"
    root = empty_project.copy(lean_experiment, name)
    damaged_in_several_ways(root)
    result = empty_project.run(f"--scylla-exp={name}", "-v")
    assert result.ret == 1
    _assert_harmless(printed(result))
    (root / "config" / "experiment.json").write_text("{")
    _assert_harmless(printed(empty_project.run(f"--scylla-exp={name}")))


# What nobody reads


def _leak_candidates(log: Path) -> dict[str, str]:
    """Damaged versions of a command log, whose finding would quote the secret if anything did."""
    data = json.loads(log.read_text("utf-8"))
    command = data["commands"][0]

    def with_command(**changes: object) -> str:
        return json.dumps({**data, "commands": [{**command, **changes}]})

    return {
        "as-it-is": json.dumps(data),
        "cut-off-behind": log.read_text("utf-8").partition(SECRET)[0] + SECRET,
        "value-list": with_command(env_vars={"ANTHROPIC_API_KEY": [SECRET]}),
        "value-object": with_command(env_vars={"ANTHROPIC_API_KEY": {SECRET: SECRET}}),
        "key": with_command(env_vars={SECRET: 1}),
        "text": with_command(env_vars=SECRET),
        "list": with_command(env_vars=[f"ANTHROPIC_API_KEY={SECRET}"]),
        "key-twice": log.read_text("utf-8").replace('"HOME"', f'"{SECRET}": "{SECRET}", "{SECRET}": "1", "HOME"'),
        "number-behind": log.read_text("utf-8").replace(f'"{SECRET}"', f'"{SECRET}", "X": NaN'),
        "exit-code": with_command(exit_code={"env_vars": SECRET}),
        "cwd": with_command(cwd="/elsewhere/T9/99/run_99/workspace", env_vars={"A": SECRET}),
    }


LEAKS = (
    "as-it-is",
    "cut-off-behind",
    "value-list",
    "value-object",
    "key",
    "text",
    "list",
    "key-twice",
    "number-behind",
    "exit-code",
    "cwd",
)


@pytest.mark.parametrize("name", LEAKS)
def test_no_secret_of_the_environment_appears_anywhere(project: Project, name: str) -> None:
    log = project.experiment / "T0/00/run_01/agent/command_log.json"
    log.write_text(_leak_candidates(log)[name])
    lose_run_result(project.experiment, "T0/00/run_01")
    lose_run_result(project.experiment, "T1/01/run_01")
    outputs = ("--scylla-report=report.json", "--junitxml=junit.xml")
    result = project.audit(*outputs, "-vv", "-rA", "--tb=long", "-l", "--scylla-strict", alone=name != "value-object")
    assert result.ret == 1
    assert SECRET not in printed(result)
    for file in ("report.json", "junit.xml", ".pytest_cache/v/cache/lastfailed"):
        assert SECRET not in (project.path / file).read_text("utf-8"), file


def test_no_secret_appears_in_the_files_of_other_plugins(project: Project) -> None:
    pytest.importorskip("pytest_html")
    pytest.importorskip("pytest_reportlog")
    damaged_in_several_ways(project.experiment)
    log = project.experiment / "T1/01/run_01/agent/command_log.json"
    log.write_text(_leak_candidates(log)["value-object"])
    outputs = ("--html=report.html", "--self-contained-html", "--report-log=log.jsonl")
    assert project.audit_apart(*outputs, "-n", "2", alone=False).ret == 1
    for file in ("report.html", "log.jsonl"):
        assert SECRET not in (project.path / file).read_text("utf-8"), file
