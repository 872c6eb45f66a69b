"""The documentation says what the code does: what is made from it is whole, and what is written by hand is true."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_scylla
from docs.from_code import calls, findings, fixtures, options, schemas, statuses, wording
from pytest_scylla.calling.replies import TABLE
from pytest_scylla.settings import REPORT_SUFFIXES

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in sorted(DOCS.rglob("*.md"))}


def parts_of(page: str) -> list[list[str]]:
    """The parts of a page that are made from the code, each with its arguments."""
    return [line.split() for line in re.findall(r"^```\{from-code\} (.+)$", PAGES[page], re.MULTILINE)]


# What is made from the code


def test_every_option_is_in_one_group_and_every_group_on_the_page() -> None:
    declared = options.Declared()
    listed = [name for group in options.GROUPS.values() for name in group]
    twins = {twin.name for name in declared.options if (twin := declared.twin(name)) is not None}
    assert sorted(listed) == sorted({*declared.options, *declared.ini} - twins)
    assert parts_of("reference/options.md") == [["options", group] for group in options.GROUPS]


def test_an_option_is_shown_with_its_help_and_its_ini_twin() -> None:
    shown = options.group("repair")
    assert "```{option} --repair-level=LEVEL\nHow far a repair goes: `regenerate` (files" in shown
    assert "In the ini file: {confval}`scylla_repair_level`." in shown
    assert "```{confval} scylla_repair_level\n:type: string\n\nHow far a repair goes; see `--repair-level`.\n" in shown


def test_an_ini_option_is_shown_with_its_kind_and_default() -> None:
    assert "```{confval} scylla_attempts\n:type: string\n:default: `3`\n" in options.group("cost")
    assert "```{confval} scylla_strict\n:type: bool\n:default: `false`\n" in options.group("audit")


def test_help_texts_are_shown_as_the_command_line_shows_them() -> None:
    assert "`min-runs=100%`" in options.group("gate")


def test_every_marker_is_shown() -> None:
    assert {"scylla_run", "scylla_judge", "scylla_checkpoint"} <= set(
        re.findall(r"^- `(\w+)`: ", options.markers(), re.MULTILINE)
    )


def test_every_code_is_shown_once_with_meaning_cause_and_remedy() -> None:
    shown = {severity: findings.codes(severity) for severity in ("error", "warning")}
    for name, code in pytest_scylla.CODES.items():
        headings = [severity for severity, text in shown.items() if f"### {name}\n" in text]
        assert headings == [code.severity], name
        (part,) = re.findall(rf"^### {name}\n(.*?)(?=^\(|\Z)", shown[code.severity], re.DOTALL | re.MULTILINE)
        for text in (code.meaning, code.cause, code.remedy):
            assert wording.prose(text) in part
    assert parts_of("reference/findings.md") == [["findings", "error"], ["findings", "warning"]]


def test_every_status_is_shown_with_its_meaning() -> None:
    assert parts_of("reference/statuses.md") == [["statuses", kind] for kind in statuses.STATUSES]
    for kind, words in statuses.STATUSES.items():
        for status in words:
            assert f"| `{kind}:{status}` | " in statuses.table(kind)


def test_every_fixture_is_shown_with_its_contract() -> None:
    assert fixtures.names() == ["scylla_regenerate", "scylla_judge", "scylla_agent", "scylla_workspace"]
    shown = fixtures.contracts()
    for name in fixtures.names():
        assert f"## {name}\n" in shown
    assert "   Ask a judge about one slot: a function of a ``JudgeRequest`` to a ``JudgeReply``.\n" in shown


def test_every_way_in_which_a_call_ends_is_shown_with_all_that_it_is_known_by() -> None:
    shown = calls.failures()
    for row in TABLE:
        (part,) = re.findall(rf"^{re.escape(wording.prose(row.what))}\n(.*?)\n$", shown, re.DOTALL | re.MULTILINE)
        assert part.startswith(f": {calls.MEANINGS[row.kind, row.scope]}.")
        assert all(wording.literal(word) in part for word in row.words)
    assert "`Not logged in`, `Please run /login`" in shown
    assert "`OAuth token (?:has expired|revoked)`, `Your organization" in shown
    for meaning in calls.MEANINGS.values():
        assert f"| {meaning} |" in PAGES["reference/calls.md"]


def test_every_schema_is_shown_once() -> None:
    shown = [part[1] for page in PAGES for part in parts_of(page) if part[0] == "schema"]
    assert sorted(shown) == schemas.names()
    assert len(shown) >= 20


def test_a_schema_is_shown_as_a_table_of_its_properties_down_to_the_last() -> None:
    shown = schemas.tables("judgment")
    assert "| `score` | number, 0 to 1 | required | Score, 0 to 1. |" in shown
    assert '| `grade` | `"S"`, `"A"`, `"B"`, `"C"`, `"D"`, `"F"`, `"N/A"` | required |' in shown
    assert "| `criteria_scores.<key>` | *criterion* |  | One criterion. |" in shown
    assert "### criterion\n\nOne criterion of the rubric.\n\n| property |" in shown
    assert '| `achieved` | number or null or `"N/A"` |  | Points reached. |' in shown
    assert '"reasoning": "Half of the inputs work."' in shown
    assert "| `completed_runs.<key>.<key>.<key>` | " in schemas.tables("checkpoint")


@pytest.mark.parametrize("name", schemas.names())
def test_every_property_of_a_schema_is_described(name: str) -> None:
    rows = re.findall(r"^\| `.*\|$", schemas.tables(name), re.MULTILINE)
    assert rows
    assert not [row for row in rows if re.search(r"\|\s*\|$", row)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("only 'T0/*', or '*/judge_01'", "only `T0/*`, or `*/judge_01`"),
        ("the experiment's own; the runner's", "the experiment's own; the runner's"),
        ("give --repair-max-calls=3 or --repair", "give `--repair-max-calls=3` or `--repair`"),
        ("agent/output.txt is absent.", "`agent/output.txt` is absent."),
        (".scylla/pauses/*.json: until when", "`.scylla/pauses/*.json`: until when"),
        ("kept in .scylla/.", "kept in `.scylla/`."),
        ("a *glob* [or] <so>", r"a \*glob\* \[or\] \<so\>"),
    ],
)
def test_a_text_of_the_code_is_markdown_that_shows_it(text: str, shown: str) -> None:
    assert wording.prose(text) == shown


# What is written by hand


def test_every_guarantee_is_there_and_every_test_that_it_names() -> None:
    page = PAGES["guarantees.md"]
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [part.split()[0] for part in parts[:10]] == [f"G{number}" for number in range(1, 11)]
    for part in parts:
        named = re.findall(r"^- `(tests/\S+\.py)::(test_\w+)`$", part, re.MULTILINE)
        assert len(named) >= 2, part
        for file, test in named:
            tree = ast.parse((PROJECT / file).read_text("utf-8"))
            assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (file, test)


def test_every_name_of_the_library_is_on_its_page() -> None:
    shown = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", PAGES["reference/library.md"], re.MULTILINE)
    assert sorted(shown) == sorted(pytest_scylla.__all__)


def test_every_option_that_a_page_names_exists() -> None:
    declared = options.Declared()
    for page, text in PAGES.items():
        named = set(re.findall(r"(?<![\w-])--(?:scylla|repair)[a-z-]*", text))
        assert named <= set(declared.options), page
        assert set(re.findall(r"\{confval\}`(\w+)`", text)) <= set(declared.ini), page


def test_every_kind_of_report_is_named() -> None:
    assert all(suffix in options.group("report") for suffix in REPORT_SUFFIXES)


def test_the_cause_that_a_page_prints_is_the_one_that_is_printed() -> None:
    page = PAGES["how-to/read-a-finding.md"]
    ((code, printed),) = re.findall(r"^\$ python -c .*CODES\['([a-z-]+)'\]\.cause\)\"\n(.*)$", page, re.MULTILINE)
    assert printed == pytest_scylla.CODES[code].cause


def test_links_between_pages_lead_somewhere() -> None:
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", text):
            assert ((DOCS / page).parent / target).exists(), (page, target)


@pytest.mark.parametrize("page", ["how-to/own-judge.md", "how-to/own-agent.md"])
def test_a_fixture_that_a_page_shows_is_one_that_there_is(page: str) -> None:
    for code in re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL):
        tree = ast.parse(code)
        shown = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert set(shown) <= set(fixtures.names())
        names = [
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "pytest_scylla"
            for alias in node.names
        ]
        assert names
        assert set(names) <= set(pytest_scylla.__all__)


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_the_examples_with_pandas_work(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "examples" / "healthy", tmp_path / "healthy")
    page = PAGES["how-to/pandas.md"]
    (command,) = re.findall(r"^\$ pytest (.*)$", page, re.MULTILINE)
    report = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *command.split()]
    subprocess.run(report, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 +T0/00/run_01 +completed +0\.\d+ ", done.stdout, re.MULTILINE)
    assert re.search(r"^T0 +1 +1 +0\.\d+$", done.stdout, re.MULTILINE)
    assert "0 of 6 judgments are fallbacks" in done.stdout
