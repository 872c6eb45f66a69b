"""What a session was asked for, from the command line or else the ini file, checked."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .aggregates.status import AGGREGATES_STATUSES
from .auditing.checkpoint import CHECKPOINT_STATUSES
from .auditing.evidence import Policy
from .auditing.findings import RUN_STATUSES, SLOT_STATUSES
from .experiment.layout import run_named_in
from .experiment.wording import printable
from .gate.given import GivenFile
from .judging.settings import JudgeSettings
from .options import COMMAND_LINES
from .repair.actions import LEVELS

if TYPE_CHECKING:
    from .gate.requirements import Requirement
    from .outcomes import ItemOutcome
    from .repair.actions import Level

DEFAULT_LEVEL: Level = "judges"
"""How far a repair goes unless somebody says how far."""

MOST_UNASKED = 50
"""More calls than these are not made before somebody said how many, or for how much."""

REPORT_SUFFIXES = (".json", ".html", ".md")
FALLBACK_POLICIES = ("warn", "fail")


@dataclass(frozen=True)
class AgentSettings:
    """Who is run as the agent, and how; as with judges. ``check`` is a command line that tells how the agent did."""

    name: str
    command: tuple[str, ...]
    environment: tuple[str, ...]
    check: tuple[str, ...]


@dataclass(frozen=True)
class RepairSettings:
    """How to repair. ``plan_only``: say what would be done, and write nothing.

    ``statuses`` are the ones to act on, such as "run:results" or "slot:failed"; all of them where there is none.
    ``anyway``: also while the experiment's own runner seems to be at work. ``retry``: ask again also for slots for
    which a judge was asked as often as allowed. ``fresh``: run the agents of the runs that are named anew, whatever
    their status is. ``max_wait`` is in seconds; ``budget_usd`` and ``max_calls`` are ``None`` where nobody set them.
    ``terms`` are the words of the command line that bound what it costs, or say who is asked.
    """

    level: Level
    plan_only: bool
    statuses: frozenset[str]
    anyway: bool
    retry: bool
    fresh: bool
    max_wait: float
    budget_usd: float | None
    max_calls: int | None
    judge: JudgeSettings
    agent: AgentSettings
    terms: tuple[str, ...]

    @property
    def runs_agents(self) -> bool:
        """Whether a repair goes as far as running agents again."""
        return self.level == "agents"

    @property
    def asks_judges(self) -> bool:
        """Whether a repair goes as far as judge calls."""
        return self.level != "regenerate"

    def admits(self, name: str, status: str) -> bool:
        """Whether to act on the item ``name`` ("run", "judge_01", "checkpoint" or "aggregates") of this status."""
        kind = "slot" if name.startswith("judge_") else name
        return not self.statuses or f"{kind}:{status}" in self.statuses

    def calls_for(self, name: str, outcome: ItemOutcome | None) -> int:
        """How many calls the repair of a run ("run") or of one of its slots begins with, by how it stood before.

        One for which a judge was asked often enough takes some only if it is asked again.
        """
        if outcome is None or outcome.outcome == "waived" or not self.admits(name, outcome.status):
            return 0
        if self.fresh:
            return 1
        runs_agent = outcome.level == "agents" and self.runs_agents
        asks_judge = outcome.level == "judges" and self.asks_judges and name != "run"
        return outcome.calls or int(outcome.exhausted and self.retry) if runs_agent or asks_judge else 0


@dataclass(frozen=True)
class GateSettings:
    """What decides about a session beside its items. ``ratchet``: nothing may be worse than in the ``baseline``."""

    requirements: tuple[Requirement, ...]
    baseline: GivenFile | None
    ratchet: bool
    waivers: GivenFile | None

    @property
    def is_set(self) -> bool:
        """Whether anything does."""
        return bool(self.requirements) or self.baseline is not None or self.waivers is not None


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
    gate: GateSettings


def read_settings(config: pytest.Config) -> Settings:
    """Put together what was asked for.

    :raises pytest.UsageError: an option has a value that it cannot have; the message says which it can.
    """
    options = config.option
    fallback = _one_of(config, "scylla_fallback", FALLBACK_POLICIES)
    mib = _whole(config.getini("scylla_max_file_mib"), "ini option scylla_max_file_mib", 1, 4096, "MiB")
    subtests = options.scylla_subtests
    if subtests is None and config.getini("scylla_subtests"):
        subtests = str(_ini_directory(config) / config.getini("scylla_subtests"))
    return Settings(
        select=tuple(options.scylla_select or config.getini("scylla_select")),
        subtests=subtests,
        strict=bool(config.getini("scylla_strict") if options.scylla_strict is None else options.scylla_strict),
        reports=_reports(config),
        policy=Policy(
            max_file_size=mib * 1024 * 1024,
            fallback="fail" if fallback == "fail" else "warn",
            attempts=_whole(config.getini("scylla_attempts"), "ini option scylla_attempts", 1, 100, "attempts"),
        ),
        repair=_repair_settings(config),
        gate=_gate_settings(config),
    )


def in_github() -> bool:
    """Whether this is a job of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _gate_settings(config: pytest.Config) -> GateSettings:
    options = config.option
    baseline = _given_file(config, "scylla_baseline")
    ratchet = config.getini("scylla_ratchet") if options.scylla_ratchet is None else options.scylla_ratchet
    if ratchet and baseline is None:
        place = "ini option scylla_ratchet" if options.scylla_ratchet is None else "--scylla-ratchet"
        raise pytest.UsageError(
            f"{place}: nothing to compare with: name an earlier report with --scylla-baseline=REPORT.json"
        )
    if ratchet and baseline is not None:
        _keep_baseline(config, baseline)
    return GateSettings(_requirements(config), baseline, bool(ratchet), _given_file(config, "scylla_waivers"))


