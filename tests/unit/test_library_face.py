"""The library without pytest: what it offers, and what it costs to import."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pytest_scylla

PROJECT = Path(pytest_scylla.__file__).parents[1]


def fresh(code: str, *arguments: str) -> Any:
    """Run code in a new interpreter; what it prints last is JSON."""
    done = subprocess.run(
        [sys.executable, "-c", "import json, sys\n" + code, *arguments],
        env={**os.environ, "PYTHONPATH": os.fspath(PROJECT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_imports_neither_pytest_nor_a_validator_nor_any_of_its_modules() -> None:
    modules = fresh("import pytest_scylla\nprint(json.dumps(sorted(sys.modules)))")
    heads = {name.split(".")[0] for name in modules}
    assert not heads & {"pytest", "_pytest", "pluggy", "jsonschema", "jsonschema_rs", "yaml", "xdist", "referencing"}
    assert [name for name in modules if name.startswith("pytest_scylla")] == ["pytest_scylla"]


def test_an_audit_needs_no_pytest(pristine_experiment: Path) -> None:
    found = fresh(
        "import pytest_scylla\n"
        "experiment = pytest_scylla.load(sys.argv[1])\n"
        "audits = list(pytest_scylla.audit(experiment))\n"
        "print(json.dumps({\n"
        "    'runs': [str(audit.run) for audit in audits],\n"
        "    'statuses': [audit.status for audit in audits],\n"
        "    'slots': [slot.status for audit in audits for slot in audit.slots],\n"
        "    'findings': [str(found) for audit in audits for found in audit.findings],\n"
        "    'modules': sorted({name.split('.')[0] for name in sys.modules}),\n"
        "}))\n",
        os.fspath(pristine_experiment),
    )
    assert found["runs"] == [str(run) for run in pytest_scylla.load(pristine_experiment).runs()]
    assert found["statuses"] == ["completed"] * 6
    assert found["slots"] == ["complete"] * 18
    assert found["findings"] == []
    assert not set(found["modules"]) & {"pytest", "_pytest", "pluggy"}


def test_an_audit_of_a_damaged_experiment_needs_no_pytest(experiment_dir: Path) -> None:
    judgment = experiment_dir / "T1" / "02" / "run_01" / "judge" / "judge_02" / "judgment.json"
    judgment.write_text('{"score": "85%"}')
    found = fresh(
        "import pytest_scylla\n"
        "slots = [slot for audit in pytest_scylla.audit(pytest_scylla.load(sys.argv[1])) for slot in audit.slots]\n"
        "slots = [slot for slot in slots if not slot.complete]\n"
        "print(json.dumps([\n"
        "    [(str(slot.slot), slot.status, [found.code for found in slot.findings]) for slot in slots],\n"
        "    sorted(set(sys.modules) & {'pytest', '_pytest', 'pluggy'}),\n"
        "]))\n",
        os.fspath(experiment_dir),
    )
    assert found == [[["T1/02/run_01/judge_02", "failed", ["judgment-invalid"] * len(found[0][0][2])]], []]
    assert found[0][0][2]


def test_every_name_that_is_offered_is_there_and_explained() -> None:
    for name in pytest_scylla.__all__:
        value = getattr(pytest_scylla, name)
        assert value is getattr(pytest_scylla, name)
        if callable(value):
            assert inspect.getdoc(value), name
    assert len(set(pytest_scylla.__all__)) == len(pytest_scylla.__all__)


def test_dir_shows_what_is_offered_before_anything_was_used() -> None:
    names = fresh("import pytest_scylla\nprint(json.dumps(dir(pytest_scylla)))")
    assert {*pytest_scylla.__all__, "__version__", "__doc__"} <= set(names)
    assert names == sorted(names)


def test_a_star_import_gives_what_is_offered() -> None:
    names = fresh("from pytest_scylla import *\nprint(json.dumps(sorted(globals())))")
    assert set(pytest_scylla.__all__) <= set(names)


@pytest.mark.parametrize("name", ["audit_everything", "_ORIGINS", "Load", ""])
def test_a_name_that_is_not_offered_is_an_attribute_error_that_names_it(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(pytest_scylla, name)
    assert repr(name) in str(caught.value)
    assert not hasattr(pytest_scylla, name)


def test_the_words_for_statuses_are_the_fields_own() -> None:
    assert list(pytest_scylla.RUN_STATUSES) == [
        *("completed", "results", "failed", "partial", "missing"),
        *("conflict", "unsafe"),
    ]
    assert list(pytest_scylla.SLOT_STATUSES) == [
        *("complete", "missing", "failed", "agent_failed"),
        *("conflict", "unsafe"),
    ]
    assert all(text.strip() for text in (*pytest_scylla.RUN_STATUSES.values(), *pytest_scylla.SLOT_STATUSES.values()))


def test_every_code_is_explained_and_in_kebab_case() -> None:
    for name, code in pytest_scylla.CODES.items():
        assert name == name.lower()
        assert name.replace("-", "").isalpha()
        assert code.severity in ("error", "warning")
        assert all(text.endswith(".") for text in (code.meaning, code.cause, code.remedy)), name


def test_an_experiment_that_cannot_be_loaded_is_an_experiment_error(tmp_path: Path) -> None:
    with pytest.raises(pytest_scylla.ExperimentError):
        pytest_scylla.load(tmp_path)
    with pytest.raises(pytest_scylla.ExperimentError):
        pytest_scylla.find_experiments(tmp_path)


def test_one_run_can_be_audited_alone(pristine_experiment: Path) -> None:
    experiment = pytest_scylla.load(os.fspath(pristine_experiment))
    run = pytest_scylla.RunId("T1", "02", 2)
    audit = pytest_scylla.audit_run(experiment, run)
    assert audit in list(pytest_scylla.audit(experiment))
    assert (audit.run, audit.status, audit.findings) == (run, "completed", ())
    assert [str(slot.slot) for slot in audit.slots] == [f"T1/02/run_02/judge_0{number}" for number in (1, 2, 3)]
    stored = json.loads((pristine_experiment / str(run) / "run_result.json").read_text())
    assert (audit.score, audit.passed) == (stored["judge_score"], stored["judge_passed"])
    assert audit.cost_usd == stored["cost_usd"]


def test_an_audit_leaves_no_trace(pristine_experiment: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        found = {os.fspath(path): path.lstat() for path in sorted(pristine_experiment.rglob("*"))}
        return {name: (status.st_mtime_ns, status.st_size) for name, status in found.items()}

    before = state()
    list(pytest_scylla.audit(pytest_scylla.load(pristine_experiment)))
    assert state() == before
