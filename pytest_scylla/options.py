"""The plugin's options: each on the command line and, under its own name, in the ini file."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .auditing.evidence import Policy
    from .repair.actions import Level

_REQUESTING = (
    "scylla",
    "scylla_exp",
    "scylla_select",
    "scylla_subtests",
    "scylla_strict",
    "scylla_report",
    "repair",
    "repair_plan",
    "repair_level",
    "repair_status",
    "repair_anyway",
)
"""Options of which any asks for an audit; an ini file alone never does."""

AVAILABLE_LEVELS: tuple[Level, ...] = ("regenerate",)
"""The levels of repair that this version has."""

REPORT_SUFFIXES = (".json",)
FALLBACK_POLICIES = ("warn", "fail")


@dataclass(frozen=True)
class RepairSettings:
    """How to repair. ``plan_only``: say what would be done, and write nothing.

    ``statuses`` are the ones to act on, such as "run:results" or "slot:failed"; all of them where there is none.
    ``anyway``: also while the experiment's own runner seems to be at work.
    """

    level: Level
    plan_only: bool
    statuses: frozenset[str]
    anyway: bool

    def admits(self, name: str, status: str) -> bool:
        """Whether to act on the item ``name`` ("run", or "judge_01") of this status."""
        return not self.statuses or f"{'run' if name == 'run' else 'slot'}:{status}" in self.statuses


@dataclass(frozen=True)
class Settings:
    """How to audit, from the command line or else the ini file. ``subtests`` is as the user wrote it.

    ``repair`` is ``None`` in a session that only audits.
    """

    select: tuple[str, ...]
    subtests: str | None
    strict: bool
    reports: tuple[Path, ...]
    policy: Policy
    repair: RepairSettings | None


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and their ini twins."""
    group = parser.getgroup("scylla", "auditing and repairing LLM-agent experiments (pytest-scylla)")
    group.addoption(
        "--scylla-exp",
        action="append",
        metavar="DIR",
        help="audit the experiment in DIR, or each of those directly below it; repeatable. "
        "Write it with '=': --scylla-exp=DIR",
    )
    group.addoption("--scylla", action="store_true", help="audit the experiments of the ini option scylla_exp")
    group.addoption(
        "--scylla-select",
        action="append",
        metavar="GLOB",
        help="only the runs and judge slots whose id matches: 'T0/*', 'T5/13/run_10' (with its slots), '*/judge_01'; "
        "repeatable",
    )
    group.addoption(
        "--scylla-subtests",
        metavar="DIR",
        help="subtest definitions (tN/NN-name.yaml) that say which subtests are expected; "
        "without them, those that the experiment itself mentions are",
    )
    group.addoption(
        "--scylla-strict", action="store_true", default=None, help="an item with a warning fails, as with an error"
    )
    group.addoption(
        "--scylla-report",
        action="append",
        metavar="PATH",
        help="write a report; the suffix says which kind (.json); repeatable",
    )
    group.addoption(
        "--repair",
        action="store_true",
        help="rebuild whatever is lost or wrong and survives in other files; what is replaced is kept in .scylla/",
    )
    group.addoption(
        "--repair-plan", action="store_true", help="say what --repair would do, and at what cost; nothing is written"
    )
    group.addoption(
        "--repair-level",
        metavar="LEVEL",
        help="how far a repair goes: 'regenerate' (files from files), which is what this version can do",
    )
    group.addoption(
        "--repair-status",
        action="append",
        metavar="KIND:STATUS",
        help="repair only items that an audit finds so: 'run:results', 'slot:failed'; repeatable",
    )
    group.addoption(
        "--repair-anyway",
        action="store_true",
        help="repair even though the checkpoint says that the experiment's own runner is at work",
    )
    parser.addini("scylla_exp", "experiments to audit, relative to this file, once an option asks for it", "paths")
    parser.addini("scylla_select", "ids to audit (globs); see --scylla-select", "linelist")
    parser.addini("scylla_subtests", "directory of subtest definitions, relative to this file", "string", default="")
    parser.addini("scylla_strict", "an item with a warning fails", "bool", default=False)
    parser.addini("scylla_report", "reports to write, relative to this file; see --scylla-report", "paths")
    parser.addini(
        "scylla_fallback",
        "what a fallback judgment is: 'warn' (complete, with a warning) or 'fail'",
        "string",
        default="warn",
    )
    parser.addini("scylla_repair_level", "how far a repair goes; see --repair-level", "string", default="")
    parser.addini("scylla_repair_status", "statuses to repair; see --repair-status", "linelist")
    parser.addini("scylla_max_file_mib", "the largest file that is read, in MiB", "string", default="64")


