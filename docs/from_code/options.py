"""Options, ini options and markers, as the plugin declares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from pytest_scylla.options import add_options
from pytest_scylla.plugin import pytest_configure

from .wording import prose

GROUPS: dict[str, tuple[str, ...]] = {
    "audit": (
        "--scylla-exp",
        "--scylla",
        "--scylla-select",
        "--scylla-subtests",
        "--scylla-strict",
        "scylla_fallback",
        "scylla_max_file_mib",
    ),
    "report": ("--scylla-report",),
    "gate": ("--scylla-require", "--scylla-baseline", "--scylla-ratchet", "--scylla-waivers"),
    "repair": (
        "--repair",
        "--repair-plan",
        "--repair-level",
        "--repair-status",
        "--repair-anyway",
        "--repair-retry",
        "--repair-fresh",
    ),
    "cost": ("--repair-budget", "--repair-max-calls", "--repair-max-wait", "scylla_attempts", "scylla_backoff"),
    "judges": (
        "--scylla-judge",
        "scylla_judge_command",
        "scylla_judge_env",
        "scylla_judge_system_prompt",
        "scylla_judge_timeout",
        "scylla_repair_fallback",
    ),
    "agents": ("--scylla-agent", "scylla_agent_command", "scylla_agent_env", "scylla_check_command"),
}
"""The options by what they are about; an ini option that an option has as its twin stands beside that."""


@dataclass(frozen=True)
class Option:
    """An option of the command line: ``--scylla-exp``, with ``DIR`` where it takes a value."""

    name: str
    metavar: str
    help: str
    repeatable: bool


@dataclass(frozen=True)
class IniOption:
    """An option of the ini file, with the kind of its value and its default, which may be empty."""

    name: str
    kind: str
    default: str
    help: str


class Declared:
    """What :func:`add_options` declares, in the place of pytest's parser."""

    def __init__(self) -> None:
        self.options: dict[str, Option] = {}
        self.ini: dict[str, IniOption] = {}
        add_options(cast(pytest.Parser, self))

    def getgroup(self, name: str, description: str) -> Declared:
        """The one group that there is."""
        return self

    def addoption(self, name: str, *, help: str, metavar: str = "", action: str = "", **rest: Any) -> None:  # noqa: A002
        """Take an option, whose help pytest would format."""
        self.options[name] = Option(name, metavar, help % {}, action == "append")

    def addini(self, name: str, help: str, type: str, default: Any = None) -> None:  # noqa: A002
        """Take an ini option."""
        told = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        self.ini[name] = IniOption(name, type, told, help)

    def twin(self, option: str) -> IniOption | None:
        """The ini option that says the same as ``option``, where there is one."""
        name = option.removeprefix("--").replace("-", "_")
        return self.ini.get(name if name.startswith("scylla") else f"scylla_{name}")


def group(name: str) -> str:
    """The options of a group, each with its ini twin, as objects that other pages can link to."""
    return "\n".join(_group(Declared(), name))


def _group(declared: Declared, name: str) -> Iterator[str]:
    for entry in GROUPS[name]:
        if entry in declared.ini:
            yield from _ini_option(declared.ini[entry])
            continue
        option, twin = declared.options[entry], declared.twin(entry)
        yield f"```{{option}} {entry}{f'={option.metavar}' if option.metavar else ''}"
        yield _sentence(option.help)
        if twin is not None:
            yield f"\nIn the ini file: {{confval}}`{twin.name}`."
        yield "```\n"
        if twin is not None:
            yield from _ini_option(twin)


def _ini_option(option: IniOption) -> Iterator[str]:
    yield f"```{{confval}} {option.name}"
    yield f":type: {option.kind}"
    if option.default:
        yield f":default: `{option.default}`"
    yield f"\n{_sentence(option.help)}"
    yield "```\n"


def _sentence(text: str) -> str:
    told = prose(text)
    return f"{told[0].upper()}{told[1:]}."


class _Markers:
    """What :func:`pytest_configure` declares, in the place of pytest's configuration."""

    def __init__(self) -> None:
        self.stash = pytest.Stash()
        self.lines: list[str] = []

    def addinivalue_line(self, name: str, line: str) -> None:
        self.lines.append(line)


def markers() -> str:
    """The markers that items have."""
    declared = _Markers()
    pytest_configure(cast(pytest.Config, declared))
    rows = (line.removesuffix(" (pytest-scylla)").partition(": ") for line in declared.lines)
    return "\n".join(f"- `{name}`: {prose(meaning)}" for name, _, meaning in rows)