def _keep_baseline(config: pytest.Config, baseline: GivenFile) -> None:
    """Let no session replace what the next one is to be held to: one that fails would be forgotten by then."""
    place = "--scylla-report" if config.option.scylla_report else "ini option scylla_report"
    for report in _reports(config):
        if os.path.realpath(report) == os.path.realpath(baseline.path):
            raise pytest.UsageError(
                f"{place}: {report}: that is the baseline {printable(baseline.shown)}, and the ratchet would forget "
                "what is worse. Write the report to another place, and put it in the baseline's where the session "
                "exits with 0"
            )


def _requirements(config: pytest.Config) -> tuple[Requirement, ...]:
    given = config.option.scylla_require
    texts = given or config.getini("scylla_require")
    if not texts:
        return ()
    from .gate.requirements import RequirementError, parse_requirements

    try:
        return parse_requirements(texts)
    except RequirementError as error:
        place = "--scylla-require" if given else "ini option scylla_require"
        raise pytest.UsageError(f"{place}: {error}") from None


def _given_file(config: pytest.Config, option: str) -> GivenFile | None:
    """The file that an option names, relative to where pytest was started, or its ini twin, relative to its file."""
    given = getattr(config.option, option)
    if given is not None:
        if not given:
            raise pytest.UsageError(f"--{option.replace('_', '-')}= names no file")
        return GivenFile(config.invocation_params.dir / given, given)
    named: str = config.getini(option)
    return GivenFile(_ini_directory(config) / named, named) if named else None


def _repair_settings(config: pytest.Config) -> RepairSettings | None:
    options = config.option
    if not (options.repair or options.repair_plan):
        for option, given in (
            ("--repair-level", options.repair_level is not None),
            ("--repair-status", options.repair_status is not None),
            ("--repair-anyway", options.repair_anyway),
            ("--repair-retry", options.repair_retry),
            ("--repair-fresh", options.repair_fresh),
            ("--repair-budget", options.repair_budget is not None),
            ("--repair-max-calls", options.repair_max_calls is not None),
            ("--repair-max-wait", options.repair_max_wait is not None),
            ("--scylla-judge", options.scylla_judge is not None),
            ("--scylla-agent", options.scylla_agent is not None),
        ):
            if given:
                raise pytest.UsageError(
                    f"{option} does nothing by itself: add --repair, or --repair-plan to look first"
                )
        return None
    wanted = options.repair_level
    if wanted is None:
        wanted = config.getini("scylla_repair_level") or ("agents" if options.repair_fresh else DEFAULT_LEVEL)
    level = next((level for level in LEVELS if level == wanted), None)
    if level is None:
        place = f"--repair-level={wanted}" if options.repair_level == wanted else "ini option scylla_repair_level"
        raise pytest.UsageError(
            f"{place}: there is no such level; expected one of {', '.join(LEVELS)}, found {wanted!r}"
        )
    if options.repair_fresh:
        _require_names(config, level)
    known = [
        *(f"run:{status}" for status in RUN_STATUSES),
        *(f"slot:{status}" for status in SLOT_STATUSES),
        *(f"checkpoint:{status}" for status in CHECKPOINT_STATUSES),
        *(f"aggregates:{status}" for status in AGGREGATES_STATUSES),
    ]
    statuses = options.repair_status or config.getini("scylla_repair_status")
    for status in statuses:
        if status not in known:
            place = f"--repair-status={status}" if options.repair_status else "ini option scylla_repair_status"
            raise pytest.UsageError(f"{place}: expected one of {', '.join(known)}, found {status!r}")
    budget, calls = _either(config, "repair_budget"), _either(config, "repair_max_calls")
    return RepairSettings(
        level,
        options.repair_plan,
        frozenset(statuses),
        options.repair_anyway,
        options.repair_retry,
        options.repair_fresh,
        max_wait=_number(*_either(config, "repair_max_wait"), 7 * 86400, "seconds"),
        budget_usd=_number(*budget, 1e9, "USD") if budget[0] else None,
        max_calls=_whole(*calls, 0, 1_000_000, "calls") if calls[0] else None,
        judge=_judge_settings(config),
        agent=_agent_settings(config),
        terms=tuple(
            f"--{option.replace('_', '-')}={given}"
            for option in ("scylla_judge", "scylla_agent", "repair_budget", "repair_max_calls", "repair_max_wait")
            if (given := getattr(options, option)) is not None
        ),
    )


