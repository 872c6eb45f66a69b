"""What a newcomer types, on what the project ships, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pytest_scylla
from pytest_scylla.calling.presets import PRESETS
from pytest_scylla.calling.replies import TABLE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()


def run_pytest(
    *arguments: str, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_the_first_command_shows_an_experiment_broken_repaired_and_whole() -> None:
    before = contents(EXAMPLES)
    command = [sys.executable, "examples/tour.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    broken, planned, repaired, whole = result.stdout.split("\n### ")[1:]
    assert "6 failed, 4 passed" in broken
    assert "repair: free (" in broken
    assert broken.count("repair: 1 judge call (") == 1
    assert "would rebuild 8 files in 2 runs and 7 aggregates" in planned
    assert "would ask judges: 1 call\n       1 judge-small-1: about " in planned
    assert "nothing was written and nobody was asked" in planned
    assert "4 passed, 6 repaired" in repaired
    assert re.search(r"^  completed +0 +2 +\+2$", repaired, re.M)
    assert re.search(r"^  complete +4 +6 +\+2$", repaired, re.M)
    assert "asked judges: 1 call, 0.00 USD; 1 slot judged" in repaired
    assert "10 passed" in whole
    assert "Traceback" not in result.stdout
    assert contents(EXAMPLES) == before


LOST = "T0/00/run_01/judge/judge_03"
"""The slot of the sample ``interrupted`` of which no reply survives."""


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A copy of the sample ``interrupted``, beside which a conftest.py may be put."""
    shutil.copytree(EXAMPLES / "interrupted", tmp_path / "interrupted")
    return tmp_path / "interrupted"


def test_the_judge_of_the_samples_says_that_it_only_demonstrates_and_always_the_same(interrupted: Path) -> None:
    shutil.copy(EXAMPLES / "judge" / "conftest.py", interrupted.parent)
    shutil.copytree(interrupted, interrupted.parent / "again")
    replies = []
    for name in ("interrupted", "again"):
        result = run_pytest("--repair", f"--scylla-exp={name}", cwd=interrupted.parent)
        assert result.returncode == 0, result.stdout
        replies.append((interrupted.parent / name / LOST / "response.txt").read_text())
    assert replies[0] == replies[1]
    assert "demonstration" in json.loads((interrupted / LOST / "judgment.json").read_text())["reasoning"]


def test_the_judge_of_the_samples_gives_no_score_where_it_finds_no_rubric(interrupted: Path) -> None:
    shutil.copy(EXAMPLES / "judge" / "conftest.py", interrupted.parent)
    (interrupted / "T0/00/run_01/judge_prompt.md").write_text("How was it?\n")
    result = run_pytest("--repair", "--scylla-exp=interrupted", cwd=interrupted.parent)
    assert result.returncode == 1, result.stdout
    assert "no rubric items" in result.stdout
    assert not (interrupted / LOST / "judgment.json").exists()


def test_the_judge_that_the_readme_shows_judges(interrupted: Path) -> None:
    (example,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "def scylla_judge()" in code]
    (interrupted.parent / "conftest.py").write_text(example)
    service = """
        def ask(model, prompt, timeout):
            assert (model, timeout) == ("judge-small-1", 1200) and "Rubric of the word count task" in prompt
            return '{"score": 0.25, "passed": false, "reasoning": "as shown"}'
    """
    (interrupted.parent / "my_service.py").write_text(textwrap.dedent(service))
    result = run_pytest("--repair", "--scylla-exp=interrupted", cwd=interrupted.parent)
    assert result.returncode == 0, result.stdout
    assert json.loads((interrupted / LOST / "judgment.json").read_text())["reasoning"] == "as shown"


def test_the_command_that_the_readme_shows_judges(interrupted: Path) -> None:
    (ini,) = [text for text in re.findall(r"```ini\n(.*?)```", README, re.S) if "scylla_judge_command" in text]
    (interrupted.parent / "pytest.ini").write_text(ini)
    (interrupted.parent / "bin").mkdir()
    command = interrupted.parent / "bin" / "my-judge"
    command.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "told = [sys.argv[1], len(sys.argv), os.environ['MY_JUDGE_KEY'], 'OTHER_KEY' in os.environ, os.listdir()]\n"
        "assert 'Rubric of the word count task' in sys.stdin.read()\n"
        "print(json.dumps({'score': 0.25, 'passed': False, 'reasoning': repr(told)}))\n"
    )
    command.chmod(0o755)
    path = f"{command.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MY_JUDGE_KEY": "key", "OTHER_KEY": "other"}
    result = run_pytest("--repair", "--scylla-exp=interrupted", cwd=interrupted.parent, environment=environment)
    assert result.returncode == 0, result.stdout
    told = json.loads((interrupted / LOST / "judgment.json").read_text())["reasoning"]
    assert told == repr(["--model=judge-small-1", 3, "key", False, []])  # no workspace, no word for it


