"""A repair beside others: a conftest.py's ``scylla_regenerate``, other plugins, other tests, and a second repair."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ..unit.repairing import journal, quarantined, staged, tree
from .support import (
    BUT_WHOLES,
    FREE,
    FREE_FILES,
    FREE_ITEMS,
    NASTY,
    SLOTS,
    WARNED,
    WARNED_FILE,
    Project,
    acted_on,
    beyond_rebuilding,
    damaged_for_free,
    experiment_of_repair,
    item_ids,
    items_of_repair,
    logged,
    lose_judgment,
    lose_run_result,
    lose_slot,
    never_begin,
    node_id,
    node_ids,
    outcomes,
    printed,
    report_of_repair,
    run_result_of,
    snapshot,
    with_outcome,
    without_durations,
    write_logging,
)

REPORT = "--scylla-report=report.json"
REPAIRED = (*FREE_ITEMS, WARNED)
STDERR = "agent/stderr.log"
FULL_PROTOCOL = "def pytest_runtest_setup(item):\n    pass\n"


@pytest.fixture
def damaged(project: Project) -> Project:
    """The project with an experiment of which everything that is wrong can be put right for free."""
    damaged_for_free(project.experiment)
    return project


def _module(project: Project, text: str, name: str = "conftest.py") -> None:
    contract = "from pytest_scylla.repair.request import CannotRegenerate, Regenerated\n\n\n"
    write_logging(project, contract + text, name)


# The fixture scylla_regenerate

DECLINES = """\
@pytest.fixture
def scylla_regenerate():
    def regenerate(request):
        log(request.name)
        raise CannotRegenerate("not on a Friday")

    return regenerate
"""

FALLS_BACK = """\
@pytest.fixture
def scylla_regenerate(scylla_regenerate):
    def regenerate(request):
        log(request.name)
        return scylla_regenerate(request)

    return regenerate
"""


def test_a_conftest_decides_how_files_are_rebuilt(damaged: Project) -> None:
    _module(damaged, DECLINES)
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", REPORT, *BUT_WHOLES)
    assert result.ret == 1
    assert sorted(with_outcome(result, "failed")) == sorted(node_ids(FREE))
    assert "run_result.json not rebuilt: not on a Friday" in result.stdout.str()
    assert {action["reason"] for actions in acted_on(damaged).values() for action in actions} == {"not on a Friday"}
    assert {action["outcome"] for actions in acted_on(damaged).values() for action in actions} == {"refused"}
    assert snapshot(damaged.experiment) == before


def test_an_override_can_fall_back_on_the_original(damaged: Project) -> None:
    _module(damaged, FALLS_BACK)
    assert damaged.audit("--repair").ret == 0
    assert {"run_result.json", "judge/judge_02/judgment.json", "agent/output.txt"} <= {*logged(damaged)}
    assert damaged.audit("--scylla-strict").ret == 0


def test_an_override_under_another_name_counts(damaged: Project) -> None:
    _module(
        damaged, DECLINES.replace("def scylla_", "def another_").replace("fixture", "fixture(name='scylla_regenerate')")
    )
    assert damaged.audit("--repair").ret == 1
    assert logged(damaged)


def test_an_override_below_rootdir_applies_where_pytest_was_started(damaged: Project) -> None:
    damaged.write("pytest.ini", "[pytest]\n")
    (damaged.path / "sub").mkdir()
    _module(damaged, FALLS_BACK)
    _module(damaged, DECLINES, "sub/conftest.py")
    assert damaged.audit("--repair", cwd=damaged.path / "sub").ret == 1
    assert damaged.audit("--repair").ret == 0


def test_an_override_of_a_directory_of_tests_does_not_reach_the_experiment(damaged: Project) -> None:
    _module(damaged, DECLINES, "tests/conftest.py")
    damaged.write("tests/test_a.py", "def test_one():\n    pass\n")
    assert damaged.audit("--repair", "tests").ret == 0
    assert logged(damaged) == []


def test_the_plugins_own_wins_over_a_module_loaded_by_p(damaged: Project) -> None:
    _module(damaged, DECLINES, "declining.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(damaged.path)
        result = damaged.audit("--repair", "-p", "declining")
    assert result.ret == 0
    assert logged(damaged) == []


def test_a_conftest_wins_over_a_module_loaded_by_p(damaged: Project) -> None:
    _module(damaged, FALLS_BACK)
    damaged.write("other.py", "import pytest\n\n\n@pytest.fixture\ndef scylla_regenerate():\n    raise RuntimeError\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(damaged.path)
        result = damaged.audit("--repair", "-p", "other")
    assert result.ret == 0
    assert logged(damaged)


def test_an_override_in_an_experiment_is_never_imported(damaged: Project) -> None:
    for place in ("", "T1/", "T1/01/run_01/"):
        _module(damaged, "log('imported')\n\n\n" + DECLINES, f"exp/{place}conftest.py")
    assert damaged.audit("--repair").ret == 0
    assert logged(damaged) == []


LIVES = """\
@pytest.fixture(scope="{scope}")
def scylla_regenerate(scylla_regenerate):
    log("begin")
    yield scylla_regenerate
    log("end")
