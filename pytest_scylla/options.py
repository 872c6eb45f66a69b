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

_REQUESTING = ("scylla", "scylla_exp", "scylla_select", "scylla_subtests", "scylla_strict", "scylla_report")
"""Options of which any asks for an audit; an ini file alone never does."""

REPORT_SUFFIXES = (".json",)
FALLBACK_POLICIES = ("warn", "fail")


@dataclass(frozen=True)
class Settings:
    """How to audit, from the command line or else the ini file. ``subtests`` is as the user wrote it."""

    select: tuple[str, ...]
    subtests: str | None
    strict: bool
    reports: tuple[Path, ...]
    policy: Policy


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and their ini twins."""
    group = parser.getgroup("scylla", "auditing LLM-agent experiments (pytest-scylla)")
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
        raise pytest.UsageError(
            "no experiment to audit: give --scylla-exp=DIR, or set scylla_exp = DIR in the ini file"
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
    )


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
