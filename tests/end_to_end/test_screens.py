"""The screens of README.md and of the documentation are what the commands in them print today.

Where one is not, ``python -m docs.screens`` makes it anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import screens

SHOWN = {path: screens.blocks(path.read_text("utf-8")) for path in screens.pages()}


def test_every_screen_that_is_shown_can_be_made_and_every_one_that_can_be_is_shown() -> None:
    assert {name for blocks in SHOWN.values() for name in blocks} == set(screens.SCREENS)
    assert "main" in SHOWN[screens.PROJECT / "README.md"]


@pytest.mark.parametrize("name", screens.SCREENS)
def test_a_screen_is_current(name: str) -> None:
    made = screens.without_times(screens.make(name))
    for path, blocks in SHOWN.items():
        if name in blocks:
            assert screens.without_times(blocks[name]) == made, f"{path.name}: run python -m docs.screens"


@pytest.mark.parametrize("variable", ["CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "PYTEST_ADDOPTS", "FORCE_COLOR"])
def test_a_screen_is_the_same_wherever_it_is_made(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = screens.without_times(screens.make("plan"))
    monkeypatch.setenv(variable, "--quiet" if variable == "PYTEST_ADDOPTS" else "true")
    assert screens.without_times(screens.make("plan")) == made


def test_how_long_a_session_took_makes_no_difference_and_what_it_found_does() -> None:
    first = "========================= 5 failed, 4 passed in 0.81s =========================="
    assert screens.without_times(first) == screens.without_times("===== 5 failed, 4 passed in 75.10s (0:01:15) =====")
    assert screens.without_times("5 failed in 0.81s") == screens.without_times("5 failed in 1.02s")
    assert screens.without_times(first) != screens.without_times(first.replace("5 failed", "6 failed"))
    assert screens.without_times("about 48 s") == "about 48 s"


def test_a_command_that_does_not_end_as_it_should_is_no_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    step = screens.Step("--scylla-exp=healthy", exit_code=1)
    monkeypatch.setitem(screens.SCREENS, "wrong", screens.Screen(screens.sample("healthy"), (step,)))
    with pytest.raises(screens.ScreenError, match="exit code 0"):
        screens.make("wrong")


def test_a_line_that_is_to_be_shown_and_is_not_there_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    step = screens.Step("--scylla-exp=healthy", only=("no such line", "="))
    monkeypatch.setitem(screens.SCREENS, "wrong", screens.Screen(screens.sample("healthy"), (step,)))
    with pytest.raises(screens.ScreenError, match="no line begins with no such line"):
        screens.make("wrong")