"""


@pytest.mark.parametrize(("scope", "lives"), [("session", 1), ("module", 5), ("function", 5)])
def test_an_override_lives_as_long_as_its_scope_says(damaged: Project, scope: str, lives: int) -> None:
    _module(damaged, LIVES.format(scope=scope))
    assert damaged.audit("--repair").ret == 0
    assert logged(damaged) == ["begin", "end"] * lives  # five runs have something to repair, each of them once


@pytest.mark.parametrize("scope", ["session", "function"])
def test_it_is_asked_for_only_where_there_is_something_to_repair(project: Project, scope: str) -> None:
    _module(project, LIVES.format(scope=scope))
    assert project.audit("--repair").ret == 0
    assert logged(project) == []
    lose_run_result(project.experiment, "T1/01/run_01")
    assert project.audit("--repair", "-k", "T0").ret == 0
    assert logged(project) == []
    assert project.audit().ret == 1
    assert logged(project) == []
    assert project.audit("--repair").ret == 0
    assert logged(project) == ["begin", "end"]


def test_it_is_asked_for_by_a_plan_as_well_and_writes_nothing(damaged: Project) -> None:
    _module(damaged, FALLS_BACK)
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair-plan")
    assert result.ret == 1
    assert "run_result.json" in logged(damaged)
    assert result.stdout.str().count("\n  would rebuild ") >= 7
    assert snapshot(damaged.experiment) == before


def test_a_plan_of_an_override_is_what_its_repair_does(damaged: Project) -> None:
    _module(
        damaged,
        FALLS_BACK.replace(
            "        return",
            "        if 'output' in request.name:\n            raise CannotRegenerate('no')\n        return",
        ),
    )
    damaged.audit("--repair-plan", "--tb=no", "-v")
    planned = damaged.audit("--repair-plan", "--tb=no").stdout.str()
    files = re.findall(r"^  would rebuild (\S+)", planned, re.MULTILINE)
    before = tree(damaged.experiment)
    assert damaged.audit("--repair").ret == 1
    after = tree(damaged.experiment)
    assert sorted(files) == sorted(name for name in after if after[name] != before.get(name))
    assert FREE_FILES["T0/00/run_02"][0] not in files


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_fixture_that_fails_is_shown_as_its_authors_error_and_nothing_is_written(
    damaged: Project, workers: str
) -> None:
    _module(damaged, "@pytest.fixture\ndef scylla_regenerate():\n    raise RuntimeError('in my fixture')\n")
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", REPORT, "-n", workers, *BUT_WHOLES)
    assert result.ret == 1
    text = result.stdout.str()
    assert "INTERNALERROR" not in printed(result)
    assert "RuntimeError: in my fixture" in text
    assert "conftest.py:" in text
    bad = {nodeid for nodeid, outcome in outcomes(result).items() if outcome != "passed"}
    assert bad == {*node_ids([*FREE, WARNED])}
    assert snapshot(damaged.experiment) == before
    assert report_of_repair(damaged)["exit_bits"] & 4


FAILS = """\
@pytest.fixture
def scylla_regenerate(scylla_regenerate):
    def regenerate(request):
        if request.name.endswith({name!r}):
            raise {error}
        return scylla_regenerate(request)

    return regenerate