def is_requested(options: argparse.Namespace) -> bool:
    """Whether any option of the plugin was given on the command line."""
    return any(getattr(options, name, None) not in (None, False) for name in _REQUESTING)


def named_experiments(config: pytest.Config, options: argparse.Namespace) -> tuple[str, ...]:
    """The experiments that the command line names, or else the ini file.

    :raises pytest.UsageError: neither does.
    """
    named = tuple(options.scylla_exp or map(str, config.getini("scylla_exp")))
    if not all(named):
        raise pytest.UsageError("--scylla-exp= names no directory: write --scylla-exp=DIR")
    if not named:
        wanted = "repair" if options.repair or options.repair_plan else "audit"
        raise pytest.UsageError(
            f"no experiment to {wanted}: give --scylla-exp=DIR, or set scylla_exp = DIR in the ini file"
        )
    return named


def read_settings(config: pytest.Config) -> Settings:
    """Put together what was asked for.

    :raises pytest.UsageError: an option has a value that it cannot have; the message says which it can.
    """
    from .auditing.evidence import Policy

    options = config.option
    reports = options.scylla_report
    fallback = _one_of(config, "scylla_fallback", FALLBACK_POLICIES)
    mib = config.getini("scylla_max_file_mib")
    if not (mib.isascii() and mib.isdigit() and 1 <= int(mib) <= 4096):
        raise pytest.UsageError(f"ini option scylla_max_file_mib: expected 1 to 4096 (MiB), found {mib!r}")
    subtests = options.scylla_subtests
    if subtests is None and config.getini("scylla_subtests"):
        subtests = str(_ini_directory(config) / config.getini("scylla_subtests"))
    return Settings(
        select=tuple(options.scylla_select or config.getini("scylla_select")),
        subtests=subtests,
        strict=bool(config.getini("scylla_strict") if options.scylla_strict is None else options.scylla_strict),
        reports=tuple(
            _report_path(config.invocation_params.dir / path) for path in (reports or config.getini("scylla_report"))
        ),
        policy=Policy(max_file_size=int(mib) * 1024 * 1024, fallback="fail" if fallback == "fail" else "warn"),
        repair=_repair_settings(config),
    )


def _repair_settings(config: pytest.Config) -> RepairSettings | None:
    from .auditing.findings import RUN_STATUSES, SLOT_STATUSES
    from .repair.actions import LEVELS

    options = config.option
    if not (options.repair or options.repair_plan):
        for option, given in (
            ("--repair-level", options.repair_level is not None),
            ("--repair-status", options.repair_status is not None),
            ("--repair-anyway", options.repair_anyway),
        ):
            if given:
                raise pytest.UsageError(
                    f"{option} does nothing by itself: add --repair, or --repair-plan to look first"
                )
        return None
    wanted = options.repair_level
    if wanted is None:
        wanted = config.getini("scylla_repair_level") or AVAILABLE_LEVELS[-1]
    level = next((level for level in AVAILABLE_LEVELS if level == wanted), None)
    if level is None:
        place = f"--repair-level={wanted}" if options.repair_level == wanted else "ini option scylla_repair_level"
        reason = "this version does not go that far" if wanted in LEVELS else "there is no such level"
        raise pytest.UsageError(f"{place}: {reason}; expected {' or '.join(AVAILABLE_LEVELS)}, found {wanted!r}")
    known = [*(f"run:{status}" for status in RUN_STATUSES), *(f"slot:{status}" for status in SLOT_STATUSES)]
    statuses = options.repair_status or config.getini("scylla_repair_status")
    for status in statuses:
        if status not in known:
            place = f"--repair-status={status}" if options.repair_status else "ini option scylla_repair_status"
            raise pytest.UsageError(f"{place}: expected one of {', '.join(known)}, found {status!r}")
    return RepairSettings(level, options.repair_plan, frozenset(statuses), options.repair_anyway)


def _one_of(config: pytest.Config, name: str, choices: tuple[str, ...]) -> str:
    value = str(config.getini(name))
    if value not in choices:
        raise pytest.UsageError(f"ini option {name}: expected one of {', '.join(choices)}, found {value!r}")
    return value


def _ini_directory(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath is not None else config.invocation_params.dir


def _report_path(path: Path) -> Path:
    if path.suffix not in REPORT_SUFFIXES:
        suffixes = ", ".join(REPORT_SUFFIXES)
        raise pytest.UsageError(f"--scylla-report={path}: expected a name that ends in {suffixes}")
    existing = next(place for place in path.parents if os.path.lexists(place))
    if not existing.is_dir():
        raise pytest.UsageError(f"--scylla-report={path}: expected {existing} to be a directory, found a file")
    if os.path.isdir(path):
        raise pytest.UsageError(f"--scylla-report={path}: expected a file's name, found a directory")
    return path
