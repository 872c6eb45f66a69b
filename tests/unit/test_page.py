"""The page and what it counts: honest numbers, nothing from outside, and no text from a file is ever markup."""

from __future__ import annotations

import base64
import doctest
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from pytest_scylla.experiment.schemas import load_schema
from pytest_scylla.report import charts, quantities
from pytest_scylla.report.figures import Figures, Outlier, PairRow, cleaned, figures
from pytest_scylla.report.gate import MOST_WAIVERS
from pytest_scylla.report.page import render
from pytest_scylla.report.page_data import page_data

from ..reports import Json, action, experiment, finding, full_scale, item, judge, report, run

VOID = {"meta", "link", "br", "input"}
HOSTILE = (
    "\"><script>alert(1)</script><img src=x onerror=alert(2)> '` javascript:alert(3) </script></style></title>"
    "<!--<script> {{ 7*7 }} {% raw %} &lt;b&gt; \u2028\u2029 ::error::x"
)


class Element:
    """An element of a page that was parsed, with the text in it."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag = tag
        self.attributes = attributes
        self.parent = parent
        self.text = ""

    def inside(self, tag: str) -> bool:
        return self.tag == tag or (self.parent is not None and self.parent.inside(tag))


class Page(HTMLParser):
    """A page, parsed: all its elements in order; every one that was opened has to be closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, [element.tag for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: {tag} {attrs}"
        element = Element(tag, dict(attrs), self._open[-1] if self._open else None)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), self._open[-1]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> where <{self._open[-1].tag}> is open"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [
            element
            for element in self.elements
            if element.tag == tag and all(element.attributes.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    def data(self) -> Json:
        data: Json = json.loads(self.one("script", id="data").text)
        return data

    def words(self) -> str:
        """What a reader sees, without the line breaks of the source."""
        return " ".join(
            " ".join(element.text for element in self.elements if element.tag in ("header", "main")).split()
        )

    def table(self, caption: str) -> list[list[str]]:
        """The cells of the table with this caption, its heading first."""
        (place,) = [
            index for index, found in enumerate(self.elements) if found.tag == "caption" and caption in found.text
        ]
        rows: list[list[str]] = []
        for found in self.elements[place + 1 :]:
            if not found.inside("table"):
                if rows:
                    break
                continue
            if found.tag == "caption":
                break
            if found.tag == "tr":
                rows.append([])
            elif found.tag in ("th", "td"):
                rows[-1].append(" ".join(found.text.split()))
        return rows


def of(found: Json) -> Figures:
    """The figures of one experiment."""
    return figures(cleaned(found), 1)


def page_of(*experiments: Json, **changes: Any) -> Page:
    return Page(render(report(*experiments, **changes)))


def damaged() -> Json:
    """An experiment with a damaged run, a lost slot, a fallback, a warning, and stale checkpoint and aggregates."""
    return experiment(
        [
            run("T0/00/run_01", 0.8, 0.9, 0.7),
            run("T0/00/run_02", 0.4, 0.5, None),
            run("T1/01/run_01", 0.9, 0.9, 0.9, status="results"),
            run("T1/01/run_02", status="missing", cost=None, judges=[judge(None, status="agent_failed")] * 3),
        ],
        [
            item("T0/00/run_01/judge_02", finding("fallback", warning=True), status="complete", outcome="passed"),
            item(
                "T0/00/run_02/judge_03",
                finding("judge-slot-missing", "T0/00/run_02/judge/judge_03"),
                status="missing",
            ),
            item(
                "T1/01/run_01",
                finding("run-result-missing", "T1/01/run_01/run_result.json", message="expected a record, found none"),
            ),
            item("T1/01/run_02", finding("run-missing"), status="missing"),
            *(
                item(f"T1/01/run_02/judge_0{number}", finding("no-agent-result"), status="agent_failed")
                for number in (1, 2, 3)
            ),
            item("checkpoint", finding("checkpoint-lacks-run", "checkpoint.json"), status="stale"),
            item(
                "aggregates",
                finding("aggregate-stale", "T1/result.json", pointer="/total_cost"),
                finding("report-missing", "report.md", warning=True),
                status="stale",
            ),
        ],
    )


# The page as a file


def test_the_page_brings_everything_with_it() -> None:
    page = page_of(damaged())
    for element in page.elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"an inline handler: {element.tag} {name}"
            assert name not in ("style", "src", "action", "srcset", "formaction", "background"), (element.tag, name)
            if name == "href":
                assert value is not None
                assert value.startswith(("#", "data:image/svg+xml,")), value
    assert len(page.all("style")) == 1
    assert [script.attributes.get("type") for script in page.all("script")] == ["application/json", None]
    style = page.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    for reaches_out in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon", "innerHTML", "eval("):
        assert reaches_out not in page.all("script")[1].text


def test_the_policy_admits_its_own_style_and_script_and_nothing_else() -> None:
    page = page_of(damaged())
    (policy,) = [
        element for element in page.all("meta") if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(part.split(" ", 1) for part in str(policy.attributes["content"]).split("; "))

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert directives == {
        "default-src": "'none'",
        "style-src": hashed(page.one("style").text),
        "script-src": hashed(page.all("script")[1].text),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    # What stands before a policy is not subject to it.
    assert [element.tag for element in page.elements[:4]] == ["html", "head", "meta", "meta"]
    assert page.elements[3] is policy


def texts_replaced(value: Any, hostile: str, keep: frozenset[str]) -> Any:
    """The same document with every text hostile, but for the keys that are contracts of the format."""
    if isinstance(value, dict):
        return {key: held if key in keep else texts_replaced(held, hostile, keep) for key, held in value.items()}
    if isinstance(value, list):
        return [texts_replaced(held, hostile, keep) for held in value]
    return hostile if isinstance(value, str) else value


@pytest.mark.parametrize("kept", ["nothing", "ids", "words of the format"])
def test_no_text_of_a_report_is_markup(kept: str) -> None:
    known = {"nothing": (), "ids": ("id", "status"), "words of the format": ("status", "outcome", "severity", "kind")}
    found = damaged()
    found["items"][3] |= {"outcome": "waived", "waiver": {"line": 4, "reason": "x", "until": "x"}, "remedy": "x"}
    found["items"][2]["actions"] = [action("regenerate", "T1/01/run_01/run_result.json"), action("judges", "a", "b")]
    found |= {
        "requirements": [
            {"requirement": "x", "count": 1, "of": 2, "percent": 50.0, "holds": None, "reason": "partial"}
        ],
        "waivers": [
            {"line": 1, "item": "T*", "reason": "x", "until": "x", "waived": 0, "fault": "unused"},
            {"line": 4, "item": "T1/*", "reason": "x", "until": "x", "waived": 1, "fault": None},
        ],
        "compared": {
            **{kind: [] for kind in ("better", "changed", "scores", "new", "absent")},
            "baseline": "old.json",
            "generated_at": "x",
            "worse": [
                {"id": "T0/00/run_01", "before": None, "after": {"status": "x", "outcome": "x", "fallback": True}}
            ],
            "not_compared": 0,
            "ratchet": {"holds": None, "reason": "x"},
        },
    }
    harmless = Page(render(texts_replaced(report(found), "harmless", frozenset(known[kept]))))
    hostile = Page(render(texts_replaced(report(found), HOSTILE, frozenset(known[kept]))))
    # The same elements with the same attributes, whatever the texts say: nothing of them became markup.
    assert [(element.tag, sorted(element.attributes)) for element in hostile.elements] == [
        (element.tag, sorted(element.attributes)) for element in harmless.elements
    ]
    assert "<img src=x onerror=alert(2)>" in hostile.one("main").text
    assert "{{ 7*7 }}" in hostile.one("main").text
    assert any("</script></style>" in text for text in hostile.data()["texts"])


def test_nothing_in_the_data_can_end_the_element_that_holds_it() -> None:
    html = render(texts_replaced(report(damaged()), HOSTILE, frozenset()))
    (held,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert not set("<>&\u2028\u2029") & set(held)
    assert held.isascii()
    assert json.loads(held)["experiments"][0]["runs"]


def test_the_page_can_be_written_whatever_the_texts_hold() -> None:
    found = texts_replaced(damaged(), "\ud800 \x1b[31m \x00 \u202e \U0010ffff", frozenset({"status"}))
    html = render(report(found))
    html.encode()
    assert not {character for character in html if not character.isprintable()} - {"\n"}


def test_a_text_is_told_in_full_only_up_to_a_limit() -> None:
    html = render(report(experiment([run("T0/00/run_01", 0.5)], [item("T0/00/run_01", finding("x", "y" * 1_000_000))])))
    assert len(html) < 200_000


def test_a_page_of_1130_runs_is_below_3_megabytes_even_if_everything_is_damaged() -> None:
    found = full_scale()["experiments"][0]
    items = []
    for held in found["runs"]:
        for item_id in (held["id"], *(f"{held['id']}/judge_0{number}" for number in (1, 2, 3))):
            wrong = [
                finding("consensus-stale", f"{item_id}/{number}", message=f"{item_id} {number} " + "\u00e9" * 400)
                for number in range(40)
            ]
            items.append(item(item_id, *wrong, actions=[action("judges", f"{item_id}/x", reason="r" * 400)] * 40))
    html = render(report({**found, "items": items}))
    assert len(html.encode()) <= 3_000_000
    (told,) = Page(html).data()["experiments"]
    assert len(told["items"]) == 4520
    assert 0 < told["cut"] < 4520
    # Of what is cut the codes are left, once each.
    assert [len(held[6]) for held in told["items"][-told["cut"] :]] == [1] * told["cut"]
    assert all(len(held[6]) == 30 and held[8] == 20 for held in told["items"][: -told["cut"]])


def test_the_worst_items_come_first_and_are_cut_last() -> None:
    found = experiment(
        [run(f"T0/00/run_0{number}", 0.5) for number in range(1, 7)],
        [
            item("T0/00/run_01", finding("side-file-missing", warning=True), outcome="passed"),
            item("T0/00/run_02", outcome="repaired", actions=[action()]),
            item("T0/00/run_03", finding("run-missing"), outcome="waived"),
            item("T0/00/run_04/judge_01", finding("no-agent-result")),
            item("T0/00/run_05", finding("run-missing"), outcome="not-run"),
            item("T0/00/run_06", finding("run-missing", message="m" * 90)),
        ],
    )
    (told,) = page_data([found], [of(found)], room=400)["experiments"]
    assert [held[0] for held in told["items"]] == [4, 5, 3, 2, 1, 0]
    assert told["cut"] == 3
    assert [bool(held[6] and held[6][0][4] == held[6][0][2]) for held in told["items"][:3]] == [False] * 3


def test_texts_are_kept_once() -> None:
    found = experiment(
        [run(f"T0/00/run_0{number}", 0.5) for number in range(1, 4)],
        [item(f"T0/00/run_0{n}", finding("x", f"T0/00/run_0{n}/a/b.json", message="the same")) for n in (1, 2, 3)],
    )
    data = page_data([found], [of(found)])
    assert data["texts"].count("the same") == 1
    assert data["texts"].count("\x01a/b.json") == 1
    assert len(set(data["texts"])) == len(data["texts"])


def test_a_page_carries_every_run_and_slot() -> None:
    data = page_of(damaged()).data()
    (told,) = data["experiments"]
    texts = data["texts"]
    assert [held[0] for held in told["runs"]] == ["T0/00/run_01", "T0/00/run_02", "T1/01/run_01", "T1/01/run_02"]
    assert [texts[held[1]] for held in told["runs"]] == ["completed", "completed", "results", "missing"]
    assert told["runs"][0][2:5] == [0.8, 1, 0.05]
    assert told["runs"][0][5][1][1:] == [0.9, 2]  # a fallback
    assert told["runs"][1][5][2][1:] == [None, None]
    assert [texts[model] for model in told["models"]] == ["judge-large-1", "judge-medium-1", "judge-small-1"]


def test_a_judge_of_another_model_than_its_slot_keeps_its_name() -> None:
    found = experiment([run("T0/00/run_01", judges=[judge(0.5, model="somebody-else"), judge(0.5)])])
    data = page_of(found).data()
    slots = data["experiments"][0]["runs"][0][5]
    assert data["texts"][slots[0][3]] == "somebody-else"
    assert len(slots[1]) == 3


# The page for readers


def test_headings_go_down_one_level_at_a_time() -> None:
    page = page_of(damaged(), experiment([run("T0/00/run_01", 0.5)]))
    levels = [int(element.tag[1]) for element in page.elements if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_reference_leads_somewhere_and_every_id_is_one() -> None:
    page = page_of(damaged(), damaged())
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    made_by_the_script = {"panel-title"}
    for element in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            if name in element.attributes:
                assert element.attributes[name] in {*ids, *made_by_the_script}
        href = element.attributes.get("href") or ""
        if href.startswith("#"):
            assert href[1:] in ids
    assert {element.tag for element in page.elements} >= {"header", "nav", "main", "h1"}
    assert page.one("html").attributes["lang"] == "en"


def test_every_chart_says_in_words_what_it_shows() -> None:
    page = page_of(damaged())
    pictures = page.all("svg")
    assert len(pictures) == 5  # statuses of two tiers, scores of the one that has any, costs of two
    for picture in pictures:
        assert picture.attributes["role"] == "img"
        assert str(picture.attributes["aria-label"]).strip()
        assert picture.inside("table")
    assert "T1: 1 results, 1 missing" in [picture.attributes["aria-label"] for picture in pictures]


def test_every_table_has_headings_with_a_scope() -> None:
    page = page_of(damaged())
    for heading in page.all("th"):
        assert heading.attributes["scope"] in ("col", "row")
        assert heading.text.strip()


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG computes it."""

    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        if len(digits) == 3:
            digits = "".join(digit * 2 for digit in digits)
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def colours(style: str, place: str) -> dict[str, str]:
    """The custom properties of the first rule for ``:root`` after ``place``."""
    rule = style[style.index(place) :]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", rule[: rule.index("}")]))


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_texts_have_contrast_in_every_scheme(scheme: str) -> None:
    style = page_of(damaged()).one("style").text
    light = colours(style, ":root")
    scheme_of = {
        "light": light,
        "dark": light | colours(style, "@media (prefers-color-scheme: dark)"),
        # Whatever the reader's screen is like, paper is white.
        "print": light | colours(style, "@media (prefers-color-scheme: dark)") | colours(style, "@media print"),
    }[scheme]
    for text in ("text", "quiet", "link", "bad"):
        for ground in ("back", "raised"):
            assert contrast(scheme_of[text], scheme_of[ground]) >= 4.5, (text, ground)
    assert contrast(scheme_of["sound-text"], scheme_of["sound"]) >= 4.5
    for ground in ("results", "failed", "partial", "conflict"):
        assert contrast(scheme_of["on-colour"], scheme_of[ground]) >= 4.5, ground
    assert contrast("#000", scheme_of["unsafe"]) >= 4.5
    assert contrast(scheme_of["focus"], scheme_of["back"]) >= 3


def test_items_of_every_kind_are_listed_with_words_for_their_statuses() -> None:
    data = page_of(damaged()).data()
    texts, words = data["texts"], data["words"]
    told = {texts[held[2]]: held for held in data["experiments"][0]["items"]}
    assert [*words] == ["run", "judge_slot", "checkpoint", "aggregates", "outcome"]
    assert {*told} == {*words} - {"outcome"}
    for kind, held in told.items():
        letter, meaning = words[kind][texts[held[4]]]
        assert len(letter) == 1
        assert meaning


def test_aggregates_are_told_file_by_file() -> None:
    data = page_of(damaged()).data()
    texts = data["texts"]
    (held,) = [held for held in data["experiments"][0]["items"] if held[0] == "aggregates"]
    assert (held[1], texts[held[2]], texts[held[4]], texts[held[5]]) == (0, "aggregates", "stale", "failed")
    assert data["words"]["aggregates"]["stale"] == ["S", "one says something else than the runs"]
    assert [(texts[code], is_error, texts[file], texts[pointer]) for code, is_error, file, pointer, _ in held[6]] == [
        ("aggregate-stale", 1, "T1/result.json", "/total_cost"),
        ("report-missing", 0, "report.md", ""),
    ]


def test_statuses_that_need_attention_differ_in_their_letters() -> None:
    words = page_of(damaged()).data()["words"]
    for kind in ("run", "judge_slot", "checkpoint", "aggregates"):
        letters = [letter for letter, _ in words[kind].values()]
        assert len(set(letters)) == len(letters), kind


# What it says


def test_the_headline_of_a_sound_experiment() -> None:
    page = page_of(experiment([run("T0/00/run_01", 0.5, 0.6), run("T0/00/run_02", 0.5, 0.6)]))
    assert page.one("h1").text.split("✓ ")[1] == "Everything is sound: 6 runs and judge slots"
    assert "Nothing was repaired, and no damage was met." in page.words()
    assert "100.00 % 6 of 6 runs and judge slots" in page.words()
    assert "Nothing was found." in page.words()


def test_the_headline_of_a_damaged_experiment() -> None:
    page = page_of(damaged())
    assert page.one("h1").text.split("! ")[1] == "8 items are not sound"
    assert "Damage is left." in page.words()
    assert "62.50 % 10 of 16 runs and judge slots" in page.words()
    assert page.all("title")[0].text == "8 items are not sound – pytest-scylla"


def test_one_item_is_told_in_the_singular() -> None:
    page = page_of(experiment([run("T0/00/run_01", 0.5)], [item("T0/00/run_01", finding("run-result-stale"))]))
    assert "1 item is not sound" in page.one("h1").text


def test_what_was_not_audited_is_not_called_sound() -> None:
    unseen = run("T0/00/run_02", status="not_audited", cost=None, judges=[judge(None, status="not_audited")])
    page = page_of(experiment([run("T0/00/run_01", 0.5), unseen]))
    assert "What was audited is sound; 2 of 4 items were not audited" in page.one("h1").text
    assert "how complete it is nobody knows" in page.words()
    assert page.table("Runs: 2 expected")[2] == ["? not audited", "1", "this session did not look at it"]


def test_an_interruption_is_told() -> None:
    page = page_of(experiment([run("T0/00/run_01", 0.5)]), interrupted=True, exit_bits=2)
    assert "The session was interrupted" in page.words()
    assert "What was audited is sound" in page.one("h1").text
    assert "The session stopped early (a limit, a budget, an interruption): run it again." in page.words()


def test_every_exit_bit_is_told_in_words_the_gravest_first() -> None:
    words = {
        8: "A repair met an operational error",
        4: "Damage is left",
        2: "stopped early",
        1: "Something was repaired",
    }
    for bits in range(1, 16):
        told = page_of(damaged(), exit_bits=bits).one("header").text
        assert [bit for bit in words if words[bit] in told] == [bit for bit in words if bits & bit]
    assert told.index(words[8]) < told.index(words[4]) < told.index(words[2]) < told.index(words[1])


def test_waived_items_are_not_called_damage() -> None:
    page = page_of(
        experiment(
            [run("T0/00/run_01", 0.5), run("T0/00/run_02", status="missing", judges=[judge(None)])],
            [item("T0/00/run_02", finding("run-missing"), status="missing", outcome="waived")],
        )
    )
    assert "Everything is sound, but for 1 waived" in page.one("h1").text
    assert "0 items, and 1 waived" in page.words()


def waiver(line: int, item_id: str, waived: int, reason: str = "known") -> Json:
    """What the report says of a waiver."""
    return {"line": line, "item": item_id, "reason": reason, "until": "2026-12-31", "waived": waived, "fault": None}


def test_what_is_waived_is_told_with_the_day_and_the_reason() -> None:
    waivers = [waiver(1, "T0/*", 2, "the service is gone"), waiver(4, "T9/*", 0)]
    page = page_of(experiment([run("T0/00/run_01", 0.5)], waivers=waivers))
    told = [element.text.strip() for element in page.elements if element.tag in ("th", "td")]
    place = told.index("T0/*")
    assert told[place : place + 4] == ["T0/*", "2", "2026-12-31", "the service is gone"]
    assert "T9/*" not in told
    assert page.one("a", href="#waived-1").text == "What is waived"
    assert page_of(damaged()).all("a", href="#waived-1") == []


def test_so_many_waivers_are_told_and_no_more() -> None:
    waivers = [waiver(number, f"T{number}/*", 1, "of many") for number in range(MOST_WAIVERS + 3)]
    page = page_of(experiment([run("T0/00/run_01", 0.5)], waivers=waivers))
    assert sum(element.text == "of many" for element in page.all("td")) == MOST_WAIVERS
    assert "3 more in the JSON report." in page.words()


def told_of(held: Json) -> tuple[list[str], str, str]:
    """What the page's data tell of an item beside its findings: actions, remedy, waiver."""
    data = page_data([experiment([run("T0/00/run_01", 0.5)], [held])], [of(experiment([run("T0/00/run_01", 0.5)]))])
    (packed,) = data["experiments"][0]["items"]
    texts = data["texts"]
    return [texts[place] for place in packed[7]], texts[packed[9]], texts[packed[10]]


def test_a_waived_item_says_until_when_and_why() -> None:
    held = item("T0/00/run_01", finding("run-missing"), outcome="waived")
    held["waiver"] = {"line": 7, "reason": "the service is gone", "until": "2026-12-31"}
    assert told_of(held)[2] == "until 2026-12-31: the service is gone (line 7 of the waivers)"
    assert told_of(item("T0/00/run_01", finding("run-missing")))[2] == ""


@pytest.mark.parametrize(
    ("remedy", "level", "told"),
    [
        ("1 judge call (ask it again)", "judges", "1 judge call (ask it again), --repair-level=judges"),
        ("none: a person has to decide", None, "none: a person has to decide"),
        ("none: --repair-retry asks again", "judges", "none: --repair-retry asks again"),
        (None, None, ""),
    ],
)
def test_the_remedy_is_told_with_how_far_a_repair_has_to_go(remedy: str | None, level: str | None, told: str) -> None:
    assert told_of({**item("T0/00/run_01", finding("x")), "remedy": remedy, "level": level})[1] == told


def test_a_refusal_that_says_no_more_than_the_remedy_is_left_out() -> None:
    refused = action("judges", outcome="refused", what="judge call", reason="1 judge call (ask it again)")
    other = action("judges", outcome="refused", what="judge call", reason="not-run: no credit")
    held = item("T0/00/run_01", finding("x"), actions=[refused, other])
    held |= {"remedy": "1 judge call (ask it again)", "level": "judges"}
    assert told_of(held)[0] == ["no repair: not-run: no credit"]


def requirement(holds: bool | None, reason: str | None = None) -> Json:
    return {"requirement": "min-runs=50%", "count": 2, "of": 4, "percent": 50.0, "holds": holds, "reason": reason}


@pytest.mark.parametrize(
    ("holds", "headline", "line"),
    [
        (True, "8 items are not sound, which the requirements allow", "min-runs=50%: 2 of 4, 50 %: holds"),
        (False, "8 items are not sound; 1 of 1 requirements does not hold", "2 of 4, 50 %: does not hold"),
        (None, "8 items are not sound; 1 of 1 requirements does not hold", "50 % (a part of it): refused"),
    ],
)
def test_requirements_are_told_with_their_arithmetic(holds: bool | None, headline: str, line: str) -> None:
    page = page_of({**damaged(), "requirements": [requirement(holds, None if holds is not None else "a part of it")]})
    assert headline in page.one("h1").text
    assert line in page.words()


def test_a_sound_experiment_that_misses_a_requirement_is_not_called_sound() -> None:
    page = page_of({**experiment([run("T0/00/run_01", 0.5)]), "requirements": [requirement(False)]})
    assert page.one("h1").text.split("! ")[1] == "1 of 1 requirements does not hold"


def test_what_became_worse_since_the_baseline_is_listed() -> None:
    (example,) = load_schema("report")["examples"]
    page = Page(render(example))
    assert page.table("What became worse")[1] == ["T0/00/run_03", "missing, waived", "not expected"]
    assert "1 worse, 1 better, 1 with another score, 1 new, 1 no longer expected" in page.words()
    assert "the waiver in line 1, for T0/00/run_03, is unused: does not hold" in page.words()


def test_statuses_that_nothing_has_are_left_out() -> None:
    page = page_of(damaged())
    assert [row[0] for row in page.table("Runs: 4 expected")[1:]] == ["· completed", "R results", "M missing"]
    assert page.table("Runs: 4 expected")[0] == ["Status", "Number", "Meaning"]


def test_before_and_after_stand_side_by_side_where_they_differ() -> None:
    found = damaged()
    before = json.loads(json.dumps(found["before"]))
    before["runs"] |= {"completed": 1, "failed": 1}
    page = page_of({**found, "before": before})
    assert page.table("Runs: 4 expected")[:3] == [
        ["Status", "Before", "After", "Change", "Meaning"],
        ["· completed", "1", "2", "+1", page.table("Runs: 4 expected")[1][4]],
        ["R results", "1", "1", "0", page.table("Runs: 4 expected")[2][4]],
    ]
    assert page.table("Runs: 4 expected")[3][:4] == ["F failed", "1", "0", "−1"]
    assert "2 of 4 completed, 1 before" in page.words()


def test_repairs_are_told_with_their_cost() -> None:
    done = {
        "regenerated": 3,
        "judge_calls": 2,
        "agent_runs": 1,
        "failed": 1,
        "refused": 4,
        "cost_usd": 1.5,
        "seconds": 75,
    }
    page = page_of({**damaged(), "repairs": done})
    assert "3 files rebuilt, 2 judge calls, 1 agent run; cost 1.50 USD, 1 min 15 s; 1 failed; 4 refused" in page.words()
    page = page_of({**damaged(), "repairs": {**done, "cost_usd": None}})
    assert "1 agent run; cost unknown, 1 min 15 s" in page.words()


def test_a_plan_is_told_as_one() -> None:
    found = damaged()
    found["items"][1]["actions"] = [
        action("judges", "a", "b", outcome="planned", calls=1, cost_usd=0.25, seconds=40),
        action("regenerate", "c", outcome="planned"),
    ]
    found["items"][2]["actions"] = [action("regenerate", "d", outcome="planned")]
    page = page_of(found)
    assert (
        "rebuild 2 files for free, ask judges 1 time: about 0.2500 USD, about 41 s one after the other. "
        "Nothing was written, nobody was asked." in page.words()
    )
    found["items"][1]["actions"][0] |= {"cost_usd": None, "seconds": None}
    assert "ask judges 1 time: cost unknown. Nothing was written" in page_of(found).words()


def test_findings_are_grouped_by_code_the_causes_before_what_follows_from_them() -> None:
    part = of(damaged())
    assert [(row.code, len(row.items)) for row in part.codes] == [
        ("aggregate-stale", 1),
        ("checkpoint-lacks-run", 1),
        ("judge-slot-missing", 1),
        ("run-missing", 1),
        ("run-result-missing", 1),
        ("no-agent-result", 3),
        ("fallback", 1),
        ("report-missing", 1),
    ]
    words = page_of(damaged()).words()
    assert "run-result-missing error" in words
    assert "run_result.json is absent. Usually: The runner died before the end. Free: it can be rebuilt" in words


def test_an_item_counts_once_for_a_code_that_it_has_twice() -> None:
    found = experiment([run("T0/00/run_01", 0.5)], [item("T0/00/run_01", *[finding("consensus-stale")] * 3)])
    assert [len(row.items) for row in of(found).codes] == [1]


def test_findings_about_the_experiment_itself_are_among_them() -> None:
    found = experiment([run("T0/00/run_01", 0.5)], findings=[finding("extra-run", "T0/00/run_02", warning=True)])
    (row,) = of(found).codes
    assert (row.code, row.severity, row.items) == ("extra-run", "warning", ("the experiment",))
    assert "extra-run warning" in page_of(found).words()


def test_a_code_that_nobody_knows_is_told_by_its_message() -> None:
    found = experiment([run("T0/00/run_01", 0.5)], [item("T0/00/run_01", finding("new-code", "f", message="so it is"))])
    assert "f: so it is" in page_of(found).words()


def test_several_experiments_have_a_section_each() -> None:
    page = page_of(damaged(), experiment([run("T0/00/run_01", 0.5)], experiment_id="second"))
    sections = [element for element in page.all("section") if "data-experiment" in element.attributes]
    assert [element.attributes["data-experiment"] for element in sections] == ["0", "1"]
    assert [heading.text for heading in page.all("h2")] == ["Experiment demo-001", "Experiment second"]
    assert "8 items are not sound" in page.one("h1").text


def test_a_report_without_experiments_runs_or_judges_is_a_page_too() -> None:
    assert "audited no experiment" in page_of().words()
    assert "No run is expected." in page_of(experiment([])).words()
    assert "No judge is configured." in page_of(experiment([run("T0/00/run_01", score=0.5)])).words()


# Means and their n


def test_a_mean_names_how_many_runs_it_is_of() -> None:
    page = page_of(damaged())
    rows = page.table("Scores by tier")
    assert rows[0] == ["Tier", "n", "Distribution from 0 to 1", "Mean", "Median", "Least", "Most", "Passed"]
    assert [cell for place, cell in enumerate(rows[1]) if place != 2] == [
        *("T0", "2 of 2", "0.625", "0.625", "0.450", "0.800", "1 of 2")
    ]
    assert rows[2] == ["T1", "0 of 2", "", "–", "–", "–", "–", "0 of 0"]


def test_a_run_with_fewer_than_half_of_its_judges_has_no_score_rather_than_a_bad_one() -> None:
    half = run("T0/00/run_01", 0.9, None)
    fewer = run("T0/00/run_02", 0.1, None, None)
    (tier,) = of(experiment([half, fewer])).tiers
    assert tier.scores == (0.9,)
    assert (tier.scored.n, tier.scored.of, tier.scored.mean) == (1, 2, 0.9)


def test_costs_are_of_the_runs_of_which_they_are_known() -> None:
    page = page_of(damaged())
    rows = page.table("Costs of the agents by tier")
    assert [row[:2] + row[3:] for row in rows[1:]] == [
        ["T0", "2 of 2", "0.1000", "0.0500", "0.0500", "0.0500"],
        ["T1", "1 of 2", "0.0500", "0.0500", "0.0500", "0.0500"],
        ["All", "3 of 4", "0.1500", "0.0500", "0.0500", "0.0500"],
    ]
    assert "of 1 it is not, so that all is at least what it says" in page.words()


def test_judges_are_told_one_by_one_without_the_fallbacks() -> None:
    (first, second, third) = of(damaged()).judges
    assert (first.scored.n, first.scored.of, first.passed) == (3, 4, 2)
    assert (second.scored.n, second.fallback) == (2, 1)  # of 0.9, which is a fallback, 0.5 and 0.9
    assert second.scored.mean == pytest.approx(0.7)
    assert (third.scored.n, third.by_status["missing"], third.by_status["agent_failed"]) == (2, 1, 1)


def test_agreement_is_measured_on_the_runs_that_both_judged() -> None:
    runs = [
        run("T0/00/run_01", 0.8, 0.6),
        run("T0/00/run_02", 0.5, 0.6),
        run("T0/00/run_03", 0.9, 0.9),
        run("T0/00/run_04", 0.5, None),
    ]
    (pair,) = of(experiment(runs)).pairs
    assert (pair.first, pair.second, pair.n, pair.agreeing) == (1, 2, 3, 2)
    assert pair.distance == pytest.approx(0.1)
    assert pair.bias == pytest.approx(0.1 / 3)
    assert pair.correlation is None


def of_pairs(*scores: tuple[float, float]) -> PairRow:
    (pair,) = of(experiment([run(f"T0/00/run_{n:02d}", *both) for n, both in enumerate(scores, 1)])).pairs
    return pair


def test_a_correlation_is_told_from_ten_runs_on() -> None:
    falling = [(number / 10, 1 - number / 10) for number in range(10)]
    assert of_pairs(*falling[:9]).correlation is None
    assert of_pairs(*falling).correlation == pytest.approx(-1)
    page = page_of(experiment([run(f"T0/00/run_{n:02d}", *both) for n, both in enumerate(falling[:9], 1)]))
    assert page.table("How far judges agree")[1][-1] == "n too small"


def test_a_judge_that_gives_always_the_same_score_correlates_with_nobody() -> None:
    constant = [(0.5, number / 10) for number in range(10)]
    assert of_pairs(*constant).correlation is None
    page = page_of(experiment([run(f"T0/00/run_{n:02d}", *both) for n, both in enumerate(constant, 1)]))
    assert page.table("How far judges agree")[1][-1] == "always the same score"


def test_runs_whose_judges_differ_most_come_first() -> None:
    runs = [run("T0/00/run_01", 0.5, 0.5), run("T0/00/run_02", 0.5, None), run("T0/00/run_03", 0.5, 0.9)]
    runs += [run(f"T1/01/run_{number:02d}", 0.7, 0.7 + number / 100) for number in range(1, 21)]
    part = of(experiment(runs))
    assert part.outliers[0] == Outlier("T0/00/run_03", (0.5, 0.9), 0.4, True)
    assert [outlier.run for outlier in part.outliers[1:3]] == ["T1/01/run_20", "T1/01/run_19"]
    assert len(part.outliers) == 10
    assert (part.judged_by_several, part.split) == (22, 1)
    assert "On 1 of the 22 runs with two verdicts or more" in page_of(experiment(runs)).words()


def test_a_fallback_is_no_outlier() -> None:
    found = experiment(
        [run("T0/00/run_01", 0.1, 0.9)],
        [item("T0/00/run_01/judge_02", finding("fallback", warning=True), status="complete", outcome="passed")],
    )
    part = of(found)
    assert part.outliers == ()
    assert (part.pairs[0].n, part.pairs[0].distance) == (0, None)


# Charts


def test_a_score_on_a_boundary_is_in_the_upper_bin_and_1_in_the_last() -> None:
    scores = (0.0, 0.049, 0.05, 0.15, 0.3, 0.95, 0.999, 1.0)
    assert [charts.bins([score]).index(1) for score in scores] == [0, 0, 1, 3, 6, 19, 19, 19]
    assert charts.bins([(0.05 + 0.05 + 0.5) / 3])[4] == 1  # 0.2, but for what floats are


def test_bars_of_a_histogram_compare_across_tiers() -> None:
    one, other = (0.1,) * 10, (0.1, 0.1, 0.9, 0.9)
    tallest = charts.tallest_share([one, other, ()])
    assert tallest == 1
    assert [bar.height for bar in charts.histogram(one, tallest)] == [charts.HEIGHT]
    assert [(bar.what, bar.number, bar.height) for bar in charts.histogram(other, tallest)] == [
        ("0.10 to 0.15", 2, charts.HEIGHT / 2),
        ("0.90 to 0.95", 2, charts.HEIGHT / 2),
    ]
    assert charts.tallest_share([()]) == 1


def test_a_divided_bar_fills_its_width_in_the_given_order() -> None:
    bars = charts.stacked({"missing": 1, "completed": 3}, ["completed", "failed", "missing"])
    assert [(bar.what, bar.x, bar.width) for bar in bars] == [
        ("completed", 0, charts.WIDTH * 0.75),
        ("missing", charts.WIDTH * 0.75, charts.WIDTH * 0.25),
    ]
    assert charts.length(3, 0) == 0
    assert charts.length(1, 4) == charts.WIDTH / 4


def test_examples_in_docstrings_are_true() -> None:
    result = doctest.testmod(quantities)
    assert result.attempted > 0
    assert result.failed == 0
