"""The Markdown report: the page's numbers, and no text from a file becomes markup, a link, a mention or a command."""

from __future__ import annotations

import doctest
import importlib.util
import re
from typing import Any

import pytest

from pytest_scylla.report import markdown
from pytest_scylla.report.markdown import LONGEST, code, render

from ..reports import Json, action, experiment, finding, full_scale, item, judge, report, run

HOSTILE = (
    "a|b",
    "<script>alert(1)</script>",
    "`code` ``more``",
    "[link](https://evil.example)",
    "https://evil.example www.evil.example me@evil.example",
    "::error::boo",
    "##[group]x",
    "**bold** _it_ ~~gone~~ # heading",
    "line\n\n# heading\n\n| a | b |\n|---|---|\n::error::x",
    "ends in a backslash \\",
    "\\| and \\` and \\<b>",
    "&lt;b&gt; &#124; &#96;",
    "![image](https://evil.example/x.png) @someone #12 $x^2$",
    " ",
    "\u202e\x1b[31m\ud800",
)


def damaged(text: str) -> Json:
    """A report in which everything that can hold a text from a file holds this one."""
    found = experiment(
        [run("T0/00/run_01", judges=[judge(0.5, model=text), judge(0.9, model=text)]), run(text, 0.2, 0.9)],
        [
            item("T0/00/run_01", finding(text, text, message=text, pointer=text)),
            item(text, finding("run-missing", text, message=text), actions=[action("judges", text, reason=text)]),
        ],
        findings=[finding("extra-run", text, message=text, warning=True)],
        experiment_id=text,
        path=text,
        requirements=[{"requirement": text, "count": 1, "of": 2, "percent": 50.0, "holds": None, "reason": text}],
        waivers=[
            {"line": 1, "item": text, "reason": text, "until": text, "waived": 0, "fault": "unused"},
            {"line": 4, "item": text, "reason": text, "until": text, "waived": 1, "fault": None},
        ],
        compared={
            **{kind: [] for kind in ("better", "changed", "scores", "new", "absent")},
            "baseline": text,
            "generated_at": text,
            "worse": [{"id": text, "before": None, "after": {"status": text, "outcome": text, "fallback": True}}],
            "not_compared": 0,
            "ratchet": {"holds": False, "reason": text},
        },
    )
    for slot in found["after"]["judge_slots"]["by_slot"].values():
        slot["model"] = text
    return {
        **report(found),
        "generated_at": text,
        "tool": {"pytest_scylla": text, "pytest": text, "python": text},
    }


def tokens(text: str) -> list[Any]:
    """The parsed document, as a reader of GitHub's kind of Markdown takes it: tables, links by themselves, HTML."""
    if importlib.util.find_spec("markdown_it") is None or importlib.util.find_spec("linkify_it") is None:
        pytest.skip("markdown-it-py and linkify-it-py, which read Markdown, are not installed")
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["table", "strikethrough", "linkify"])
    flat = []
    for token in parser.parse(text):
        flat.append(token)
        flat += token.children or []
    return flat


def outline(text: str) -> list[tuple[str, str]]:
    """What the document is made of, without the contents of its code spans."""
    made = []
    for token in tokens(text):
        if token.type == "html_inline" and token.content in ("<code>", "</code>"):
            continue
        if token.type in ("text", "code_inline", "inline", "softbreak"):
            continue
        made.append((token.type, token.markup if token.type != "html_inline" else token.content))
    return made


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_report_is_markup(text: str) -> None:
    assert outline(render(damaged(text))) == outline(render(damaged("harmless")))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_line_begins_with_a_command_of_a_ci_service(text: str) -> None:
    for line in render(damaged(text)).splitlines():
        assert not re.match(r"\s*(::|##\[)", line)
        assert "::" not in line


def shown(text: str) -> str:
    """What a reader sees of one code span."""
    return "".join(
        token.content for token in tokens(f"| x |\n|---|\n| {code(text)} |") if token.type in ("code_inline", "text")
    ).removeprefix("x")


