"""The page in a real browser: it runs nothing but its own script, and everything works by mouse and by keyboard."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_scylla.report.page import render

from ..reports import Json, action, experiment, finding, full_scale, item, judge, report, run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ABSENT = [
    name
    for name, found in (
        ("chromium", CHROMIUM),
        ("chromedriver", DRIVER),
        ("selenium", importlib.util.find_spec("selenium")),
    )
    if not found
]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1000",
)

# Before anything of a page runs: whatever would show that one of its texts did.
WATCH = """
window.happened = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.happened.push(`${event.violatedDirective}: ${event.blockedURI}`));
window.addEventListener("error", (event) => window.happened.push(`error: ${event.message}`));
window.alert = window.confirm = window.prompt = (text) => window.happened.push(`dialog: ${text}`);
"""


class Browser:
    """Chromium with one page, and what a reader does with it."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, parameters)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open(self, path: Path, fragment: str = "") -> float:
        """Open a page anew; returns how long that took, in seconds, until it was usable."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        begun = time.perf_counter()
        self.driver.get(f"{path.as_uri()}{fragment}")
        assert self.js("return document.documentElement.dataset.ready"), "the script did not come to its end"
        return time.perf_counter() - begun

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements("css selector", selector)
        return found

    def chip(self, text: str) -> Any:
        """The check box of a filter, by what its label begins with."""
        found = self.js(
            "return [...document.querySelectorAll('.chip')].filter((chip) => "
            "chip.querySelector('.swatch')?.parentElement.textContent.trim().endsWith(arguments[0]) || "
            "chip.textContent.startsWith(arguments[0]))[0].querySelector('input')",
            text,
        )
        assert found is not None
        return found

    def count_of(self, text: str) -> int:
        """The count behind a filter's label."""
        return int(self.js("return arguments[0].closest('.chip').querySelector('.n').textContent", self.chip(text)))

    def press(self, *keys: str) -> None:
        self.js("return document.activeElement").send_keys(*keys)

    def result(self) -> str:
        return str(self.one("[data-part=result]").text)

    def listed(self) -> list[str]:
        return [
            str(text)
            for text in self.js("return [...document.querySelectorAll('.items .open')].map((e) => e.textContent)")
        ]

    def bright(self) -> list[str]:
        """The runs on the map that are not dimmed."""
        return [
            str(label).split(":")[0]
            for label in self.js(
                "return [...document.querySelectorAll('.cell:not(.dim)')].map((e) => e.getAttribute('aria-label'))"
            )
        ]

    def focused(self) -> str:
        return str(self.js("const e = document.activeElement; return e.getAttribute('aria-label') ?? e.textContent"))

    def fragment(self) -> str:
        return str(self.js("return decodeURIComponent(location.hash)"))

    def panel(self) -> str:
        found = self.all("dialog[open]")
        return str(found[0].text) if found else ""

    def click(self, element: Any) -> None:
        """Click as with a mouse, where the element is visible."""
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def complaints(self) -> list[str]:
        """What the browser or the page complains of since it was opened."""
        logged = [str(entry["message"]) for entry in self.driver.get_log("browser")]
        return logged + [str(text) for text in self.js("return window.happened")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.driver.quit()


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """The browser as it was started, whatever the test before did to it."""
    yield running
    running.cdp("Emulation.clearDeviceMetricsOverride")
    running.cdp("Emulation.setEmulatedMedia", media="", features=[])
    running.cdp("Emulation.setScriptExecutionDisabled", value=False)


def written(directory: Path, found: Json) -> Path:
    path = directory / "report.html"
    path.write_text(render(found), "utf-8")
    return path


def small() -> Json:
    """T0/00 with two runs and T1/01 with three: one sound, the others each damaged in another way."""
    return experiment(
        [
            run("T0/00/run_01", 0.8, 0.9),
            run("T0/00/run_02", 0.4, None),
            run("T1/01/run_01", 0.9, 0.9, status="results"),
            run("T1/01/run_02", status="missing", cost=None, judges=[judge(None, status="agent_failed")] * 2),
            run("T1/01/run_03", 0.7, 0.8),
        ],
        [
            item(
                "T0/00/run_02/judge_02", finding("judge-slot-missing", "T0/00/run_02/judge/judge_02"), status="missing"
            ),
            item("T1/01/run_01", finding("run-result-missing", "T1/01/run_01/run_result.json", message="none there")),
            item("T1/01/run_02", finding("run-missing"), status="missing"),
            item("T1/01/run_02/judge_01", finding("no-agent-result"), status="agent_failed"),
            item("T1/01/run_02/judge_02", finding("no-agent-result"), status="agent_failed"),
            item(
                "T1/01/run_03",
                before="results",
                status="completed",
                outcome="repaired",
                actions=[
                    action("regenerate", "T1/01/run_03/run_result.json", sources=["T1/01/run_03/agent/output.txt"])
                ],
            ),
        ],
    )


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The page of :func:`small`."""
    return written(tmp_path, report(small()))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 1,130 runs."""
    return written(tmp_path_factory.mktemp("full"), full_scale())


# What runs, and how fast


def test_a_page_of_1130_runs_is_usable_within_two_seconds_and_small(browser: Browser, full: Path) -> None:
    taken = min(browser.open(full) for _ in range(3))
    assert taken <= 2
    assert full.stat().st_size <= 3_000_000
    assert len(browser.all(".cell")) == 1130
    assert len(browser.all(".mark")) >= 3390
    begun = time.perf_counter()
    browser.js("arguments[0].click()", browser.chip("run completed"))
    assert re.fullmatch(r"1,0\d\d items of 4,520 match: 0 judge slots, 1,0\d\d others\.", browser.result())
    assert time.perf_counter() - begun <= 1


def test_a_page_asks_for_nothing_and_nobody_complains(browser: Browser, full: Path) -> None:
    browser.open(full)
    assert [address for address in browser.requests() if not address.startswith("data:")] == [full.as_uri()]
    assert browser.complaints() == []


def hostile(text: str) -> Json:
    found = small()
    for held in found["runs"]:
        held["id"] += text
        for slot in held["judges"]:
            slot["model"] = text
    for slot in found["after"]["judge_slots"]["by_slot"].values():
        slot["model"] = text
    for told in found["items"]:
        head, _, last = told["id"].partition("/judge_")
        told["id"] = f"{head}{text}/judge_{last}" if last else f"{head}{text}"
        for wrong in told["findings"]:
            wrong |= {"file": text, "message": text, "pointer": text, "code": f"code-{text}"}
        for done in told["actions"]:
            done |= {"what": text, "files": [text], "sources": [text], "reason": text}
    return {**found, "experiment_id": text, "path": text}


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        "</script><script>alert(1)</script>",
        "</style></title><svg onload=alert(1)>",
        '"\' onfocus=alert(1) autofocus x="',
        "javascript:alert(1)",
        "<!--<script>",
        "$& $' __proto__ constructor",
        "<iframe srcdoc='<script>parent.alert(1)</script>'>",
        "<a href=javascript:alert(1)>x</a><base href=//evil.example/>",
        "../../../../etc/passwd#item=x&status=y",
    ],
)
def test_no_text_of_a_report_runs_or_becomes_an_element(browser: Browser, tmp_path: Path, text: str) -> None:
    path = written(tmp_path, report(hostile(text)))
    browser.open(path)
    for place in range(5):
        browser.click(browser.all(".cell")[place])
        assert text in browser.panel()
        browser.press("\ue00c")  # Escape
    for box in range(len(browser.all(".chip input"))):
        browser.js("arguments[0].click()", browser.all(".chip input")[box])
    browser.click(browser.all(".codes .show")[0])
    assert len(browser.listed()) == 5  # all have this code now
    address = browser.js("return location.hash")
    assert browser.complaints() == []
    browser.open(path, address)
    assert len(browser.listed()) == 5
    assert (
        browser.js(
            "return document.querySelectorAll('img, svg[onload], iframe, a[href^=javascript], [onerror], base, "
            "[onfocus], main style, main script').length"
        )
        == 0
    )
    assert [address for address in browser.requests() if not address.startswith("data:")] == [path.as_uri()]
    assert browser.complaints() == []