"""


@pytest.mark.parametrize(
    "error", ["RuntimeError('in my function')", "KeyError('in my function')", "OSError(28, 'in my function')"]
)
def test_a_function_that_fails_is_shown_with_its_traceback_and_nothing_of_the_run_is_written(
    damaged: Project, error: str
) -> None:
    _module(damaged, FAILS.format(name="/judgment.json", error=error))
    before = tree(damaged.experiment)
    result = damaged.audit("--repair", *BUT_WHOLES)
    assert result.ret == 1
    text = result.stdout.str()
    assert "in my function" in text
    assert "conftest.py:" in text
    after = tree(damaged.experiment)
    for run in ("T1/01/run_02", "T1/02/run_01"):
        assert {name: entry for name, entry in before.items() if name.startswith(run)} == {
            name: entry for name, entry in after.items() if name.startswith(run)
        }
    assert {name for name in after if after[name] != before.get(name)} == {
        *(WARNED_FILE, "T0/00/run_02/agent/output.txt", "T1/01/run_01/run_result.json")
    }
    assert {"exp/T1/01/run_02::judge_01", "exp/T1/02/run_01::judge_02"} <= {*with_outcome(result, "failed")}


@pytest.mark.parametrize(
    "value",
    ["Regenerated(b'{', ())", "Regenerated(b'', ())", "Regenerated(b'\\xff\\x00', ())", "Regenerated(b'[1]', ())"],
)
def test_bytes_that_put_nothing_right_are_refused(damaged: Project, value: str) -> None:
    _module(
        damaged,
        f"@pytest.fixture\ndef scylla_regenerate():\n    return lambda request: {value}\n",
    )
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", "--scylla-select=T1/01/run_01", REPORT)
    assert result.ret == 1
    (action,) = acted_on(damaged)["T1/01/run_01"]
    assert (action["what"], action["outcome"]) == ("run_result.json", "refused")
    assert "what survives does not put it right (run-result-" in action["reason"]
    assert f"run_result.json not rebuilt: {action['reason']}" in result.stdout.str()
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("value", ["None", "b'{}'", "'text'"])
def test_something_else_than_a_regenerated_fails_the_item_and_writes_nothing(damaged: Project, value: str) -> None:
    _module(damaged, f"@pytest.fixture\ndef scylla_regenerate():\n    return lambda request: {value}\n")
    before = snapshot(damaged.experiment)
    result = damaged.audit("--repair", "--scylla-select=T1/01/run_01")
    assert result.ret == 1
    assert "INTERNALERROR" not in printed(result)
    assert snapshot(damaged.experiment) == before


def test_a_rebuilt_record_that_contradicts_others_is_refused(damaged: Project) -> None:
    _module(
        damaged,
        "import json\n\n\n"
        "@pytest.fixture\ndef scylla_regenerate(scylla_regenerate):\n"
        "    def regenerate(request):\n"
        "        made = scylla_regenerate(request)\n"
        "        record = json.loads(made.data)\n"
        "        record['score'] = 0.01 if record.get('score') != 0.01 else 0.99\n"
        "        return Regenerated(json.dumps(record).encode(), made.sources)\n\n"
        "    return regenerate\n",
    )
    before = snapshot(damaged.experiment)
    assert damaged.audit("--repair", "--scylla-select=T1/02/run_01/judge_02", REPORT).ret == 1
    (action, *_) = acted_on(damaged)["T1/02/run_01/judge_02"]
    assert action["outcome"] == "refused"
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("reason", ["the archive is offline", NASTY, "two\nlines", ""])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_reason_is_shown_and_printed_harmlessly(damaged: Project, reason: str, workers: str) -> None:
    _module(
        damaged,
        "@pytest.fixture\ndef scylla_regenerate():\n    def regenerate(request):\n"
        f"        raise CannotRegenerate({reason!r})\n\n    return regenerate\n",
    )
    result = damaged.audit("--repair", REPORT, "-rA", "-v", "-n", workers, *BUT_WHOLES)
    assert result.ret == 1
    text = printed(result)
    assert "INTERNALERROR" not in text
    for part in ("\x1b", "\x07", "\x9b", "\u202e", "::error", "##[", "##vso"):
        assert part not in text
    assert not any(line.startswith("lines") for line in result.outlines)
    if reason.isprintable() and reason:
        assert text.count(reason) >= len(FREE)
        assert {a["reason"] for actions in acted_on(damaged).values() for a in actions} == {reason}


def test_an_override_may_rebuild_what_the_original_cannot(project: Project) -> None:
    beyond_rebuilding(project.experiment, "T1/02/run_02")
    kept = project.write(
        "archive/timing.json", json.dumps({"agent_duration_seconds": 12.5, "measured_at": "2026-02-02T09:00:00+00:00"})
    )
    _module(
        project,
        "@pytest.fixture\ndef scylla_regenerate(scylla_regenerate):\n    def regenerate(request):\n"
        "        if request.name == 'agent/timing.json':\n"
        f"            return Regenerated(Path({str(kept)!r}).read_bytes(), ())\n"
        "        return scylla_regenerate(request)\n\n    return regenerate\n",
    )
    result = project.audit("--repair", REPORT)
    assert result.ret == 0
    assert outcomes(result)[node_id("T1/02/run_02")] == "passed"
    done = [action["what"] for action in acted_on(project)["T1/02/run_02"]]
    assert {"agent/output.txt", "agent/timing.json", "run_result.json"} <= {*done}
    assert json.loads(run_result_of(project.experiment, "T1/02/run_02").read_text())["agent_duration_seconds"] == 12.5


# Both protocols, and plugins that take part


@pytest.mark.parametrize("option", ["--repair", "--repair-plan"])
@pytest.mark.parametrize("scope", ["hook", "plugin", "autouse", "override"])
def test_whichever_protocol_runs_the_items_the_report_is_the_same(
    empty_project: Project, pristine_experiment: Path, option: str, scope: str
) -> None:
    told = []
    for name in ("plain", "full"):
        root = empty_project.copy(pristine_experiment, "exp")
        damaged_for_free(root)
        beyond_rebuilding(root, "T1/02/run_02")
        args: tuple[str, ...] = ()
        if name == "full" and scope == "plugin":
            args = ("-p", "benchmarks.own_protocol")
        elif name == "full":
            text = {
                "hook": FULL_PROTOCOL,
                "autouse": "@pytest.fixture(autouse=True)\ndef each():\n    yield\n",
                "override": FALLS_BACK,
            }[scope]
            _module(empty_project, text)
        result = empty_project.audit(option, *args, REPORT, "--junitxml=junit.xml", "-v")
        report = without_durations(report_of_repair(empty_project))
        shown = [" ".join(line.split()[:2]) for line in result.outlines if "%]" in line]
        junit = re.sub(r'(time|timestamp|hostname)="[^"]*"', "", (empty_project.path / "junit.xml").read_text("utf-8"))
        told.append((result.ret, shown, report, tree(root), outcomes(result), junit))
        root.rename(empty_project.path / name)
    assert told[0] == told[1]


EACH = """\
@pytest.fixture(autouse=True)
def each(request):
    log("before", request.node.nodeid)
    yield
    log("after", request.node.nodeid)