def _require_names(config: pytest.Config, level: Level) -> None:
    """Let nobody run agents anew by a pattern that says more than they meant."""
    globs = config.option.scylla_select or ()
    if level != "agents":
        raise pytest.UsageError("--repair-fresh runs agents: it goes with --repair-level=agents, or with no level")
    if not globs or any(run_named_in(glob) != glob for glob in globs):
        raise pytest.UsageError(
            "--repair-fresh runs anew what is there: name each run, without wildcards, as in "
            "--scylla-select=T5/13/run_10"
        )


def _judge_settings(config: pytest.Config) -> JudgeSettings:
    name, command = _command_line(config, "scylla_judge")
    return JudgeSettings(
        name=name,
        command=command,
        environment=tuple(config.getini("scylla_judge_env")),
        system_prompt=_system_prompt(config),
        timeout=_number(
            config.getini("scylla_judge_timeout"), "ini option scylla_judge_timeout", 7 * 86400, "seconds", least=1
        ),
        backoff=_number(config.getini("scylla_backoff"), "ini option scylla_backoff", 3600, "seconds"),
        fallback=config.getini("scylla_repair_fallback"),
    )


def _agent_settings(config: pytest.Config) -> AgentSettings:
    name, command = _command_line(config, "scylla_agent")
    return AgentSettings(
        name, command, tuple(config.getini("scylla_agent_env")), tuple(config.getini("scylla_check_command"))
    )


def _command_line(config: pytest.Config, option: str) -> tuple[str, tuple[str, ...]]:
    """The command line that an option names, and the user's own, which is in its place unless it is empty."""
    given, place = _either(config, option, ini=option)
    command = tuple(config.getini(f"{option}_command"))
    named = getattr(config.option, option) is not None
    if given and command and not named:
        raise pytest.UsageError(f"ini options {option} and {option}_command: expected one of them, found both")
    name = given or COMMAND_LINES[0]
    if name not in COMMAND_LINES:
        raise pytest.UsageError(f"{place}: expected one of {', '.join(COMMAND_LINES)}, found {name!r}")
    return name, () if named else command


def _system_prompt(config: pytest.Config) -> str | None:
    path: str = config.getini("scylla_judge_system_prompt")
    if not path:
        return None
    place = _ini_directory(config) / path
    try:
        return place.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not UTF-8"
        raise pytest.UsageError(f"ini option scylla_judge_system_prompt: {place}: {reason}") from None


def _either(config: pytest.Config, option: str, ini: str = "") -> tuple[str, str]:
    """The value of an option or of its ini twin, and how to call it in a message."""
    given = getattr(config.option, option)
    if given is not None:
        return given, f"--{option.replace('_', '-')}={given}"
    ini = ini or f"scylla_{option}"
    return config.getini(ini), f"ini option {ini}"


def _whole(given: str, place: str, least: int, most: int, unit: str) -> int:
    if not (given.isascii() and given.isdigit() and least <= int(given[:20]) <= most):
        raise pytest.UsageError(f"{place}: expected {least} to {most} ({unit}), found {given!r}")
    return int(given)


def _number(given: str, place: str, most: float, unit: str, *, least: float = 0) -> float:
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise pytest.UsageError(f"{place}: expected a number from {least:g} to {most:g} ({unit}), found {given!r}")
    return value


def _one_of(config: pytest.Config, name: str, choices: tuple[str, ...]) -> str:
    value = str(config.getini(name))
    if value not in choices:
        raise pytest.UsageError(f"ini option {name}: expected one of {', '.join(choices)}, found {value!r}")
    return value


def _ini_directory(config: pytest.Config) -> Path:
    return config.inipath.parent if config.inipath is not None else config.invocation_params.dir


def _reports(config: pytest.Config) -> tuple[Path, ...]:
    given = config.option.scylla_report or config.getini("scylla_report")
    return tuple(_report_path(config.invocation_params.dir / path) for path in given)


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
