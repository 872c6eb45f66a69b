"""What a newcomer types, on what the project ships, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_scylla

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run_pytest(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_the_first_command_shows_an_experiment_broken_repaired_and_whole() -> None:
    command = [sys.executable, "examples/tour.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    broken, planned, repaired, whole = result.stdout.split("\n### ")[1:]
    assert "3 failed, 5 passed" in broken
    assert "repair: free (" in broken
    assert "would rebuild 6 files in 2 runs" in planned
    assert "5 passed, 3 repaired" in repaired
    assert re.search(r"^  completed +0 +2 +\+2$", repaired, re.M)
    assert "8 passed" in whole
    assert "Traceback" not in result.stdout


def test_the_samples_are_audited_together() -> None:
    result = run_pytest("--scylla-exp=examples")
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"runs +6 expected +1 completed +3 results +0 failed +1 partial +1 missing", result.stdout)
    assert re.search(r"judge slots +18 expected +9 complete +1 missing +2 failed +6 agent_failed", result.stdout)
    assert re.search(r"runs +2 expected +2 completed +0 results +0 failed +0 partial +0 missing", result.stdout)
    assert re.search(r"runs +2 expected +0 completed +2 results +0 failed +0 partial +0 missing", result.stdout)
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
    assert re.search(r"runs +7 expected +7 completed", result.stdout)
    assert re.search(r"judge slots +21 expected +21 complete", result.stdout)
    assert len(re.findall(r"^warning: ", result.stdout, re.M)) == 5


def test_the_readme_tells_every_option_and_ini_option() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = run_pytest("--help").stdout
    for option in set(re.findall(r"--(?:scylla|repair)[a-z-]*", shown)) | set(
        re.findall(r"^  (scylla_\w+) \(", shown, re.M)
    ):
        assert f"`{option}" in readme, option


def test_the_readme_tells_every_status() -> None:
    readme = (ROOT / "README.md").read_text()
    for status in {*pytest_scylla.RUN_STATUSES, *pytest_scylla.SLOT_STATUSES}:
        assert f"`{status}`" in readme


def test_the_readme_tells_every_finding() -> None:
    readme = (ROOT / "README.md").read_text()
    for name, code in pytest_scylla.CODES.items():
        assert f"| `{name}` | {code.meaning} |" in readme


@pytest.mark.parametrize("file", ["README.md", "examples/README.md"])
def test_links_of_the_readme_lead_somewhere(file: str) -> None:
    path = ROOT / file
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