"""


def test_autouse_fixtures_surround_items_that_are_repaired(damaged: Project) -> None:
    _module(damaged, EACH)
    assert damaged.audit("--repair").ret == 0
    assert logged(damaged) == [f"{word} {nodeid}" for nodeid in node_ids() for word in ("before", "after")]


def test_an_autouse_fixture_that_fails_leaves_the_repair_to_the_next_item_of_the_run(project: Project) -> None:
    lose_judgment(project.experiment, "T0/00/run_01/judge_01")
    lose_judgment(project.experiment, "T0/00/run_01/judge_02")
    _module(
        project,
        "@pytest.fixture(autouse=True)\ndef broken(request):\n"
        "    assert request.node.nodeid != 'exp/T0/00/run_01::judge_01'\n",
    )
    result = project.audit("--repair", REPORT)
    assert result.ret == 1
    assert with_outcome(result, "error") == ["exp/T0/00/run_01::judge_01"]
    assert result.parseoutcomes()["repaired"] == 1 + 1  # and the aggregates, once the run counts again
    (project.path / "conftest.py").unlink()
    assert project.audit().ret == 0


def test_an_item_that_is_to_fail_or_be_skipped_by_a_marker_does_not_stop_the_others(damaged: Project) -> None:
    _module(
        damaged,
        "def pytest_collection_modifyitems(items):\n    for item in items:\n"
        "        if item.nodeid.endswith('judge_03'):\n            item.add_marker(pytest.mark.skip(reason='known'))\n",
    )
    result = damaged.audit("--repair")
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": 12, "repaired": len(REPAIRED), "skipped": 6}


def test_setup_show_names_the_fixture_of_an_item_that_is_repaired(damaged: Project) -> None:
    result = damaged.audit("--repair", "--setup-show", "-k", "T1/01/run_01 or T0")
    assert result.ret == 0
    assert "SETUP    S scylla_regenerate" in result.stdout.str()
    assert "Traceback" not in printed(result)


def test_fixtures_lists_the_repairs_with_its_contract(project: Project) -> None:
    text = project.audit("--repair", "--fixtures", "-v").stdout.str()
    assert "scylla_regenerate" in text
    assert "CannotRegenerate" in text


@pytest.mark.parametrize("name", ["xdist", "cacheprovider", "junitxml", "logging", "stepwise", "faulthandler"])
def test_a_repair_works_without_another_of_pytests_plugins(damaged: Project, name: str) -> None:
    result = damaged.audit("--repair", "-p", f"no:{name}", REPORT)
    assert result.ret == 0
    assert experiment_of_repair(damaged)["repairs"]["regenerated"] == 7


def test_a_repair_works_without_a_terminal(damaged: Project) -> None:
    result = damaged.audit_apart("--repair", "-p", "no:terminal", REPORT)
    assert result.ret == 0
    assert printed(result).strip() == ""
    assert {item["outcome"] for item in items_of_repair(damaged).values()} == {"repaired"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_repair_causes_no_warning(damaged: Project, workers: str) -> None:
    result = damaged.audit_apart("--repair", "-W", "error", "-rA", "-n", workers)
    assert result.ret == 0
    assert result.parseoutcomes() == {"passed": len(item_ids()) - len(REPAIRED), "repaired": len(REPAIRED)}


def test_stepwise_goes_on_over_what_is_repaired(damaged: Project) -> None:
    lose_slot(damaged.experiment, "T1/01/run_01/judge_01")
    first = damaged.audit("--repair", "--sw")
    assert [*outcomes(first)][-1] == "exp/T1/01/run_01::judge_01"
    assert damaged.audit("--repair", "--sw", "--sw-skip").ret != 4
    assert not (damaged.experiment / "T1/01/run_01/judge/judge_01/judgment.json").exists()


def test_pytest_html_lists_what_was_repaired(damaged: Project) -> None:
    pytest.importorskip("pytest_html")
    result = damaged.audit_apart("--repair", "--html=report.html", "--self-contained-html", alone=False)
    assert result.ret == 0
    page = (damaged.path / "report.html").read_text("utf-8")
    assert all(nodeid in page for nodeid in node_ids())
    assert result.parseoutcomes()["repaired"] == len(REPAIRED)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_pytest_reportlog_holds_what_was_done(damaged: Project, workers: str) -> None:
    pytest.importorskip("pytest_reportlog")
    assert damaged.audit("--repair", "--report-log=log.jsonl", "-n", workers).ret == 0
    lines = [json.loads(line) for line in (damaged.path / "log.jsonl").read_text("utf-8").splitlines()]
    calls = [line for line in lines if line["$report_type"] == "TestReport" and line["when"] == "call"]
    assert sorted(call["nodeid"] for call in calls) == sorted(node_ids())
    assert {call["outcome"] for call in calls} == {"passed"}
    (run,) = [call for call in calls if call["nodeid"] == "exp/T1/01/run_01::run"]
    properties = dict(run["user_properties"])
    assert properties["status_before"] == "results"
    assert properties["actions"].startswith("rebuilt T1/01/run_01/run_result.json")


# Beside other tests

ORDINARY = """\
import pytest


