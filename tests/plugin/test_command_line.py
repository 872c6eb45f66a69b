"""What the command line and the ini file may say, and what is refused, with a remedy, in one line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .support import (
    AGGREGATES,
    NASTY,
    WHOLES,
    Project,
    assert_usage_error,
    collected,
    damaged_in_several_ways,
    edit_config,
    edit_json,
    item_ids,
    judgment_of,
    lose_run,
    node_id,
    node_ids,
    outcomes,
    printed,
    snapshot,
    with_outcome,
    without_times,
)

CONFIG = "config/experiment.json"
ORDINARY = "def test_one():\n    pass\n"


# Naming experiments


@pytest.mark.parametrize("form", ["exp", "./exp", "exp/", "ABSOLUTE", "../HERE/exp"])
def test_an_experiment_is_named_by_its_directory(project: Project, form: str) -> None:
    given = form.replace("ABSOLUTE", str(project.experiment)).replace("HERE", project.path.name)
    assert list(outcomes(project.run(f"--scylla-exp={given}"))) == node_ids()


def test_the_experiment_can_be_the_current_directory(project: Project) -> None:
    assert list(outcomes(project.run("--scylla-exp=.", cwd=project.experiment))) == node_ids()


def test_the_space_form_works_below_the_current_directory(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\n")
    project.write("conftest.py", "def pytest_report_header():\n    return 'header of the project'\n")
    result = project.run("--scylla-exp", "exp")
    assert result.ret == 0
    assert list(outcomes(result)) == node_ids()
    result.stdout.fnmatch_lines([f"rootdir: {project.path}", "configfile: pytest.ini"])
    result.stdout.fnmatch_lines(["header of the project"])


def test_the_space_form_works_with_workers_and_positionals(project: Project) -> None:
    project.write("test_a.py", ORDINARY)
    result = project.run("--scylla-exp", "exp", "test_a.py", "-n", "2")
    assert result.ret == 0
    result.assert_outcomes(passed=len(item_ids()) + 1)


def test_the_space_form_is_refused_for_a_directory_outside_of_the_project(
    empty_project: Project, pristine_experiment: Path
) -> None:
    location = f"{empty_project.elsewhere}/exp"
    root = empty_project.copy(pristine_experiment, location)
    empty_project.write("pytest.ini", "[pytest]\n")
    for given in (location, str(root.resolve())):
        line = assert_usage_error(empty_project.run("--scylla-exp", given), "write --scylla-exp=", given)
        assert f"--scylla-exp={given}" in line
        assert empty_project.run(f"--scylla-exp={given}").ret == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\nxfail_strict = true\n"),
        (".pytest.ini", "[pytest]\n"),
        ("tox.ini", "[pytest]\n"),
        ("setup.cfg", "[tool:pytest]\n"),
        ("pyproject.toml", "[tool.pytest.ini_options]\nxfail_strict = true\n"),
    ],
)
@pytest.mark.parametrize("place", ["exp", "."])
def test_the_space_form_is_refused_where_the_experiment_brings_a_configuration(
    empty_project: Project, pristine_experiment: Path, name: str, text: str, place: str
) -> None:
    empty_project.copy(pristine_experiment, "data/exp")
    empty_project.write(f"data/{place}/{name}", text)
    assert_usage_error(empty_project.run("--scylla-exp", "data/exp"), "write --scylla-exp=data/exp")
    result = empty_project.run("--scylla-exp=data/exp")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"rootdir: {empty_project.path}"])


def test_the_equals_form_obeys_no_configuration_of_the_experiment(project: Project) -> None:
    (project.experiment / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option -p no:scylla\n")
    assert project.audit().ret == 0


def test_the_space_form_never_obeys_an_experiment_that_switches_the_plugin_off_silently(project: Project) -> None:
    (project.experiment / "pytest.ini").write_text("[pytest]\naddopts = -p no:scylla\n")
    assert project.run("--scylla-exp", "exp").ret == pytest.ExitCode.USAGE_ERROR


def test_several_experiments_are_audited_in_one_session(project: Project, staged_experiment: Path) -> None:
    project.copy(staged_experiment, "second")
    result = project.run("--scylla-exp=exp", "--scylla-exp=second")
    assert list(outcomes(result)) == [*node_ids(), *node_ids(name="second")]


def test_an_experiment_named_twice_is_audited_once(project: Project) -> None:
    (project.path / "link").symlink_to("exp")
    result = project.run("--scylla-exp=exp", "--scylla-exp=./exp", f"--scylla-exp={project.experiment}")
    assert list(outcomes(result)) == node_ids()


def test_a_directory_of_experiments_is_searched_one_level_deep(
    empty_project: Project, pristine_experiment: Path, staged_experiment: Path
) -> None:
    empty_project.copy(pristine_experiment, "all/first")
    empty_project.copy(staged_experiment, "all/second")
    empty_project.copy(pristine_experiment, "all/notes/too-deep")
    empty_project.write("all/README.md", "# Experiments\n")
    result = empty_project.run("--scylla-exp=all", "--co", "-q")
    assert result.ret == 0
    assert collected(result) == [*node_ids(name="first"), *node_ids(name="second")]


def test_a_directory_of_experiments_with_one_that_lost_its_config_is_an_error(
    empty_project: Project, pristine_experiment: Path, staged_experiment: Path
) -> None:
    empty_project.copy(pristine_experiment, "all/first")
    for source, name in ((pristine_experiment, "second"), (staged_experiment, "third")):
        lost = empty_project.copy(source, f"all/{name}")
        (lost / CONFIG).unlink()
        assert_usage_error(empty_project.run("--scylla-exp=all"), f"all/{name}/{CONFIG}")
        (lost / CONFIG).write_bytes((source / CONFIG).read_bytes())
    assert empty_project.run("--scylla-exp=all").ret == 0


def test_experiments_of_equal_directory_names_are_told_apart_by_their_parents(
    empty_project: Project, pristine_experiment: Path
) -> None:
    empty_project.copy(pristine_experiment, "monday/exp")
    lose_run(empty_project.copy(pristine_experiment, "tuesday/exp"), "T0/00/run_01")
    args = ("--scylla-exp=monday/exp", "--scylla-exp=tuesday/exp")
    result = empty_project.run(*args, "--scylla-report=report.json")
    found = outcomes(result)
    assert len(found) == 2 * len(item_ids())
    names = {nodeid.partition("/T")[0] for nodeid in found if "/T" in nodeid}
    assert len(names) == 2
    assert {day for day in ("monday", "tuesday") for name in names if day in name and "exp" in name} == {
        "monday",
        "tuesday",
    }
    failing = with_outcome(result, "failed")
    assert len(failing) == 4 + len(WHOLES)  # which count the run
    assert all("tuesday" in nodeid for nodeid in failing)
    assert [len(e["items"]) for e in empty_project.report()["experiments"]] == [0, len(failing)]
    assert list(outcomes(empty_project.run(*args, "--lf"))) == failing
    assert empty_project.run(*args, "-n", "2").ret == 1


def test_the_name_of_an_experiment_can_hold_what_means_something_to_pytest(
    empty_project: Project, pristine_experiment: Path
) -> None:
    root = empty_project.copy(pristine_experiment, "a b::c[1]")
    lose_run(root, "T0/00/run_02")
    first = empty_project.run("--scylla-exp=a b::c[1]")
    failing = with_outcome(first, "failed")
    assert len(outcomes(first)) == len(item_ids())
    assert len(failing) == 4 + len(WHOLES)  # which count the run
    assert list(outcomes(empty_project.run("--scylla-exp=a b::c[1]", "--lf"))) == failing


# --scylla, and the ini file


def test_scylla_audits_the_experiments_of_the_ini_file_relative_to_it(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_exp = exp\n")
    (project.path / "deep" / "below").mkdir(parents=True)
    assert list(outcomes(project.run("--scylla"))) == node_ids()
    assert list(outcomes(project.run("--scylla", cwd=project.path / "deep" / "below"))) == node_ids()


def test_scylla_takes_several_experiments_from_the_ini_file(project: Project, pristine_experiment: Path) -> None:
    project.copy(pristine_experiment, "other")
    project.write("pytest.ini", "[pytest]\nscylla_exp =\n    exp\n    other\n")
    assert list(outcomes(project.run("--scylla"))) == [*node_ids(), *node_ids(name="other")]


def test_scylla_takes_experiments_from_pyproject_toml(project: Project) -> None:
    project.write("pyproject.toml", '[tool.pytest.ini_options]\nscylla_exp = ["exp"]\nscylla_strict = true\n')
    assert list(outcomes(project.run("--scylla"))) == node_ids()


@pytest.mark.skipif(int(pytest.__version__.split(".")[0]) < 9, reason="pytest reads no native TOML before 9.0")
def test_scylla_takes_every_ini_option_from_native_toml(project: Project) -> None:
    lines = ["[pytest]", 'scylla_exp = ["exp"]', 'scylla_select = ["T0/*"]', "scylla_strict = true"]
    lines += ['scylla_report = ["report.json"]', 'scylla_fallback = "fail"']
    project.write("pytest.toml", "\n".join(lines) + "\n")
    result = project.run("--scylla")
    assert result.ret == 0
    assert len(outcomes(result)) == 8
    assert project.only_experiment()["selected"] == 8


def test_an_ini_file_named_with_c_is_what_its_paths_are_relative_to(project: Project) -> None:
    project.write("conf/pytest.ini", "[pytest]\nscylla_exp = ../exp\n")
    assert list(outcomes(project.run("--scylla", "-c", "conf/pytest.ini"))) == node_ids()


def test_an_ini_file_alone_does_nothing(project: Project) -> None:
    ini = "scylla_exp = exp\nscylla_select = T0/*\nscylla_strict = true\nscylla_report = report.json\n"
    project.write("pytest.ini", f"[pytest]\n{ini}scylla_fallback = no_such_policy\n")
    project.write("test_a.py", ORDINARY)
    result = project.run()
    assert result.ret == 0
    assert list(outcomes(result)) == ["test_a.py::test_one"]
    assert "scylla:" not in result.stdout.str()
    assert not (project.path / "report.json").exists()


@pytest.mark.parametrize(
    "option",
    ["--scylla", "--scylla-select=T0/*", "--scylla-strict", "--scylla-report=r.json", "--scylla-subtests=defs"],
)
def test_every_option_makes_the_experiments_of_the_ini_file_count(project: Project, option: str) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_exp = exp\n")
    for tier, subtests in (("t0", ["00"]), ("t1", ["01", "02"])):
        for subtest in subtests:
            project.write(f"defs/{tier}/{subtest}-name.yaml", "name: x\n")
    result = project.run(option)
    assert result.ret == 0
    assert len(outcomes(result)) == (8 if "select" in option else len(item_ids()))


@pytest.mark.parametrize(
    "option",
    ["--scylla", "--scylla-select=T0/*", "--scylla-strict", "--scylla-report=r.json", "--scylla-subtests=defs"],
)
def test_without_any_experiment_an_option_is_refused(empty_project: Project, option: str) -> None:
    empty_project.write("test_a.py", ORDINARY)
    assert_usage_error(empty_project.run(option, "test_a.py"), "--scylla-exp=")


def test_the_command_line_goes_before_the_ini_file(project: Project, pristine_experiment: Path) -> None:
    project.copy(pristine_experiment, "other")
    ini = "scylla_exp = no-such-directory\nscylla_select = T1/*\nscylla_report = from-ini.json\n"
    project.write("pytest.ini", f"[pytest]\n{ini}")
    result = project.run("--scylla-exp=other", "--scylla-select=T0/*", "--scylla-report=given.json")
    assert result.ret == 0
    assert list(outcomes(result)) == node_ids([i for i in item_ids() if i.startswith("T0")], "other")
    assert (project.path / "given.json").exists()
    assert not (project.path / "from-ini.json").exists()


def test_scylla_select_has_an_ini_twin(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_select =\n    T0/*\n    */judge_01\n")
    expected = [i for i in item_ids() if i.startswith("T0/") or i.endswith("judge_01")]
    assert list(outcomes(project.audit())) == node_ids(expected)


def test_scylla_report_has_an_ini_twin_relative_to_the_file(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_report = out/report.json\n")
    (project.path / "sub").mkdir()
    assert project.audit(cwd=project.path / "sub").ret == 0
    assert project.only_experiment("out/report.json")["selected"] == 24


def test_scylla_strict_has_an_ini_twin(project: Project) -> None:
    (project.experiment / "T0/00/run_01/agent/timing.json").unlink()
    assert project.audit().ret == 0
    project.write("pytest.ini", "[pytest]\nscylla_strict = true\n")
    assert with_outcome(project.audit(), "failed") == ["exp/T0/00/run_01::run"]


def test_scylla_subtests_has_an_ini_twin_relative_to_the_file(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nscylla_subtests = defs\n")
    project.write("defs/t0/00-empty.yaml", "name: empty\n")
    project.write("defs/t1/01-vanilla.yaml", "name: vanilla\n")
    (project.path / "sub").mkdir()
    result = project.audit(cwd=project.path / "sub")
    assert list(outcomes(result)) == node_ids([i for i in item_ids() if not i.startswith("T1/02")])


@pytest.mark.parametrize(
    ("line", "valid"),
    [
        ("scylla_fallback = maybe", ("warn", "fail")),
        ("scylla_max_file_mib = 0", ("1",)),
        ("scylla_max_file_mib = many", ("MiB",)),
        ("scylla_max_file_mib = -1", ("1",)),
    ],
)
def test_an_ini_option_with_an_impossible_value_is_refused_with_the_possible_ones(
    project: Project, line: str, valid: tuple[str, ...]
) -> None:
    project.write("pytest.ini", f"[pytest]\n{line}\n")
    assert_usage_error(project.audit(), line.split()[0], *valid)


def test_options_can_stand_in_addopts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("pytest.ini", "[pytest]\naddopts = --scylla-exp=exp\n")
    assert list(outcomes(project.run())) == node_ids()
    project.write("pytest.ini", "[pytest]\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--scylla-exp=exp")
    assert list(outcomes(project.run())) == node_ids()


# What is no experiment


@pytest.mark.parametrize("given", ["no-such-directory", "file.txt", "exp/config/experiment.json"])
def test_a_path_that_is_no_directory_is_refused(project: Project, given: str) -> None:
    project.write("file.txt", "")
    assert_usage_error(project.run(f"--scylla-exp={given}"), given)


def test_a_directory_without_any_experiment_is_refused(empty_project: Project) -> None:
    (empty_project.path / "empty" / "below").mkdir(parents=True)
    assert_usage_error(empty_project.run("--scylla-exp=empty"), "empty", CONFIG)


def test_one_experiment_that_cannot_be_read_stops_the_others_as_well(project: Project, wide_experiment: Path) -> None:
    (project.copy(wide_experiment, "other") / CONFIG).write_text("{")
    assert_usage_error(project.run("--scylla-exp=exp", "--scylla-exp=other"), f"other/{CONFIG}")


def _absent(path: Path) -> None:
    path.unlink()


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _text(text: str | bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    return write


def _without(key: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        data = json.loads(path.read_text())
        del data[key]
        path.write_text(json.dumps(data))

    return write


def _with(**changes: Any) -> Callable[[Path], None]:
    return lambda path: edit_json(path, **changes)


@pytest.mark.parametrize(
    ("spoil", "pointer"),
    [
        pytest.param(_absent, "", id="absent"),
        pytest.param(_directory, "", id="directory"),
        pytest.param(_link, "", id="link"),
        pytest.param(_fifo, "", id="fifo"),
        pytest.param(_text(""), "", id="empty"),
        pytest.param(_text("{"), "", id="cut-off"),
        pytest.param(_text("[]"), "", id="list"),
        pytest.param(_text("null"), "", id="null"),
        pytest.param(_text(b"\xff\xfe{}"), "", id="no-utf8"),
        pytest.param(_text(b"\xef\xbb\xbf{}"), "", id="bom"),
        pytest.param(_text('{"a": 1, "a": 2}'), "", id="key-twice"),
        pytest.param(_text('{"runs_per_subtest": NaN}'), "", id="nan"),
        pytest.param(_text('{"a": ' + "[" * 100_000), "", id="deep-cut-off"),
        pytest.param(_text('{"a": ' + "[" * 3000 + "]" * 3000 + "}"), "", id="deep"),
        pytest.param(_text('{"a": ' + "9" * 10_000 + "}"), "", id="long-number"),
        pytest.param(_without("tiers_to_run"), "tiers_to_run", id="no-tiers"),
        pytest.param(_without("judge_models"), "judge_models", id="no-judges"),
        pytest.param(_without("runs_per_subtest"), "runs_per_subtest", id="no-runs"),
        pytest.param(_without("experiment_id"), "experiment_id", id="no-id"),
        pytest.param(_with(runs_per_subtest="2"), "/runs_per_subtest", id="runs-text"),
        pytest.param(_with(runs_per_subtest=True), "/runs_per_subtest", id="runs-bool"),
        pytest.param(_with(runs_per_subtest=0), "/runs_per_subtest", id="runs-0"),
        pytest.param(_with(runs_per_subtest=-3), "/runs_per_subtest", id="runs-negative"),
        pytest.param(_with(runs_per_subtest=2.5), "/runs_per_subtest", id="runs-fraction"),
        pytest.param(_with(runs_per_subtest=100_000), "/runs_per_subtest", id="runs-too-many"),
        pytest.param(_with(runs_per_subtest=10**30), "", id="runs-huge"),
        pytest.param(_with(tiers_to_run="T0"), "/tiers_to_run", id="tiers-text"),
        pytest.param(_with(tiers_to_run=[]), "/tiers_to_run", id="tiers-none"),
        pytest.param(_with(tiers_to_run=["T0", 1]), "/tiers_to_run/1", id="tier-number"),
        pytest.param(_with(tiers_to_run=["T0", "../T1"]), "/tiers_to_run/1", id="tier-path"),
        pytest.param(_with(tiers_to_run=["T0", f"T1{NASTY}"]), "/tiers_to_run/1", id="tier-nasty"),
        pytest.param(_with(tiers_to_run=["T0", "T\u0661"]), "/tiers_to_run/1", id="tier-other-digits"),
        pytest.param(_with(judge_models="judge"), "/judge_models", id="judges-text"),
        pytest.param(_with(judge_models=[None]), "/judge_models/0", id="judge-null"),
        pytest.param(_with(max_subtests="all"), "/max_subtests", id="max-subtests-text"),
    ],
)
def test_an_unusable_configuration_is_one_line_with_file_pointer_and_remedy(
    project: Project, spoil: Callable[[Path], None], pointer: str
) -> None:
    spoil(project.experiment / CONFIG)
    result = project.run("--scylla-exp=exp")
    line = assert_usage_error(result, f"exp/{CONFIG}", pointer)
    assert re.search(r"\. [A-Z][^.]+", line), "expected a remedy, a sentence of its own"
    assert "\x1b" not in line
    assert "::error" not in line


def test_an_unusable_configuration_is_one_line_also_with_workers_and_other_options(project: Project) -> None:
    (project.experiment / CONFIG).write_text("{")
    for args in (("-n", "2"), ("-v",), ("--tb=long",), ("--co",), ("-q",), ("-x", "--lf")):
        assert_usage_error(project.audit(*args), f"exp/{CONFIG}")


def test_a_tier_listed_twice_is_audited_once_or_refused(project: Project) -> None:
    edit_config(project.experiment, tiers_to_run=["T0", "T1", "T0"])
    result = project.audit()
    if result.ret == pytest.ExitCode.USAGE_ERROR:
        assert_usage_error(result, f"exp/{CONFIG}", "/tiers_to_run")
    else:
        assert list(outcomes(result)) == node_ids()


# Positionals


@pytest.mark.parametrize(
    "args", [("test_a.py",), ("sub",), ("test_a.py", "sub"), ("test_a.py::test_one", "sub/test_b.py"), (".",)]
)
def test_positionals_are_collected_as_well_as_the_experiment(project: Project, args: tuple[str, ...]) -> None:
    project.write("test_a.py", ORDINARY)
    project.write("sub/test_b.py", ORDINARY)
    plain = project.run(*args, "--ignore=exp")
    result = project.audit(*args)
    assert result.ret == 0
    assert sorted(outcomes(result)) == sorted([*outcomes(plain), *node_ids()])


def test_without_positionals_only_the_experiment_is_collected(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntestpaths = sub\n")
    project.write("test_a.py", ORDINARY)
    project.write("sub/test_b.py", ORDINARY)
    assert list(outcomes(project.audit())) == node_ids()


def test_a_positional_that_does_not_exist_is_pytests_own_error(project: Project) -> None:
    result = project.audit("no_such_test.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*file or directory not found: no_such_test.py*"])


@pytest.mark.parametrize(
    "positional",
    [
        "exp",
        "./exp/",
        "exp/T0",
        "exp/T0/00/run_01",
        "exp/T0/00/run_01/run_result.json",
        "exp/T0/00/run_01/workspace/test_agent.py",
        "exp/T0/00/run_01/workspace/test_agent.py::test_x",
        "ABSOLUTE/T0/00",
        "link/T0",
        "sub/../exp/T1",
    ],
)
def test_a_positional_inside_an_experiment_is_refused_and_names_scylla_select(
    project: Project, positional: str
) -> None:
    (project.path / "link").symlink_to("exp")
    (project.path / "sub").mkdir()
    project.write("exp/T0/00/run_01/workspace/test_agent.py", "open('imported', 'w').close()\n")
    given = positional.replace("ABSOLUTE", str(project.experiment))
    assert_usage_error(project.audit(given), given, "--scylla-select")
    assert not (project.path / "imported").exists()


@pytest.mark.parametrize(
    ("node_id", "select"),
    [
        ("exp/T0/00/run_01::judge_01", "T0/00/run_01/judge_01"),
        ("exp/T1/02/run_02::run", "T1/02/run_02"),
        ("exp/T1/02/run_02", "T1/02/run_02"),
    ],
)
@pytest.mark.parametrize("location", ["exp", "data/exp", "{elsewhere}/exp"])
def test_a_node_id_as_argument_is_refused_and_the_remedy_selects_that_item(
    empty_project: Project, pristine_experiment: Path, location: str, node_id: str, select: str
) -> None:
    location = location.format(elsewhere=empty_project.elsewhere)
    empty_project.copy(pristine_experiment, location)
    line = assert_usage_error(empty_project.run(f"--scylla-exp={location}", node_id), node_id)
    assert f"--scylla-select={select}" in line.replace("'", "").replace('"', "")
    assert re.search(rf"--scylla-select=['\"]?{select}['\"]?(\s|$)", line)
    result = empty_project.run(f"--scylla-exp={location}", f"--scylla-select={select}")
    wanted = [i for i in item_ids() if i == select or i.startswith(f"{select}/")]
    assert list(outcomes(result)) == node_ids(wanted)


# Reports


@pytest.mark.parametrize("name", ["report.txt", "report", "report.json.gz", "report.JSON", ".json/", "report.xml"])
def test_a_report_of_an_unknown_kind_is_refused_with_the_known_ones(project: Project, name: str) -> None:
    assert_usage_error(project.audit(f"--scylla-report={name}"), ".json")


def test_a_report_that_is_a_directory_is_refused(project: Project) -> None:
    (project.path / "out.json").mkdir()
    assert_usage_error(project.audit("--scylla-report=out.json"), "out.json", "directory")


def test_a_report_whose_directory_is_a_file_is_refused_in_one_line(project: Project) -> None:
    project.write("file", "")
    assert_usage_error(project.audit("--scylla-report=file/out.json"), "file/out.json")


def test_several_reports_are_written_and_directories_made_for_them(project: Project) -> None:
    project.audit("--scylla-report=a.json", "--scylla-report=deep/er/b.json")
    assert without_times(project.report("a.json")) == without_times(project.report("deep/er/b.json"))


def test_a_report_replaces_an_older_one_and_leaves_nothing_beside_it(project: Project) -> None:
    project.write("out/report.json", "old")
    project.audit("--scylla-report=out/report.json")
    assert project.only_experiment("out/report.json")["selected"] == 24
    assert os.listdir(project.path / "out") == ["report.json"]


@pytest.mark.parametrize(
    "option",
    [
        "--scylla-report={}/report.json",
        "--scylla-report={}/new/report.json",
        "--junitxml={}/junit.xml",
        "--junit-xml={}/T0/junit.xml",
        "--basetemp={}/tmp",
        "--log-file={}/pytest.log",
        "--html={}/report.html",
        "--report-log={}/log.jsonl",
    ],
)
@pytest.mark.parametrize("place", ["exp", "link", "sub/../exp"])
def test_an_output_inside_an_experiment_is_refused(project: Project, option: str, place: str) -> None:
    if "--html" in option:
        pytest.importorskip("pytest_html")
    if "--report-log" in option:
        pytest.importorskip("pytest_reportlog")
    (project.path / "link").symlink_to("exp")
    (project.path / "sub").mkdir()
    damaged_in_several_ways(project.experiment)
    before = snapshot(project.experiment)
    result = project.audit(option.format(place), alone=False)
    assert_usage_error(result, option.split("=")[0].replace("junit-xml", "junitxml"))
    assert snapshot(project.experiment) == before


@pytest.mark.parametrize("option", ["--scylla-report=report.json", "--junitxml=junit.xml", "--log-file=pytest.log"])
def test_a_relative_output_is_refused_where_the_current_directory_is_in_the_experiment(
    project: Project, option: str
) -> None:
    before = snapshot(project.experiment)
    assert_usage_error(project.audit(option, cwd=project.experiment / "T0"), option.split("=")[0])
    assert snapshot(project.experiment) == before


def test_an_output_of_the_ini_file_inside_an_experiment_is_refused(project: Project) -> None:
    before = snapshot(project.experiment)
    project.write("pytest.ini", "[pytest]\nscylla_report = exp/report.json\n")
    assert_usage_error(project.audit(), "exp/report.json")
    project.write("pytest.ini", "[pytest]\nlog_file = exp/pytest.log\n")
    assert project.audit().ret in (0, pytest.ExitCode.USAGE_ERROR)
    assert snapshot(project.experiment) == before


# Subtest definitions


def _subtests(result: pytest.RunResult) -> set[str]:
    return {nodeid[4:9] for nodeid in outcomes(result) if nodeid.startswith("exp/T")}


def test_definitions_say_which_subtests_are_expected(project: Project) -> None:
    for name in ("t0/00-empty.yaml", "t0/03-more.yaml", "t1/01-vanilla.yaml", "t1/README.md", "t7/00-unused.yaml"):
        project.write(f"defs/{name}", "name: x\n")
    result = project.audit("--scylla-subtests=defs", "--scylla-report=report.json")
    assert result.ret == 1
    assert _subtests(result) == {"T0/00", "T0/03", "T1/01"}
    *failed, last = with_outcome(result, "failed")
    assert {nodeid[4:9] for nodeid in failed} == {"T0/03"}
    assert last == node_id(AGGREGATES)  # which count the subtest that is not defined
    found = project.only_experiment()
    assert found["expected_from"] == "tiers"
    assert [finding["code"] for finding in found["findings"]] == ["extra-subtest"]


def test_definitions_are_cut_at_max_subtests(project: Project) -> None:
    edit_config(project.experiment, max_subtests=1)
    for name in ("t0/00-empty.yaml", "t1/01-vanilla.yaml", "t1/02-more.yaml", "t1/10-most.yaml"):
        project.write(f"defs/{name}", "name: x\n")
    result = project.audit("--scylla-subtests=defs")
    assert _subtests(result) == {"T0/00", "T1/01"}
    assert with_outcome(result, "failed") == [node_id(AGGREGATES)]  # which count the subtest that was cut off


def test_without_definitions_the_source_of_the_subtests_is_said(project: Project) -> None:
    result = project.audit("--scylla-report=report.json")
    assert project.only_experiment()["expected_from"] == "disk"
    place = next(place for place, line in enumerate(result.outlines) if line.startswith("scylla: exp"))
    header, source = result.outlines[place : place + 2]
    assert "6 runs" in header
    assert "18 judge slots" in header
    assert "disk" in source


@pytest.mark.parametrize("given", ["no-such-directory", "defs", "exp"])
def test_definitions_that_lack_a_tier_are_refused(project: Project, given: str) -> None:
    project.write("defs/t0/00-empty.yaml", "name: x\n")
    assert_usage_error(project.audit(f"--scylla-subtests={given}"), given)


def test_recorded_definitions_are_understood(empty_project: Project, recorded_subtests: Path) -> None:
    from benchmarks.synthetic import small, write_experiment

    write_experiment(empty_project.experiment, small(tiers={"T0": ("00",)}, runs_per_subtest=1, side_files=False))
    result = empty_project.audit(f"--scylla-subtests={recorded_subtests}", "--co", "-q")
    expected = {path.name[:2] for path in (recorded_subtests / "t0").glob("*.yaml")}
    assert {nodeid.split("/")[2] for nodeid in collected(result) if nodeid.endswith("::run")} == expected


@pytest.mark.parametrize(
    "args", [("--scylla-report=r.json", "--fixtures"), ("--fixtures-per-test",), ("--version",), ("--help",)]
)
def test_options_that_only_print_something_still_do(project: Project, args: tuple[str, ...]) -> None:
    result = project.audit(*args)
    assert result.ret == 0
    assert "Traceback (most" not in printed(result)


def test_help_describes_every_option(empty_project: Project) -> None:
    text = empty_project.run("--help").stdout.str()
    for name in ("exp", "select", "subtests", "strict", "report"):
        assert f"--scylla-{name}" in text
        assert f"scylla_{name}" in text
    assert "scylla_fallback" in text


def test_an_unreadable_judgment_is_no_usage_error(project: Project) -> None:
    path = judgment_of(project.experiment, "T0/00/run_01/judge_01")
    path.unlink()
    path.mkdir()
    assert with_outcome(project.audit(), "failed") == ["exp/T0/00/run_01::judge_01"]