@pytest.mark.parametrize("text", [text for text in HOSTILE if text.isprintable() and text.strip()])
def test_a_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_a_plain_text_is_a_plain_code_span() -> None:
    assert code("T0/00/run_01/judge_01") == "`T0/00/run_01/judge_01`"
    assert code("") == ""
    assert doctest.testmod(markdown).failed == 0


def test_the_template_can_only_name_what_is_escaped() -> None:
    template = markdown._environment().from_string("{{ text }}")
    with pytest.raises(TypeError, match="not escaped"):
        template.render(text="anything")


def test_it_says_what_the_page_says() -> None:
    found = experiment(
        [
            run("T0/00/run_01", 0.8, 0.6),
            run("T0/00/run_02", 0.5, None),
            run("T0/00/run_03", 0.5, 0.9, status="results"),
        ],
        [
            item(
                "T0/00/run_02/judge_02", finding("judge-slot-missing", "T0/00/run_02/judge/judge_02"), status="missing"
            ),
            item("T0/00/run_03", finding("run-result-missing", "T0/00/run_03/run_result.json")),
        ],
    )
    lines = render(report(found)).splitlines()
    assert lines[0] == "# 2 items are not sound"
    for line in (
        "- damage is left",
        "## Experiment `demo-001`",
        "- **77.77 %** sound: 7 of 9 runs and judge slots",
        "| `completed` | 2 | the agent's records, the consensus and run_result.json are there, sound, and agree |",
        "| `T0` | 3 | 2 | 5 of 6 | 2 | 0.600 | 0.600 | 0.500 | 0.700 | 1 | 3 | 0.1500 | 0.0500 |",
        "| 2 | `judge-medium-1` | 2 | 1 | 0 | 0.750 | 2 | 2 |",
        "| 1 and 2 | 2 | 0.300 | -0.100 | 1 of 2 | n too small |",
        "| `T0/00/run_03` | 0.500 | 0.900 | 0.400 |",
        "#### `run-result-missing`: 1 item",
        "| `T0/00/run_03` | `T0/00/run_03/run_result.json: expected a record, found none` |",
    ):
        assert line in lines, line


def test_before_stands_beside_after_where_they_differ() -> None:
    found = experiment([run("T0/00/run_01", 0.8)])
    before = {**found["before"], "runs": {**found["before"]["runs"], "completed": 0, "results": 1}}
    text = render(report({**found, "before": before}))
    assert "| runs (1 expected) | before | after | |" in text
    assert "| `results` | 1 | 0 |" in text


def test_it_is_as_long_as_there_is_room_for() -> None:
    assert len(render(full_scale()).encode()) < 60_000
    runs = [run(f"T0/00/run_{number:04d}", 0.5) for number in range(60)]
    items = [
        item(held["id"], *(finding(f"code-{number}", message=f"{held['id']} " + "ö" * 450) for number in range(60)))
        for held in runs
    ]
    text = render(report(experiment(runs, items)))
    assert 300_000 < len(text.encode()) <= LONGEST
    assert "50 more in the JSON report." in text
    long = "|" * 500  # as entities six times as long
    text = render(report(*[experiment(runs[:1], items[:1], experiment_id=long, path=long)] * 150))
    assert len(text.encode()) <= LONGEST
    assert text.endswith("\n\nThe rest had no room here: it is in the JSON report.\n")
    assert text.count("| `T0` |") > 50


def test_what_is_waived_is_told_with_the_day_and_the_reason() -> None:
    rows = [
        {"line": 1, "item": "T0/*", "reason": "gone", "until": "2026-12-31", "waived": 2, "fault": None},
        {"line": 4, "item": "T9/*", "reason": "gone", "until": "2026-12-31", "waived": 0, "fault": None},
    ]
    text = render(report(experiment([run("T0/00/run_01", 0.5)], waivers=rows)))
    assert "| `T0/*` | 2 | `2026-12-31` | `gone` |" in text
    assert "T9/*" not in text
    assert "What is waived" not in render(report(experiment([run("T0/00/run_01", 0.5)])))
