"""The project's own conftest.py: its fixtures and hooks apply to runs and judge slots as to any test."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import (
    WHOLES,
    Project,
    counted_ids,
    damaged_in_several_ways,
    item_ids,
    logged,
    lose_run,
    node_ids,
    outcomes,
    printed,
    with_outcome,
    write_logging,
)

EACH = """\
@pytest.fixture(autouse=True)
def each(request):
    log("before", request.node.nodeid)
    yield
    log("after", request.node.nodeid)
"""


@pytest.mark.parametrize("args", [(), ("test_a.py",), (".",)])
def test_autouse_fixtures_of_the_project_surround_every_item(project: Project, args: tuple[str, ...]) -> None:
    failing = damaged_in_several_ways(project.experiment)
    project.write("test_a.py", "def test_one():\n    pass\n")
    write_logging(project, EACH)
    result = project.audit(*args)
    assert with_outcome(result, "failed") == node_ids(failing)
    ours = [line for line in logged(project) if "exp/" in line]
    assert ours == [f"{word} {nodeid}" for nodeid in node_ids() for word in ("before", "after")]


def test_autouse_fixtures_apply_where_the_current_directory_is_below_rootdir(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\n")
    damaged_in_several_ways(project.experiment)
    write_logging(project, EACH)
    (project.path / "deep" / "below").mkdir(parents=True)
    result = project.audit(cwd=project.path / "deep" / "below")
    assert result.ret == 1
    assert [line.split()[1] for line in logged(project)[::2]] == node_ids()


def test_autouse_fixtures_of_the_current_directory_apply_below_rootdir(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\n")
    write_logging(project, EACH, "sub/conftest.py")
    project.write("sub/test_a.py", "def test_one():\n    pass\n")
    for args in ((), ("test_a.py",)):
        (project.path / "log.txt").unlink(missing_ok=True)
        assert project.audit(*args, cwd=project.path / "sub").ret == 0
        assert sum(line.startswith("before exp/") for line in logged(project)) == len(item_ids())


@pytest.mark.parametrize("workers", [0, 2])
def test_autouse_fixtures_apply_to_an_experiment_outside_of_the_project(
    empty_project: Project, pristine_experiment: Path, workers: int
) -> None:
    location = f"{empty_project.elsewhere}/exp"
    lose_run(empty_project.copy(pristine_experiment, location), "T0/00/run_01")
    write_logging(empty_project, EACH)
    result = empty_project.run(f"--scylla-exp={location}", "-n", str(workers))
    assert result.ret == 1
    assert sorted(line.split()[1] for line in logged(empty_project)) == sorted(node_ids() * 2)


def test_fixtures_of_another_directory_do_not_apply(project: Project) -> None:
    write_logging(project, EACH, "tests/conftest.py")
    project.write("tests/test_a.py", "def test_one():\n    pass\n")
    assert project.audit("tests").ret == 0
    assert [line for line in logged(project) if "exp/" in line] == []
    assert len(logged(project)) == 2


def test_a_module_scoped_fixture_lives_once_a_run_and_once_for_what_follows(project: Project) -> None:
    damaged_in_several_ways(project.experiment)
    write_logging(
        project,
        '@pytest.fixture(autouse=True, scope="module")\ndef run(request):\n'
        '    log("begin", request.node.nodeid)\n    yield\n    log("end", request.node.nodeid)\n',
    )
    assert project.audit().ret == 1
    runs = [nodeid.partition("::")[0] for nodeid in node_ids() if not nodeid.rpartition("::")[2].startswith("judge_")]
    assert logged(project) == [f"{word} {run}" for run in runs for word in ("begin", "end")]


@pytest.mark.parametrize("scope", ["session", "package"])
def test_a_session_scoped_fixture_lives_once(project: Project, scope: str) -> None:
    damaged_in_several_ways(project.experiment)
    write_logging(
        project,
        f'@pytest.fixture(autouse=True, scope="{scope}")\ndef whole():\n    log("begin")\n    yield\n    log("end")\n',
    )
    assert project.audit().ret == 1
    assert logged(project) == ["begin", "end"]


def test_a_fixture_that_fails_makes_its_items_errors_that_are_not_green(project: Project) -> None:
    write_logging(
        project,
        "@pytest.fixture(autouse=True)\ndef broken(request):\n"
        "    assert not request.node.nodeid.endswith('run_01::judge_02')\n",
    )
    result = project.audit("--scylla-report=report.json")
    broken = [nodeid for nodeid in node_ids() if nodeid.endswith("run_01::judge_02")]
    assert result.ret == 1
    assert with_outcome(result, "error") == broken
    found = project.only_experiment()
    assert found["not_audited"] == len(broken)
    assert found["completeness"] is None


def test_a_teardown_that_fails_is_an_error_and_leaves_the_verdict(project: Project) -> None:
    write_logging(
        project, "@pytest.fixture(autouse=True)\ndef broken():\n    yield\n    assert False, 'the teardown'\n"
    )
    result = project.audit("-k", "T0 and judge_01", "--scylla-report=report.json")
    assert result.ret == 1
    result.assert_outcomes(passed=2, errors=2)
    assert project.only_experiment()["after"]["judge_slots"]["complete"] == 2


def test_hooks_of_a_conftest_are_called_for_every_item(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    names = ("setup", "call", "teardown")
    hooks = [f"def pytest_runtest_{name}(item):\n    log('{name}', item.nodeid)\n\n\n" for name in names]
    hooks.append("def pytest_runtest_logstart(nodeid):\n    log('start', nodeid)\n\n\n")
    hooks.append("def pytest_runtest_logfinish(nodeid):\n    log('finish', nodeid)\n")
    write_logging(project, "".join(hooks))
    result = project.audit()
    assert with_outcome(result, "failed") == node_ids(failing)
    words = ("start", "setup", "call", "teardown", "finish")
    assert logged(project) == [f"{word} {nodeid}" for nodeid in node_ids() for word in words]


@pytest.mark.parametrize(
    ("hook", "line"),
    [
        ("pytest_runtest_setup(item)", "item.nodeid"),
        ("pytest_runtest_call(item)", "item.nodeid"),
        ("pytest_runtest_teardown(item, nextitem)", "item.nodeid"),
        ("pytest_runtest_protocol(item, nextitem)", "item.nodeid"),
        ("pytest_pyfunc_call(pyfuncitem)", "pyfuncitem.nodeid"),
        ("pytest_runtest_logstart(nodeid, location)", "nodeid"),
        ("pytest_runtest_logfinish(nodeid, location)", "nodeid"),
    ],
)
@pytest.mark.parametrize("below", [False, True])
def test_a_single_hook_of_a_conftest_is_called_for_every_item(
    project: Project, hook: str, line: str, below: bool
) -> None:
    damaged_in_several_ways(project.experiment)
    project.write("pytest.ini", "[pytest]\n")
    (project.path / "sub").mkdir()
    write_logging(project, f"def {hook}:\n    log({line})\n")
    assert project.audit(cwd=project.path / "sub" if below else project.path).ret == 1
    assert logged(project) == node_ids()


def test_reports_can_be_changed_by_awrite_logging(project: Project) -> None:
    failing = damaged_in_several_ways(project.experiment)
    write_logging(
        project,
        "@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_makereport(item, call):\n"
        "    report = yield\n    log(report.when, report.outcome)\n    return report\n",
    )
    assert project.audit().ret == 1
    assert len(logged(project)) == 3 * len(item_ids())
    assert logged(project).count("call failed") == len(failing)


def test_markers_that_a_conftest_adds_count(project: Project) -> None:
    failing = node_ids(damaged_in_several_ways(project.experiment))
    write_logging(
        project,
        "def pytest_collection_modifyitems(items):\n    for item in items:\n"
        "        if item.get_closest_marker('scylla_judge') and 'T0/00/run_02' in item.nodeid:\n"
        "            item.add_marker(pytest.mark.skip(reason='known'))\n"
        "        if item.get_closest_marker('scylla_run') and 'T1/01' in item.nodeid:\n"
        "            item.add_marker(pytest.mark.xfail(reason='known'))\n"
        "        if item.nodeid == 'exp/T1/02/run_02::judge_01':\n"
        "            item.add_marker(pytest.mark.skip(reason='healthy'))\n",
    )
    result = project.audit("--scylla-report=report.json", "-o", "xfail_strict=false")
    assert with_outcome(result, "skipped") == [*failing[:3], "exp/T1/01/run_01::run", "exp/T1/02/run_02::judge_01"]
    assert with_outcome(result, "failed") == [failing[3], *failing[5:]]
    found = project.only_experiment()
    assert found["not_audited"] == 4
    assert found["after"]["runs"]["results"] == 1


def test_items_of_runs_can_be_reordered_and_removed_by_awrite_logging(project: Project) -> None:
    write_logging(project, "def pytest_collection_modifyitems(items):\n    items[:] = items[:3:-1]\n")
    result = project.audit("--scylla-report=report.json")
    assert result.ret == 0
    assert list(outcomes(result)) == node_ids([*reversed(counted_ids()[4:]), *WHOLES])
    assert project.only_experiment()["not_audited"] == 4


def test_command_line_options_of_a_conftest_are_known(project: Project) -> None:
    write_logging(
        project,
        "def pytest_addoption(parser):\n    parser.addoption('--colour')\n\n\n"
        "def pytest_report_header(config):\n    return 'colour ' + config.getoption('--colour')\n",
    )
    result = project.audit("--colour=blue")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["colour blue"])


@pytest.mark.parametrize("option", ["--setup-show", "--setup-plan", "--setup-only", "--fixtures-per-test"])
def test_options_that_show_fixtures_work(project: Project, option: str) -> None:
    write_logging(project, EACH)
    result = project.audit(option)
    assert result.ret == 0
    assert "each" in result.stdout.str()
    assert "Traceback" not in printed(result)


@pytest.mark.parametrize("location", ["conftest.py", "sub/conftest.py"])
def test_a_conftest_that_cannot_be_imported_is_reported_as_ever(project: Project, location: str) -> None:
    project.write("pytest.ini", "[pytest]\n")
    project.write(location, "raise RuntimeError('the conftest')\n")
    (project.path / "sub").mkdir(exist_ok=True)
    result = project.audit(cwd=project.path / "sub")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "the conftest" in printed(result)