def test_the_policy_stops_what_would_run_if_a_text_did_become_markup(browser: Browser, tmp_path: Path) -> None:
    html = render(report(small()))
    path = tmp_path / "report.html"
    path.write_text(
        html.replace("</main>", "<img src=https://x.example/ onerror=alert(1)><script>alert(2)</script></main>")
    )
    browser.open(path)
    happened = browser.js("return window.happened")
    assert {text.split(":")[0] for text in happened} == {"img-src", "script-src-attr", "script-src-elem"}


def test_the_tables_are_there_without_javascript(browser: Browser, page: Path) -> None:
    browser.cdp("Emulation.setScriptExecutionDisabled", value=True)
    browser.driver.get(page.as_uri())
    text = browser.one("body").text
    assert "The map, the filters and the list of items need JavaScript" in text
    assert "run-result-missing" in text
    assert "How far judges agree" in text
    assert "Clear all filters" not in text
    assert "Filters" not in text


# Filters


def test_a_click_on_a_filter_changes_list_map_result_counts_and_address(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.result() == "15 items, no filter. 6 to tell of, 5 not sound."
    assert browser.count_of("run missing") == 1
    browser.click(browser.chip("slot agent failed"))
    assert browser.result() == "2 items of 15 match: 2 judge slots, 0 others."
    assert browser.listed() == ["T1/01/run_02/judge_01", "T1/01/run_02/judge_02"]
    assert browser.bright() == ["T1/01/run_02"]
    assert browser.fragment() == "#status=slot:agent_failed"
    # What a click on another value would find, given this one.
    assert browser.count_of("T1") == 2
    assert browser.count_of("T0") == 0
    assert browser.count_of("run missing") == 1
    browser.click(browser.chip("run missing"))
    assert browser.result() == "3 items of 15 match: 2 judge slots, 1 other."
    browser.click(browser.chip("2 · judge-medium-1"))
    assert browser.listed() == ["T1/01/run_02/judge_02"]
    assert browser.result() == "1 item of 15 matches: 1 judge slot, 0 others."
    assert browser.fragment() == "#status=slot:agent_failed&status=run:missing&judge=2"


def test_filters_work_by_keyboard_alone(browser: Browser, page: Path) -> None:
    browser.open(page)
    for _ in range(60):
        browser.press("\ue004")  # Tab
        if browser.js("return document.activeElement.value") == "run-result-missing":
            break
    browser.press(" ")
    assert browser.listed() == ["T1/01/run_01"]
    assert browser.js("return getComputedStyle(document.activeElement.closest('.chip')).outlineStyle") == "solid"
    for _ in range(10):
        browser.press("\ue004")
        if browser.focused() == "Clear all filters":
            break
    browser.press("\ue007")  # Enter
    assert browser.result() == "15 items, no filter. 6 to tell of, 5 not sound."
    assert browser.fragment() == ""


def test_what_was_not_looked_at_is_not_called_sound(browser: Browser, tmp_path: Path) -> None:
    unseen = run("T0/00/run_02", status="not_audited", cost=None, judges=[judge(None, status="not_audited")])
    browser.open(written(tmp_path, report(experiment([run("T0/00/run_01", 0.5), unseen]))))
    assert browser.result() == "4 items, no filter. 0 to tell of, 0 not sound, 2 not audited."
    assert browser.count_of("not run") == 2
    assert browser.count_of("sound") == 2
    browser.click(browser.all(".cell")[1])
    assert "This session did not look at it." in browser.panel()
    browser.press("\ue00c")  # Escape
    browser.click(browser.all(".cell")[0])
    assert "Nothing was found, and nothing was done." in browser.panel()


def test_the_result_is_announced(browser: Browser, page: Path) -> None:
    browser.open(page)
    live = browser.one("[data-part=result]")
    assert live.get_attribute("aria-live") == "polite"
    assert live.get_attribute("role") == "status"


def test_an_address_brings_back_what_was_chosen(browser: Browser, page: Path) -> None:
    browser.open(page, "#outcome=repaired&tier=T1&tier=T9&status=nonsense&item=T1/01/run_03&id=run")
    assert browser.listed() == ["T1/01/run_03"]
    assert browser.one("#panel-title .id").text == "T1/01/run_03"
    assert browser.chip("repaired").is_selected()
    assert browser.chip("T1").is_selected()
    assert browser.one(".search").get_attribute("value") == "run"
    browser.js("location.hash = 'code=run-missing'")
    assert browser.listed() == ["T1/01/run_02"]
    assert browser.panel() == ""


def test_items_are_found_by_a_part_of_their_id(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.one(".search").send_keys("t0/00/RUN_02")
    assert browser.result() == "3 items of 15 match: 2 judge slots, 1 other."
    assert browser.listed() == ["T0/00/run_02/judge_02", "T0/00/run_02", "T0/00/run_02/judge_01"]
    assert browser.fragment() == "#id=t0/00/RUN_02"


def test_a_finding_shows_its_items(browser: Browser, page: Path) -> None:
    browser.open(page, "#tier=T0")
    browser.click(browser.one("[data-code=no-agent-result]"))
    assert browser.listed() == ["T1/01/run_02/judge_01", "T1/01/run_02/judge_02"]
    assert browser.fragment() == "#code=no-agent-result"
    assert browser.focused() == "Map and items"


def test_links_within_the_page_leave_the_filters_alone(browser: Browser, page: Path) -> None:
    browser.open(page, "#tier=T0")
    browser.click(browser.one('a[href="#judges-1"]'))
    assert browser.focused() == "Judges"
    assert browser.fragment() == "#tier=T0"
    assert browser.js("return document.activeElement.getBoundingClientRect().top") < 900


def test_experiments_have_filters_of_their_own(browser: Browser, tmp_path: Path) -> None:
    path = written(tmp_path, report(small(), {**small(), "experiment_id": "second"}))
    browser.open(path)
    second = browser.one("#experiment-2")
    browser.js("arguments[0].querySelector('.chip input[value=\"run-missing\"]').click()", second)
    results = [element.text for element in browser.all("[data-part=result]")]
    assert results == [
        "15 items, no filter. 6 to tell of, 5 not sound.",
        "1 item of 15 matches: 0 judge slots, 1 other.",
    ]
    assert browser.fragment() == "#2.code=run-missing"
    browser.open(path, "#2.code=run-missing&code=run-result-missing")
    assert [element.text for element in browser.all("[data-part=result]")] == [
        "1 item of 15 matches: 0 judge slots, 1 other."
    ] * 2


# The map, and one run


def test_a_cell_says_what_its_run_and_its_judges_are(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert [cell.get_attribute("aria-label") for cell in browser.all(".cell")] == [
        "T0/00/run_01: completed, score 0.850; judges all complete",
        "T0/00/run_02: completed, score 0.400; judges complete, missing",
        "T1/01/run_01: results; judges all complete",
        "T1/01/run_02: missing; judges all agent failed",
        "T1/01/run_03: completed, repaired, score 0.750; judges all complete",
    ]
    assert [box.text for box in browser.all(".box")] == ["·", "·", "R", "M", "·"]
    assert len(browser.all(".cell .mark.s-missing")) == 1
    assert len(browser.all(".box.repaired")) == 1


def test_a_click_opens_a_run(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click(browser.all(".cell")[2])
    panel = browser.panel()
    for text in (
        "T1/01/run_01",
        "run-result-missing",
        "none there",
        "T1/01/run_01/run_result.json",
        "Free: it can be rebuilt from files that survive.",
        "judge-large-1",
        "0.900",
        "cost 0.0500 USD",
        "pytest --scylla-exp=exp --scylla-select=T1/01/run_01",
        "2 of 4 in the list",
    ):
        assert text in panel, text
    assert browser.fragment() == "#item=T1/01/run_01"
    browser.click(browser.one("dialog .buttons button:last-child"))
    assert browser.panel() == ""
    assert browser.focused().startswith("T1/01/run_01")
    assert browser.fragment() == ""


def test_a_run_tells_what_was_done_about_it(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.click(browser.all(".cell")[4])
    assert "results → completed, repaired" in browser.panel()
    assert "rebuilt run_result.json from agent/output.txt" in browser.panel()


def test_a_score_that_does_not_count_is_not_told_as_one_that_does(browser: Browser, tmp_path: Path) -> None:
    held = [run("T0/00/run_01", 0.973, None, None), run("T0/00/run_02", 0.5, 0.9, None)]
    browser.open(written(tmp_path, report(experiment(held))), "#item=T0/00/run_01")
    assert "Score 0.973, not counted: 1 of 3 judges sound; cost" in browser.panel()
    label = browser.one(".cell").get_attribute("aria-label")
    assert label.startswith("T0/00/run_01: completed, score 0.973, not counted: 1 of 3 judges sound; judges")
    browser.open(tmp_path / "report.html", "#item=T0/00/run_02")
    assert "Score 0.700, passed; cost" in browser.panel()


def test_a_waived_item_says_why_and_until_when(browser: Browser, tmp_path: Path) -> None:
    held = item("T0/00/run_01", finding("run-result-missing"), outcome="waived")
    held["waiver"] = {"line": 7, "reason": "the <b>service</b> is gone", "until": "2026-12-31"}
    found = experiment([run("T0/00/run_01", 0.5, status="results")], [held])
    browser.open(written(tmp_path, report(found)), "#item=T0/00/run_01")
    told = "waived until 2026-12-31: the <b>service</b> is gone (line 7 of the waivers)"
    assert told in browser.panel()
    assert told in browser.one(".items").text


def test_what_would_put_an_item_right_has_a_line_of_its_own(browser: Browser, tmp_path: Path) -> None:
    slot = "T0/00/run_01/judge_02"
    refused = action("judges", outcome="refused", what="judge call", reason="1 judge call (ask it again)")
    held = item(slot, finding("judge-slot-missing"), status="missing", actions=[refused])
    held |= {"remedy": "1 judge call (ask it again)", "level": "judges"}
    found = experiment([run("T0/00/run_01", 0.5, None)], [held])
    browser.open(written(tmp_path, report(found)), f"#item={slot}")
    assert "repair: 1 judge call (ask it again), --repair-level=judges" in browser.panel().splitlines()
    assert "no repair" not in browser.panel()
    assert browser.all("[aria-label=Repairs]") == []


def test_arrow_keys_move_and_enter_opens(browser: Browser, page: Path) -> None:
    browser.open(page)
    right, left, down, up = "\ue014", "\ue012", "\ue015", "\ue013"
    home, end, page_up, page_down, control, null = "\ue011", "\ue010", "\ue00e", "\ue00f", "\ue009", "\ue000"
    browser.js("document.querySelector('.cell[tabindex=\"0\"]').focus()")
    seen = []
    for keys in (
        (right,), (right,), (down,), (right,), (up,), (left,), (left,),
        (down,), (end,), (home,), (control, home, null), (control, end, null), (page_up,), (page_down,),
    ):  # fmt: skip
        browser.press(*keys)
        seen.append(browser.focused().split(":")[0])
        assert len(browser.all('[role=gridcell][tabindex="0"]')) == 1
    assert seen == [
        "T0/00/run_02", "T0/00/run_02", "T1/01/run_02", "T1/01/run_03", "T0/00/run_02", "T0/00/run_01", "T0/00/run_01",
        "T1/01/run_01", "T1/01/run_03", "T1/01/run_01", "T0/00/run_01", "T1/01/run_03", "T0/00/run_02", "T1/01/run_02",
    ]  # fmt: skip
    browser.press("\ue007")  # Enter
    assert "T1/01/run_02" in browser.panel()
    assert browser.js("return document.activeElement.id") == "panel-title"
    browser.press("\ue00c")  # Escape
    assert browser.panel() == ""
    assert browser.focused().startswith("T1/01/run_02")
    browser.press(" ")
    assert "no-agent-result" in browser.panel()


def test_keys_move_by_a_subtest_and_by_a_tier(browser: Browser, full: Path) -> None:
    browser.open(full)
    down, up, page_up, page_down = "\ue015", "\ue013", "\ue00e", "\ue00f"
    browser.js("document.querySelector('.cell[tabindex=\"0\"]').focus()")
    seen = []
    for key in (down, down, up, page_down, down, page_down, down, page_up, page_up, page_up):
        browser.press(key)
        seen.append(browser.focused().split("/run_")[0])
    assert seen == ["T0/01", "T0/02", "T0/01", "T1/01", "T1/02", "T2/01", "T2/02", "T1/01", "T0/00", "T0/00"]


def test_the_map_is_one_stop_of_the_tab_key_and_says_how_it_works(browser: Browser, page: Path) -> None:
    browser.open(page)
    grid = browser.one("[role=grid]")
    roles = browser.js(
        "return [...arguments[0].querySelectorAll('[role]')].map((e) => "
        "`${e.parentElement.closest('[role]').getAttribute('role')}>${e.getAttribute('role')}`)",
        grid,
    )
    assert set(roles) == {"grid>rowgroup", "rowgroup>row", "row>rowheader", "row>gridcell"}
    described = browser.one(f"#{grid.get_attribute('aria-describedby')}")
    assert "Arrow keys move" in described.text
    assert grid.get_attribute("aria-label") == "Runs of demo-001 by tier and subtest"


def test_previous_and_next_go_through_the_runs_of_the_list(browser: Browser, page: Path) -> None:
    browser.open(page, "#item=T0/00/run_02/judge_02")
    assert "1 of 4 in the list" in browser.panel()
    seen = []
    for _ in range(3):
        browser.click(browser.one("dialog [data-step='1']"))
        seen.append(browser.one("#panel-title .id").text)
    assert seen == ["T1/01/run_01", "T1/01/run_02", "T1/01/run_03"]
    assert not browser.one("dialog [data-step='1']").is_enabled()
    assert browser.js("return document.activeElement.id") == "panel-title"
    browser.click(browser.one("dialog [data-step='-1']"))
    assert browser.one("#panel-title .id").text == "T1/01/run_02"


def test_a_run_of_a_table_opens_and_gives_the_focus_back(browser: Browser, page: Path) -> None:
    browser.open(page)
    button = browser.one(".codes [data-open='T1/01/run_02']")
    browser.js("arguments[0].focus()", button)
    browser.press("\ue007")  # Enter
    assert "run-missing" in browser.panel()
    browser.press("\ue00c")  # Escape
    assert browser.driver.switch_to.active_element == button


def test_what_is_no_run_opens_too(browser: Browser, tmp_path: Path) -> None:
    found = small()
    found["items"].append(item("checkpoint", finding("checkpoint-lacks-run", "checkpoint.json"), status="stale"))
    browser.open(written(tmp_path, report(found)))
    assert browser.result() == "16 items, no filter. 7 to tell of, 6 not sound."
    browser.click(browser.one(".codes [data-open='checkpoint']"))
    assert "checkpoint-lacks-run" in browser.panel()
    assert "--scylla-select=checkpoint" in browser.panel()
    assert browser.count_of("checkpoint stale") == 1


def test_the_command_is_quoted_for_a_shell(browser: Browser, tmp_path: Path) -> None:
    found = experiment([run("T0/00/run_01;$(id)'", 0.5)], path="a b")
    browser.open(written(tmp_path, report(found)))
    browser.click(browser.one(".cell"))
    assert browser.one(".command").text == ("pytest '--scylla-exp=a b' '--scylla-select=T0/00/run_01;$(id)'\"'\"''")


def test_above_2500_runs_a_subtest_is_one_cell_until_it_is_opened(browser: Browser, tmp_path: Path) -> None:
    found = full_scale(times=10)
    path = written(tmp_path, found)
    assert min(browser.open(path) for _ in range(2)) <= 4
    assert len(browser.all(".summary")) == 113
    assert browser.all(".cell") == []
    browser.js("document.querySelector('.summary').focus()")
    assert browser.focused().startswith("T0/00: 100 runs: ")
    browser.press("\ue007")  # Enter
    assert browser.one(".summary").get_attribute("aria-expanded") == "true"
    assert len(browser.all(".cell")) == 100
    browser.press("\ue014", "\ue014")  # twice to the right
    assert browser.focused().startswith("T0/00/run_01")
    browser.press("\ue011", "\ue007")  # Home, Enter
    assert browser.all(".cell") == []
    # A run that an address names is shown, also where it is in a subtest that is closed.
    browser.open(path, "#item=T3/17/run_05")
    assert len(browser.all(".cell")) == 100
    assert browser.one(".cell.current").get_attribute("aria-label").startswith("T3/17/run_05")
    assert browser.complaints() == []


# The list, paper, dark rooms and small screens


def test_a_long_list_is_shown_in_parts(browser: Browser, full: Path) -> None:
    browser.open(full)
    total = int(re.findall(r"([\d,]+) to tell of", browser.result())[0].replace(",", ""))
    assert total > 100
    assert len(browser.listed()) == 100
    browser.click(browser.all(".more button")[-1])
    assert len(browser.listed()) == total
    assert browser.focused() == browser.listed()[100]


def test_on_paper_there_are_no_filters_and_every_item_is_there(browser: Browser, full: Path) -> None:
    browser.open(full)
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    shown = browser.js(
        "return ['.filters', 'nav', 'dialog', '.show', '.map', '.items', '.codes'].map((selector) => "
        "getComputedStyle(document.querySelector(selector)).display !== 'none')"
    )
    assert shown == [False, False, False, False, True, True, True]
    assert browser.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.js(
        "window.printed = 0; addEventListener('beforeprint', () => { "
        "window.printed = document.querySelectorAll('.items tbody tr').length; })"
    )
    paper = base64.b64decode(browser.driver.print_page())
    assert paper.startswith(b"%PDF")
    total = int(re.findall(r"([\d,]+) to tell of", browser.result())[0].replace(",", ""))
    assert browser.js("return window.printed") == total
    assert len(browser.listed()) == 100


def test_a_dark_room_gets_a_dark_page(browser: Browser, page: Path) -> None:
    browser.open(page)
    colour = "return getComputedStyle(document.body).backgroundColor"
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    assert browser.js(colour) == "rgb(255, 255, 255)"
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.js(colour) == "rgb(20, 23, 26)"
    assert browser.js("return getComputedStyle(document.querySelector('.box')).color") == "rgb(143, 220, 192)"


@pytest.mark.parametrize("width", [320, 400, 800, 1400])
def test_a_page_is_never_wider_than_the_screen(browser: Browser, full: Path, width: int) -> None:
    browser.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(full)
    assert browser.js("return document.documentElement.scrollWidth") <= width
    browser.click(browser.all(".cell")[5])
    assert browser.js("return document.documentElement.scrollWidth") <= width
    box = browser.js(
        "const box = document.querySelector('dialog').getBoundingClientRect(); return [box.left, box.right]"
    )
    assert 0 <= box[0] < box[1] <= width


def test_cells_are_large_enough_to_hit(browser: Browser, full: Path) -> None:
    browser.open(full)
    boxes = browser.js(
        "return [...document.querySelectorAll('.cell')].slice(0, 11).map((cell) => cell.getBoundingClientRect())"
        ".map((box) => [box.left, box.top])"
    )
    assert boxes[1][0] - boxes[0][0] >= 24
    assert boxes[10][1] - boxes[0][1] >= 24


def test_the_focus_is_never_hidden_by_the_open_run(browser: Browser, full: Path) -> None:
    browser.open(full)
    for cell in (browser.all(".cell")[1], browser.all(".cell")[-1]):
        browser.click(cell)
        browser.js("arguments[0].focus()", cell)
        covered = browser.js(
            "const [cell, panel] = [arguments[0], document.querySelector('dialog')].map("
            "(element) => element.getBoundingClientRect()); return cell.right > panel.left",
            cell,
        )
        assert not covered