def test_sound():
    pass


def test_unsound():
    assert 1 + 1 == 3


@pytest.mark.skip
def test_skipped():
    pass


@pytest.mark.xfail(strict=True)
def test_known():
    assert False
"""


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("letter", ["a", "z"])
def test_other_tests_keep_their_own_outcomes(damaged: Project, workers: str, letter: str) -> None:
    damaged.write(f"test_{letter}.py", ORDINARY)
    result = damaged.audit("--repair", ".", "-n", workers, REPORT)
    assert result.ret == 1
    assert result.parseoutcomes() == {
        "passed": len(item_ids()) - len(REPAIRED) + 1,
        "repaired": len(REPAIRED),
        "failed": 1,
        "skipped": 1,
        "xfailed": 1,
    }
    assert report_of_repair(damaged)["exit_bits"] == 1
    assert {*items_of_repair(damaged)} == {*FREE_ITEMS, WARNED}


def test_a_failure_of_another_test_stops_a_repair_that_is_to_stop_at_failures(damaged: Project) -> None:
    damaged.write("test_a.py", ORDINARY)
    before = snapshot(damaged.experiment)
    assert damaged.audit("--repair", "test_a.py", "-x", REPORT).ret == 1
    assert snapshot(damaged.experiment) == before
    assert {item["outcome"] for item in items_of_repair(damaged).values()} == {"not-run", "passed"}
    assert report_of_repair(damaged)["exit_bits"] == 2 + 4


def test_a_test_file_that_cannot_be_imported_leaves_the_experiment_as_it_is(damaged: Project) -> None:
    damaged.write("test_a.py", "raise RuntimeError\n")
    before = snapshot(damaged.experiment)
    assert damaged.audit("--repair", "test_a.py").ret == pytest.ExitCode.INTERRUPTED
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("workers", ["0", "2"])
def test_of_two_experiments_each_is_repaired_by_itself(
    project: Project, pristine_experiment: Path, workers: str
) -> None:
    other = project.copy(pristine_experiment, "other")
    damaged_for_free(other)
    never_begin(other, "T1/02/run_02")
    before = snapshot(project.experiment)
    result = project.audit("--repair", "--scylla-exp=other", "-n", workers, REPORT)
    assert result.ret == 1
    assert snapshot(project.experiment) == before
    absent = [f"T1/02/run_02/{slot}" for slot in SLOTS]
    assert sorted(with_outcome(result, "failed")) == sorted(node_ids([*absent, "T1/02/run_02"], "other"))
    first, second = report_of_repair(project)["experiments"]
    assert (first["repairs"]["regenerated"], second["repairs"]["regenerated"]) == (0, 7)
    text = result.stdout.str()
    assert "other/.scylla/quarantine" in text
    assert "exp/.scylla" not in text


def test_an_experiment_that_cannot_be_loaded_keeps_the_others_from_being_repaired(damaged: Project) -> None:
    (damaged.path / "other" / "config").mkdir(parents=True)
    (damaged.path / "other" / "config" / "experiment.json").write_text("{")
    before = snapshot(damaged.experiment)
    assert damaged.audit("--repair", "--scylla-exp=other").ret == pytest.ExitCode.USAGE_ERROR
    assert snapshot(damaged.experiment) == before


@pytest.mark.parametrize("given", ["elsewhere", "link"])
def test_an_experiment_outside_of_the_project_is_repaired(
    empty_project: Project, pristine_experiment: Path, given: str
) -> None:
    location = f"{empty_project.elsewhere}/exp"
    root = empty_project.copy(pristine_experiment, location)
    damaged_for_free(root)
    if given == "link":
        (empty_project.path / "link").symlink_to(root)
        location = "link"
    assert empty_project.run(f"--scylla-exp={location}", "--repair", "-n", "2").ret == 0
    assert empty_project.run(f"--scylla-exp={location}").ret == 0


# Two at once


@pytest.mark.parametrize("args", [(), ("-n", "2")])
def test_two_repairs_at_once_end_like_one(wide_project: Project, wide_experiment: Path, args: tuple[str, ...]) -> None:
    def damage() -> None:
        for run in sorted(wide_project.experiment.glob("T*/*/run_*")):
            name = str(run.relative_to(wide_project.experiment))
            lose_judgment(wide_project.experiment, f"{name}/judge_02")
            (run / "judge/result.json").write_text("{" + name)
            lose_run_result(wide_project.experiment, name)

    damage()
    assert wide_project.audit("--repair").ret == 0
    one = tree(wide_project.experiment)
    written = Counter(entry["file"] for entry in journal(wide_project.experiment))
    assert set(written.values()) == {1}
    kept = quarantined(wide_project.experiment)
    wide_project.experiment.rename(wide_project.path / "one")
    wide_project.copy(wide_experiment, "exp")
    damage()
    for code, text in wide_project.at_once(("--repair", *args), ("--repair", *args)):
        assert code == 0, text
    assert tree(wide_project.experiment) == one
    assert Counter(entry["file"] for entry in journal(wide_project.experiment)) == written
    assert quarantined(wide_project.experiment) == kept
    assert staged(wide_project.experiment) == []
    assert wide_project.audit().ret == 0


def test_an_audit_beside_a_repair_ends_well_or_tells_what_it_found(wide_project: Project) -> None:
    for run in sorted(wide_project.experiment.glob("T*/*/run_*")):
        lose_run_result(wide_project.experiment, str(run.relative_to(wide_project.experiment)))
    (repair, told), (audit, found) = wide_project.at_once(("--repair",), ())
    assert repair == 0, told
    assert audit in (0, 1), found
    assert "INTERNALERROR" not in found
    assert set(re.findall(r"^  ([a-z-]+): ", found, re.MULTILINE)) <= {"run-result-missing", "repair"}