def test_the_samples_are_audited_together() -> None:
    result = run_pytest("--scylla-exp=examples")
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"runs +6 expected: 1 completed, 3 results, 1 partial, 1 missing\n", result.stdout)
    assert re.search(r"judge slots +18 expected: 9 complete, 1 missing, 2 failed, 6 agent_failed\n", result.stdout)
    assert re.search(r"runs +2 expected: 2 completed\n", result.stdout)
    assert re.search(r"runs +2 expected: 0 completed, 2 results\n", result.stdout)
    assert "Traceback" not in result.stdout


def test_the_broken_sample_is_broken_as_its_readme_says() -> None:
    told = {
        match[1]: (match[2], match[3])
        for match in re.finditer(
            r"^\| `(T[^`]+)` \|[^|]*\| `(\w+)` \| (.+) \|$", (EXAMPLES / "README.md").read_text(), re.M
        )
    }
    result = run_pytest("--scylla-exp=examples/broken", "-q")
    shown = {
        match[1]: (match[2], match[3])
        for match in re.finditer(
            r"^(T\S+): (\w+) \(.*\)\n(?:  .*\n)*?  repair: (free|1 judge call|agent run)", result.stdout, re.M
        )
    }
    waiting = {item: what for item, what in shown.items() if what[0] != "agent_failed"}
    assert waiting == told


def test_the_healthy_sample_is_green_and_its_report_says_so(tmp_path: Path) -> None:
    result = run_pytest("--scylla-exp=examples/healthy", "--scylla-strict", f"--scylla-report={tmp_path}/report.json")
    assert result.returncode == 0, result.stdout
    (experiment,) = json.loads((tmp_path / "report.json").read_text())["experiments"]
    assert experiment["completeness"] == 1.0
    assert experiment["items"] == []


def test_the_recorded_experiment_is_clean_in_a_process_of_its_own(
    recorded_experiment: Path, recorded_subtests: Path, tmp_path: Path
) -> None:
    arguments = (f"--scylla-exp={recorded_experiment}", f"--scylla-subtests={recorded_subtests}")
    result = run_pytest(*arguments, "-v", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert re.search(r"runs +7 expected: 7 completed\n", result.stdout)
    assert re.search(r"judge slots +21 expected: 21 complete\n", result.stdout)
    assert len(re.findall(r"^warning: ", result.stdout, re.M)) == 5


def test_the_readme_tells_every_option_and_ini_option() -> None:
    # Wide enough for no option to be broken at a hyphen.
    shown = run_pytest("--help", environment={**os.environ, "COLUMNS": "1000"}).stdout
    for option in set(re.findall(r"--(?:scylla|repair)[a-z-]*", shown)) | set(
        re.findall(r"^  (scylla_\w+) \(", shown, re.M)
    ):
        assert re.search(rf"^\|.*`{option}[`=]", README, re.M), option


def test_the_readme_tells_every_status() -> None:
    for status in {*pytest_scylla.RUN_STATUSES, *pytest_scylla.SLOT_STATUSES}:
        assert f"`{status}`" in README


def test_the_readme_tells_every_finding() -> None:
    for name, code in pytest_scylla.CODES.items():
        assert f"| `{name}` | {code.meaning} |" in README


def test_the_readme_tells_every_command_line_that_judges_and_whether_it_gets_the_workspace() -> None:
    for preset in PRESETS.values():
        workspace = "may be read" if preset.takes_workspace else "not handed over"
        assert re.search(rf"^\| `{preset.name}`[^|]*\|[^|]*\| {workspace} \|", README, re.M), preset.name


def test_the_readme_tells_every_way_in_which_a_call_fails_under_what_it_means() -> None:
    meanings = {
        ("answer", None): "no verdict",
        ("timeout", None): "timeout",
        ("limit", None): "limit",
        ("transient", None): "transient",
        ("permanent", "slot"): "permanent, this slot",
        ("permanent", "model"): "permanent, this model",
        ("permanent", "all"): "permanent, all",
    }
    for row in TABLE:
        assert re.search(rf"^\| {meanings[row.kind, row.scope]} \|[^|]*\*{row.what}\*", README, re.M), row.what


@pytest.mark.parametrize("file", ["README.md", "examples/README.md"])
def test_links_of_the_readme_lead_somewhere(file: str) -> None:
    path = ROOT / file
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
