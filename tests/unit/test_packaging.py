"""The wheel holds what an installed plugin needs, and the version stands in one place."""

from __future__ import annotations

import configparser
import email
import email.message
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.experiment.schemas import schema_directory

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist of the project."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    directory = tmp_path_factory.mktemp("dist")
    build(PROJECT, directory, "sdist", "wheel")
    return directory


def build(project: Path, directory: Path, *targets: str) -> None:
    options = [option for target in targets for option in ("-t", target)]
    command = [sys.executable, "-m", "hatchling", "build", "-d", os.fspath(directory), *options]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Mapping[str, bytes]:
    """The files of the wheel."""
    (path,) = dist.glob("*.whl")
    return contents(path)


@pytest.fixture(scope="session")
def metadata(wheel: Mapping[str, bytes]) -> email.message.Message:
    (name,) = [name for name in wheel if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel[name])


def test_the_wheel_holds_every_schema_as_it_is_in_the_source(wheel: Mapping[str, bytes]) -> None:
    prefix = "pytest_scylla/schemas/"
    shipped = {name.removeprefix(prefix): data for name, data in wheel.items() if name.startswith(prefix)}
    assert shipped == {path.name: path.read_bytes() for path in (PROJECT / "schemas").iterdir()}
    assert len(shipped) >= 20


def test_the_wheel_says_that_it_is_typed(wheel: Mapping[str, bytes]) -> None:
    assert "pytest_scylla/py.typed" in wheel


def test_the_wheel_holds_every_module_of_the_package_and_nothing_else(wheel: Mapping[str, bytes]) -> None:
    modules = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "pytest_scylla").rglob("*.py")}
    assert {name for name in wheel if name.endswith(".py")} == modules
    assert {re.sub(r"-[^/]*\.dist-info", ".dist-info", name.split("/")[0]) for name in wheel} == {
        "pytest_scylla",
        "pytest_scylla.dist-info",
    }


def test_the_wheel_holds_the_templates_of_the_reports(wheel: Mapping[str, bytes]) -> None:
    prefix = "pytest_scylla/report/templates/"
    shipped = {name.removeprefix(prefix): data for name, data in wheel.items() if name.startswith(prefix)}
    source = PROJECT / "pytest_scylla" / "report" / "templates"
    assert shipped == {path.name: path.read_bytes() for path in source.iterdir()}
    assert set(shipped) == {"page.html", "page.css", "page.js", "page.md"}


def test_pytest_finds_the_plugin_under_the_name_scylla(wheel: Mapping[str, bytes]) -> None:
    (name,) = [name for name in wheel if name.endswith(".dist-info/entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(wheel[name].decode())
    assert dict(points["pytest11"]) == {"scylla": "pytest_scylla.plugin"}
    assert importlib.util.find_spec("pytest_scylla.plugin") is not None


def test_the_version_stands_in_one_place(metadata: email.message.Message) -> None:
    assert metadata["Version"] == pytest_scylla.__version__
    project = (PROJECT / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^dynamic = \["version"\]$', project, re.MULTILINE)
    assert not re.search(r"^version\s*=", project, re.MULTILINE)
    quoted = re.compile(rf"""["']{re.escape(pytest_scylla.__version__)}["']""")
    places = [path for path in (PROJECT / "pytest_scylla").rglob("*.py") if quoted.search(path.read_text("utf-8"))]
    assert places == [PROJECT / "pytest_scylla" / "__init__.py"]


def test_the_metadata_name_licence_extras_and_what_is_needed(
    metadata: email.message.Message, wheel: Mapping[str, bytes]
) -> None:
    assert metadata["Name"] == "pytest-scylla"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert {"test", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["Requires-Python"] == ">=3.10"
    needed = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert {re.split(r"[<>=!~ ;\[]", text)[0] for text in needed} >= {"pytest", "jsonschema", "jsonschema-rs"}
    assert "Framework :: Pytest" in metadata.get_all("Classifier", [])
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_an_installed_copy_finds_its_own_schemas_and_audits(
    dist: Path, tmp_path: Path, pristine_experiment: Path
) -> None:
    (path,) = dist.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)
    code = (
        "import sys, pytest_scylla\n"
        "from pytest_scylla.experiment.schemas import schema_directory\n"
        "print(pytest_scylla.__file__)\n"
        "print(schema_directory())\n"
        "print(*{audit.status for audit in pytest_scylla.audit(pytest_scylla.load(sys.argv[1]))})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, os.fspath(pristine_experiment)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.fspath(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        os.fspath(site / "pytest_scylla" / "__init__.py"),
        os.fspath(site / "pytest_scylla" / "schemas"),
        "completed",
    ]


def test_an_editable_install_finds_the_schemas_of_the_source_tree() -> None:
    if not Path(pytest_scylla.__file__).is_relative_to(PROJECT):
        pytest.skip("the package under test is not this source tree's")
    assert schema_directory() == PROJECT / "schemas"


def test_the_sdist_builds_the_same_wheel_and_holds_the_tests(
    dist: Path, wheel: Mapping[str, bytes], tmp_path: Path
) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, filter="data")
    root = names[0].split("/")[0]
    assert f"{root}/tests/conftest.py" in names
    assert f"{root}/benchmarks/synthetic.py" in names
    assert f"{root}/docs/index.md" in names
    assert f"{root}/LICENSE" in names
    assert not [name for name in names if "__pycache__" in name or "/.git/" in name]
    (tmp_path / "again").mkdir()
    build(tmp_path / root, tmp_path / "again", "wheel")
    (again,) = (tmp_path / "again").glob("*.whl")
    assert contents(again) == wheel
    shutil.rmtree(tmp_path / root)
