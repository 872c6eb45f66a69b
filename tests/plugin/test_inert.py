"""A session that asks for no audit does not notice the plugin."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .support import NOT_RANDOM, Project, damaged_in_several_ways, outcomes, snapshot

LISTING_HOOKS = """\
import json
from pathlib import Path


def pytest_sessionfinish(session):
    manager = session.config.pluginmanager
    found = {}
    for name, plugin in manager.list_name_plugin():
        module = getattr(plugin, "__name__", type(plugin).__module__)
        if plugin is not None and module.startswith("pytest_scylla"):
            found[name] = sorted(caller.name for caller in manager.get_hookcallers(plugin) or ())
    Path("hooks.json").write_text(json.dumps(found))
"""


def _imported_by(statement: str) -> set[str]:
    code = "import json, sys, pytest\nbefore = set(sys.modules)\n"
    code += f"{statement}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout))


def test_importing_the_plugin_imports_next_to_nothing() -> None:
    imported = _imported_by("import pytest_scylla.plugin")
    assert imported <= {"pytest_scylla", "pytest_scylla.plugin", "pytest_scylla.options"}


def test_an_ordinary_session_imports_neither_schemas_nor_session(empty_project: Project) -> None:
    empty_project.write(
        "test_a.py",
        "import sys\n\n\ndef test_one():\n"
        "    for name in ('jsonschema', 'jsonschema_rs', 'referencing', 'yaml', 'pytest_scylla.session',\n"
        "                 'pytest_scylla.auditing', 'pytest_scylla.experiment', 'pytest_scylla.invocation'):\n"
        "        assert name not in sys.modules, name\n",
    )
    result = empty_project.run_apart()
    result.assert_outcomes(passed=1)


def test_collecting_imports_no_schema_explainer(project: Project) -> None:
    project.write(
        "conftest.py",
        "import sys\n\n\ndef pytest_collection_finish():\n    assert 'jsonschema' not in sys.modules\n",
    )
    assert project.audit_apart("--co", "-q").ret == 0


def test_without_its_options_the_plugin_has_three_hooks(project: Project) -> None:
    project.write("conftest.py", LISTING_HOOKS)
    project.write("test_a.py", "def test_one():\n    pass\n")
    project.write("pytest.ini", "[pytest]\nscylla_exp = exp\n")
    assert project.run("test_a.py").ret == 0
    assert json.loads((project.path / "hooks.json").read_text()) == {
        "scylla": ["pytest_addoption", "pytest_configure", "pytest_load_initial_conftests"]
    }


@pytest.mark.parametrize(
    ("text", "args", "code"),
    [
        ("def test_one():\n    pass\n", (), pytest.ExitCode.OK),
        ("def test_one():\n    assert False\n", (), pytest.ExitCode.TESTS_FAILED),
        ("", (), pytest.ExitCode.NO_TESTS_COLLECTED),
        ("def test_one():\n    pass\n", ("-k", "nothing"), pytest.ExitCode.NO_TESTS_COLLECTED),
        ("import no_such_module\n", (), pytest.ExitCode.INTERRUPTED),
        ("", ("--no-such-option",), pytest.ExitCode.USAGE_ERROR),
        ("", ("no_such_file.py",), pytest.ExitCode.USAGE_ERROR),
    ],
)
def test_exit_codes_and_output_are_those_of_pytest(
    empty_project: Project, text: str, args: tuple[str, ...], code: pytest.ExitCode
) -> None:
    empty_project.write("test_a.py", text)
    result = empty_project.run("-p", "no:cacheprovider", *args)
    bare = empty_project.run("-p", "no:cacheprovider", "-p", "no:scylla", *args)
    assert result.ret == bare.ret == code

    def words(found: pytest.RunResult) -> list[str]:
        lines = [line for line in found.outlines if not line.startswith(("plugins:", "running:", "     in:"))]
        return [line.partition(" in ")[0].strip("= ") for line in lines]

    assert words(result) == words(bare)


def test_an_ordinary_session_beside_an_experiment_collects_what_it_always_did(project: Project) -> None:
    project.write("test_a.py", "def test_one():\n    pass\n")
    damaged_in_several_ways(project.experiment)
    before = snapshot(project.experiment)
    result = project.run()
    assert result.ret == 0
    assert list(outcomes(result)) == ["test_a.py::test_one"]
    assert snapshot(project.experiment) == before


def test_the_plugin_can_be_switched_off(project: Project) -> None:
    project.write("test_a.py", "def test_one():\n    pass\n")
    assert project.run_apart("-p", "no:scylla").ret == 0
    assert project.run_apart("-p", "no:scylla", "--scylla-exp=exp").ret == pytest.ExitCode.USAGE_ERROR


def test_the_plugin_adds_no_line_to_the_header(empty_project: Project) -> None:
    empty_project.write("test_a.py", "def test_one():\n    pass\n")
    result = empty_project.pytester.runpytest_inprocess(*NOT_RANDOM, "-v")
    assert [
        line for line in result.outlines if "scylla" in line and not line.startswith(("plugins:", "metadata:"))
    ] == []
