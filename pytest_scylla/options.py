"""The plugin's options: each on the command line and, under its own name, in the ini file.

Every session declares them, also those without an experiment, so nothing heavy is imported here.
"""

from __future__ import annotations

import argparse

import pytest

_REQUESTING = (
    "scylla",
    "scylla_exp",
    "scylla_select",
    "scylla_subtests",
    "scylla_strict",
    "scylla_report",
    "scylla_require",
    "scylla_baseline",
    "scylla_ratchet",
    "scylla_waivers",
    "repair",
    "repair_plan",
    "repair_level",
    "repair_status",
    "repair_anyway",
    "repair_retry",
    "repair_budget",
    "repair_max_calls",
    "repair_max_wait",
    "scylla_judge",
    "repair_fresh",
    "scylla_agent",
)
"""Options of which any asks for an audit; an ini file alone never does."""

COMMAND_LINES = ("claude", "codex", "gemini")
"""The command lines that the plugin knows how to ask, and how to run as agents."""


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
        help="only the items whose id matches: 'T0/*', 'T5/13/run_10' (with its slots), '*/judge_01', 'checkpoint', "
        "'aggregates'; repeatable",
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
        help="write a report; the suffix says which kind: .json, .html (a page), .md; repeatable",
    )
    group.addoption(
        "--scylla-require",
        action="append",
        metavar="KIND=LIMIT",
        help="what each experiment has to reach for exit code 0, whatever items fail: 'min-runs=100%%' (completed), "
        "'min-slots=99.5%%' (complete), 'max-fallback=1%%' (of the complete slots), or numbers of them; repeatable",
    )
    group.addoption(
        "--scylla-baseline",
        metavar="REPORT.json",
        help="an earlier report: say what has become better and worse since",
    )
    group.addoption(
        "--scylla-ratchet",
        action="store_true",
        default=None,
        help="exit with 1 if anything is worse than in the report of --scylla-baseline",
    )
    group.addoption(
        "--scylla-waivers",
        metavar="FILE.yaml",
        help="what may stay as it is: a YAML list of 'item' (a glob on ids), 'reason' and 'until' (a day, in UTC)",
    )
    group.addoption(
        "--repair",
        action="store_true",
        help="rebuild what is lost or wrong and survives in other files, and ask a judge again for each slot that "
        "nothing on disk gives back; what is replaced is kept in .scylla/",
    )
    group.addoption(
        "--repair-plan", action="store_true", help="say what --repair would do, and at what cost; nothing is written"
    )
    group.addoption(
        "--repair-level",
        metavar="LEVEL",
        help="how far a repair goes: 'regenerate' (files from files, for free), 'judges' (also judge calls; the "
        "default) or 'agents' (also agents, for runs that are missing or did not work)",
    )
    group.addoption(
        "--repair-status",
        action="append",
        metavar="KIND:STATUS",
        help="repair only items that an audit finds so: 'run:results', 'slot:failed', 'checkpoint:stale', "
        "'aggregates:stale'; repeatable",
    )
    group.addoption(
        "--repair-anyway",
        action="store_true",
        help="repair even though the checkpoint says that the experiment's own runner is at work",
    )
    group.addoption(
        "--repair-budget",
        metavar="USD",
        help="what the judge calls and agents of this session, in all its workers, may cost; what does not fit is not "
        "begun",
    )
    group.addoption(
        "--repair-max-calls",
        metavar="N",
        help="how many judge calls and agents' runs there may be in this session, in all its workers",
    )
    group.addoption(
        "--repair-max-wait",
        metavar="SECONDS",
        help="how long to wait for a limit to end (default 1800); slots that would have to wait longer are not judged",
    )
    group.addoption(
        "--repair-retry",
        action="store_true",
        help="ask again also where a judge was asked as often as allowed and gave no verdict, and run agents again "
        "that were run as often and failed",
    )
    group.addoption(
        "--scylla-judge",
        metavar="NAME",
        help=f"the command line that judges: {', '.join(COMMAND_LINES)}; the default is {COMMAND_LINES[0]}",
    )
    group.addoption(
        "--repair-fresh",
        action="store_true",
        help="run the agents of the runs that --scylla-select names, without wildcards, anew; what was there is "
        "archived",
    )
    group.addoption(
        "--scylla-agent",
        metavar="NAME",
        help=f"the command line that is run as the agent: {', '.join(COMMAND_LINES)}; the default is "
        f"{COMMAND_LINES[0]}",
    )
    parser.addini("scylla_exp", "experiments to audit, relative to this file, once an option asks for it", "paths")
    parser.addini("scylla_select", "ids to audit (globs); see --scylla-select", "linelist")
    parser.addini("scylla_subtests", "directory of subtest definitions, relative to this file", "string", default="")
    parser.addini("scylla_strict", "an item with a warning fails", "bool", default=False)
    parser.addini("scylla_report", "reports to write, relative to this file; see --scylla-report", "paths")
    parser.addini("scylla_require", "what an experiment has to reach; see --scylla-require", "linelist")
    parser.addini("scylla_baseline", "an earlier report, relative to this file", "string", default="")
    parser.addini("scylla_ratchet", "nothing may be worse than in the baseline", "bool", default=False)
    parser.addini("scylla_waivers", "what may stay as it is: a file, relative to this one", "string", default="")
    parser.addini(
        "scylla_fallback",
        "what a fallback judgment is: 'warn' (complete, with a warning) or 'fail'",
        "string",
        default="warn",
    )
    parser.addini("scylla_repair_level", "how far a repair goes; see --repair-level", "string", default="")
    parser.addini("scylla_repair_status", "statuses to repair; see --repair-status", "linelist")
    parser.addini("scylla_repair_budget", "what calls may cost; see --repair-budget", "string", default="")
    parser.addini("scylla_repair_max_calls", "how many calls; see --repair-max-calls", "string", default="")
    parser.addini("scylla_repair_max_wait", "how long to wait for a limit, in seconds", "string", default="1800")
    parser.addini(
        "scylla_repair_fallback",
        "give a slot without a verdict a heuristic's (0.7, passed) where the agent's reply says success",
        "bool",
        default=False,
    )
    parser.addini("scylla_judge", "the command line that judges; see --scylla-judge", "string", default="")
    parser.addini(
        "scylla_judge_command",
        "a command line of your own that judges: a template with {model}, {system_prompt} and {workspace}; "
        "the prompt goes in on standard input",
        "args",
    )
    parser.addini("scylla_judge_env", "further environment variables that the judge's command gets", "linelist")
    parser.addini("scylla_judge_system_prompt", "a file with the judge's system prompt", "string", default="")
    parser.addini("scylla_judge_timeout", "how long a judge call may take, in seconds", "string", default="1200")
    parser.addini("scylla_agent", "the command line that is run as the agent; see --scylla-agent", "string", default="")
    parser.addini(
        "scylla_agent_command",
        "a command line of your own that is run as the agent, in the workspace: a template with {model} and "
        "{max_turns}; the prompt goes in on standard input",
        "args",
    )
    parser.addini("scylla_agent_env", "further environment variables that the agent's command gets", "linelist")
    parser.addini(
        "scylla_check_command",
        "a command line that tells, in the workspace, how the agent did; it runs what the agent wrote",
        "args",
    )
    parser.addini("scylla_attempts", "how often a slot is asked about until there is a verdict", "string", default="3")
    parser.addini("scylla_backoff", "the first delay after a failure that may pass, in seconds", "string", default="2")
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
