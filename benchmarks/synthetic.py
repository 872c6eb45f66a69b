"""Synthetic experiments: whole experiment directories, sound to the last field.

Tests and benchmarks need experiments of any size that nobody has to record. `write_experiment` writes one
that an audit finds clean, and every kind of record has a function of its own, so that a test can build
(and then damage) a single file.

Everything is a function of the plan: the same plan gives the same bytes, and what a run holds depends only
on the seed and on the run's place in the plan, not on which other runs were left out.

On the command line::

    python -m benchmarks.synthetic DIR [--scale full|small|NxRUNS] [--missing-half] [--runs N]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from json.encoder import encode_basestring_ascii
from pathlib import Path
from random import Random
from typing import Any, Literal
from uuid import UUID

JsonObject = dict[str, Any]

AGENT_MODEL = "agent-medium-1"
JUDGE_MODELS = ("judge-large-1", "judge-medium-1", "judge-small-1")
SECRET = "sk-ant-synthetic-this-is-no-key-and-must-leak-nowhere"
"""The value of ANTHROPIC_API_KEY in every command log: no report, log or repaired file may ever show it."""

GRADES = "FDCBAS"
"""All grades, worst first."""
PASS_THRESHOLD = 0.6
TIE_THRESHOLD = 0.05

_TASK_REPO = "https://git.example.org/exercises/tally"
_TASK_COMMIT = "4be1c0de5a9d37f20816b3c94d5e6f708192a3b4"
_STARTED = datetime(2026, 2, 2, 9, 0, 0, 250_119, tzinfo=timezone.utc)
_RUN_EVERY = timedelta(seconds=28)
_FOOTER = "\n---\n\n*Synthetic experiment, written for tests and benchmarks*\n"


@dataclass(frozen=True)
class Plan:
    """What an experiment is to hold."""

    tiers: Mapping[str, Sequence[str]]
    """Tier id -> ids of its subtests."""
    runs_per_subtest: int
    judge_models: Sequence[str]
    """One model per judge slot."""
    experiment_id: str
    seed: int
    layout: Literal["flat", "staged"] = "flat"
    """Where the tiers are: `flat` below the root, `staged` below its `completed/`."""
    side_files: bool = True
    """Whether to write what no audit asks for: Markdown reports, scripts, git's and the pipeline's logs."""


def _numbered(count: int, first: int = 1) -> tuple[str, ...]:
    return tuple(f"{number:02d}" for number in range(first, first + count))


FULL_SCALE = Plan(
    tiers={
        "T0": _numbered(24, first=0),
        "T1": _numbered(10),
        "T2": _numbered(15),
        "T3": _numbered(41),
        "T4": _numbered(7),
        "T5": _numbered(15),
        "T6": _numbered(1),
    },
    runs_per_subtest=10,
    judge_models=JUDGE_MODELS,
    experiment_id="synthetic-full",
    seed=20260202,
)
"""The scale to think of: 113 subtests, 1,130 runs, 3,390 judge slots."""

_SMALL = Plan(
    tiers={"T0": ("00",), "T1": ("01", "02")},
    runs_per_subtest=2,
    judge_models=JUDGE_MODELS,
    experiment_id="synthetic-small",
    seed=75,
)


def small(**overrides: Any) -> Plan:
    """Return a plan for tests: 2 tiers, 3 subtests, 6 runs, 18 slots; any field can be overridden."""
    return replace(_SMALL, **overrides)


# ---------------------------------------------------------------------------------------------------------
# Places


def run_ids(plan: Plan) -> Iterator[str]:
    """Yield the id of every run of the plan, such as `T0/00/run_01`, in the plan's order."""
    for tier, subtests in plan.tiers.items():
        for subtest in subtests:
            for number in range(1, plan.runs_per_subtest + 1):
                yield f"{tier}/{subtest}/run_{number:02d}"


def tiers_dir(root: Path, plan: Plan) -> Path:
    """Return the directory that holds the tiers of the experiment at `root`."""
    return root / "completed" if plan.layout == "staged" else root


def run_dir(root: Path, plan: Plan, run_id: str) -> Path:
    """Return the directory of a run of the experiment at `root`."""
    return tiers_dir(root, plan) / run_id


def recorded_dir(plan: Plan) -> str:
    """Return the absolute path at which the experiment claims to have been made; nothing exists there."""
    return f"/data/experiments/{plan.experiment_id}"


def recorded_root(plan: Plan) -> str:
    """Return the directory that held the tiers on the day the runs were made, as recorded in them."""
    return recorded_dir(plan) + ("/in_progress" if plan.layout == "staged" else "")


# ---------------------------------------------------------------------------------------------------------
# The task and its rubric


@dataclass(frozen=True)
class Item:
    """One line of the rubric, with what a judge says when it is met and when it is not."""

    id: str
    check: str
    points: float
    met: str
    unmet: str


@dataclass(frozen=True)
class Category:
    """A category of the rubric."""

    name: str
    weight: float
    items: tuple[Item, ...]


RUBRIC = (
    Category(
        "correctness",
        0.4,
        (
            Item(
                "C1",
                "tally.py counts the words of a file given as argument",
                2.0,
                "Running the script on the sample text prints 412 words, which agrees with `wc -w`.",
                "The count for the sample text is off: hyphenated words are split and counted twice.",
            ),
            Item(
                "C2",
                "Words are compared without regard to case",
                1.0,
                "The text is case-folded before counting, so `The` and `the` end up in one line.",
                "`The` and `the` are listed as two words; nothing in the code folds the case.",
            ),
            Item(
                "C3",
                "The ten most frequent words are listed, most frequent first",
                1.0,
                "The listing has ten lines in falling order, and `--top 3` shortens it as asked.",
                "The listing is in order of first appearance, so the most frequent word is in line six.",
            ),
            Item(
                "C4",
                "Words of equal frequency are listed alphabetically",
                0.5,
                "Ties are broken by the word itself through the sort key, twice checked by hand.",
                "The order of ties depends on the dictionary and changes when the input is reordered.",
            ),
            Item(
                "C5",
                "The script reads standard input when no file is given",
                1.0,
                "`cat sample.txt | python tally.py` gives the same listing as the call with the file name.",
                "Without an argument the script ends with a usage message and does not read standard input.",
            ),
        ),
    ),
    Category(
        "robustness",
        0.2,
        (
            Item(
                "R1",
                "A missing file gives a message on standard error and exit code 2",
                1.0,
                "A wrong name gives one line on standard error and exit code 2, with no traceback.",
                "A wrong name ends in an uncaught FileNotFoundError and a full traceback.",
            ),
            Item(
                "R2",
                "An empty file is no error",
                1.0,
                "An empty file prints a total of 0 and an empty listing; the exit code is 0.",
                "An empty file leads to a division by zero in the percentage column.",
            ),
            Item(
                "R3",
                "Text that is not ASCII is counted correctly",
                1.0,
                "The file is opened as UTF-8, and `na\u00efve` and `caf\u00e9` are counted as single words.",
                "The regular expression knows a-z only, so `caf\u00e9` is counted as `caf`.",
            ),
            Item(
                "R4",
                "Large files are read line by line",
                0.5,
                "The counter is updated line by line, so memory does not grow with the file.",
                "The whole file is read at once; a 2 GB log would need as much memory again.",
            ),
        ),
    ),
    Category(
        "clarity",
        0.15,
        (
            Item(
                "L1",
                "Functions are short and named after what they do",
                1.0,
                "Three functions, each of one purpose, and the names say it: count_words, top, main.",
                "Everything happens in one block of 60 lines below the import statements.",
            ),
            Item(
                "L2",
                "The command line has a help text",
                1.0,
                "argparse is used with a description and a help line for both options.",
                "sys.argv is taken apart by hand, and `--help` is treated as a file name.",
            ),
            Item(
                "L3",
                "No dead code, no commented-out code",
                0.5,
                "Nothing is left over; every function and import is used.",
                "An unused helper and two commented-out prints were left in the file.",
            ),
        ),
    ),
    Category(
        "tests",
        0.15,
        (
            Item(
                "X1",
                "There are tests for counting and ordering",
                1.0,
                "test_tally.py covers counting, case and order, in nine small tests that all pass.",
                "The one test there is only checks that the module can be imported.",
            ),
            Item(
                "X2",
                "The tests run the script as a user would",
                1.0,
                "Two tests start the script as a subprocess and look at its output and exit code.",
                "The script is never started; only an inner function is called.",
            ),
            Item(
                "X3",
                "The tests leave nothing behind",
                0.5,
                "All files are made below tmp_path, and the workspace is clean afterwards.",
                "The tests write sample.txt next to the source and do not remove it.",
            ),
        ),
    ),
    Category(
        "scope",
        0.1,
        (
            Item(
                "S1",
                "Only what was asked for was built",
                1.0,
                "Two files were added, the script and its tests, and nothing else was touched.",
                "A package with a plug-in mechanism and a configuration file was built for one command.",
            ),
            Item(
                "S2",
                "No dependency was added",
                1.0,
                "The standard library is all that is imported.",
                "A natural language toolkit was added as a dependency to split a line at blanks.",
            ),
            Item(
                "S3",
                "The summary to the user is true",
                0.5,
                "What the agent reports agrees with the state of the workspace in every point.",
                "The summary speaks of documentation that was never written.",
            ),
        ),
    ),
)
"""The rubric of the synthetic task: 5 categories with 18 items; the weights add up to 1."""

TASK_PROMPT = """\
# Task: count words

Write `tally.py`, a command that counts the words of a text and lists the most frequent ones.

## What it does

1. `python tally.py FILE` prints the number of words, then the ten most frequent words with their counts.
2. Without FILE it reads standard input. `--top N` lists N words instead of ten.
3. Upper and lower case are the same; words of equal frequency are listed alphabetically.
4. A file that does not exist gives one line on standard error and exit code 2.

## What to hand in

- `tally.py` in the working directory
- `test_tally.py` with tests that `pytest` finds

Use the standard library only, and say at the end which files you changed.
"""


def _rubric_yaml() -> str:
    lines = ["# Rubric of the word count task", "", "categories:"]
    for category in RUBRIC:
        lines += [
            f"  {category.name}:",
            f"    weight: {category.weight}",
            '    scoring_type: "checklist"',
            "    items:",
        ]
        for item in category.items:
            lines += [f"      - id: {item.id}", f'        check: "{item.check}"', f"        points: {item.points}"]
        lines.append("")
    lines += ["grading:", f"  pass_threshold: {PASS_THRESHOLD}", "  grade_scale:"]
    lines += [f"    {name}: {floor}" for name, floor in zip("SABCDF", (1.0, 0.8, 0.6, 0.4, 0.2, 0.0), strict=True)]
    return "\n".join(lines) + "\n"


def _criteria_md() -> str:
    lines = ["# Success criteria", ""]
    for category in RUBRIC:
        lines += [f"## {category.name} ({category.weight:.0%})", ""]
        lines += [f"- **{item.id}** {item.check} ({item.points:g})" for item in category.items]
        lines.append("")
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------
# Records: the agent


def agent_reply(
    *,
    input_tokens: int = 24,
    output_tokens: int = 1480,
    cache_creation_tokens: int = 18250,
    cache_read_tokens: int = 96400,
    cost_usd: float = 0.1198,
    turns: int = 7,
    duration_seconds: float = 31.5,
    text: str = "I wrote `tally.py` and its tests; all of them pass.",
    session_id: str = "00000000-0000-4000-8000-000000000001",
    model: str = AGENT_MODEL,
) -> JsonObject:
    """Return the object that the agent prints at its end; `agent_stdout` makes the line of it."""
    milliseconds = int(duration_seconds * 1000)
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "duration_ms": milliseconds,
        "duration_api_ms": milliseconds + 1200,
        "num_turns": turns,
        "result": text,
        "session_id": session_id,
        "total_cost_usd": cost_usd,
        "usage": {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": cache_creation_tokens,
            "cache_read_input_tokens": cache_read_tokens,
            "output_tokens": output_tokens,
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            "service_tier": "standard",
        },
        "modelUsage": {
            model: {
                "inputTokens": input_tokens,
                "outputTokens": output_tokens,
                "cacheReadInputTokens": cache_read_tokens,
                "cacheCreationInputTokens": cache_creation_tokens,
                "costUSD": cost_usd,
            }
        },
        "permission_denials": [],
    }


def agent_stdout(reply: Mapping[str, Any]) -> str:
    """Return the agent's standard output: the reply on one line, characters beyond ASCII as they are."""
    return json.dumps(reply, ensure_ascii=False, separators=(",", ":")) + "\n"


def agent_stderr(recorded_run: str, model: str = AGENT_MODEL) -> str:
    """Return the agent's standard error: the shell's trace of its own two commands."""
    return f"+ cd {recorded_run}/workspace\n+ {' '.join(_agent_argv(recorded_run, model))}\n"


def agent_result(stdout: str, *, stderr: str = "", exit_code: int = 0) -> JsonObject:
    """Return agent/result.json as it derives from the agent's output."""
    reply = json.loads(stdout)
    usage = reply["usage"]
    return {
        "exit_code": exit_code,
        "stdout": stdout,
        "stderr": stderr,
        "token_stats": {
            "input_tokens": usage["input_tokens"],
            "output_tokens": usage["output_tokens"],
            "cache_creation_tokens": usage["cache_creation_input_tokens"],
            "cache_read_tokens": usage["cache_read_input_tokens"],
        },
        "cost_usd": reply["total_cost_usd"],
        "api_calls": reply["num_turns"],
    }


def agent_timing(duration: float, measured_at: str) -> JsonObject:
    """Return agent/timing.json."""
    return {"agent_duration_seconds": duration, "measured_at": measured_at}


def _agent_argv(recorded_run: str, model: str) -> list[str]:
    return ["claude", "--model", model, "--print", "--output-format", "json", f"{recorded_run}/agent/prompt.md"]


def command_log(
    recorded_run: str,
    *,
    duration: float,
    finished_at: str,
    exit_code: int = 0,
    model: str = AGENT_MODEL,
) -> JsonObject:
    """Return agent/command_log.json with one command, whose environment holds `SECRET`."""
    return {
        "generated_at": finished_at,
        "total_commands": 1,
        "commands": [
            {
                "timestamp": finished_at,
                "command": _agent_argv(recorded_run, model),
                "cwd": f"{recorded_run}/workspace",
                "env_vars": {
                    "PATH": "/usr/local/bin:/usr/bin:/bin",
                    "HOME": "/home/experimenter",
                    "LANG": "C.UTF-8",
                    "ANTHROPIC_API_KEY": SECRET,
                },
                "exit_code": exit_code,
                "stdout_file": "cmd_0000_stdout.log",
                "stderr_file": "cmd_0000_stderr.log",
                "duration_seconds": duration,
            }
        ],
    }


def model_md(role: str, model: str, written_at: str) -> str:
    """Return a MODEL.md; `role` is Agent or Judge."""
    return f"# {role} model\n\n**Model**: {model}\n**CLI version**: 2.1.0\n**Timestamp**: {written_at}\n"


# ---------------------------------------------------------------------------------------------------------
# Records: the judges


def grade(score: float) -> str:
    """Return the grade of a score."""
    for name, floor in (("S", 1.0), ("A", 0.8), ("B", 0.6), ("C", 0.4), ("D", 0.2)):
        if score >= floor:
            return name
    return "F"


def criteria_scores(quality: float = 1.0, rng: Random | None = None) -> JsonObject:
    """Return what a judge gives for each criterion, for work of some quality from 0 to 1.

    Work of quality 1 gets every point. Without `rng` the same quality always gives the same points.
    """
    rng = rng or Random(0)
    criteria: JsonObject = {}
    for category in RUBRIC:
        items: JsonObject = {}
        achieved = total = 0.0
        for item in category.items:
            if item.id == "X3" and quality < 1 and rng.random() < 0.15:
                items[item.id] = {"achieved": "N/A", "max": "N/A", "reason": "No test writes a file: not applicable."}
                continue
            share = 1.0 if quality >= 1 else min(1.0, max(0.0, round((quality + rng.gauss(0.0, 0.2)) * 4) / 4))
            points = item.points * share
            items[item.id] = {"achieved": points, "max": item.points, "reason": _reason(item, share)}
            achieved += points
            total += item.points
        criteria[category.name] = {
            "achieved": achieved,
            "max": total,
            "score": round(achieved / total, 4),
            "items": items,
        }
    return criteria


def _reason(item: Item, share: float) -> str:
    if share == 1:
        return item.met
    return f"Met in part ({share:.0%}). {item.unmet}" if share else item.unmet


def weighted_score(criteria: Mapping[str, Any]) -> float:
    """Return the score, to four digits, that the rubric's weights make of the criteria."""
    return round(math.fsum(category.weight * criteria[category.name]["score"] for category in RUBRIC), 4)


_OPENINGS = (
    "The word counter was built, run and read line by line.",
    "I started the script on four inputs and compared the results with the task.",
    "The solution was judged by its behaviour first and by its code second.",
    "Reviewed as a pull request, with the pipeline's output at hand.",
)


def _reasoning(slot: int, score: float, criteria: Mapping[str, Any]) -> str:
    lost = [
        item_id
        for category in criteria.values()
        for item_id, item in category["items"].items()
        if item["achieved"] != item["max"]
    ]
    if not lost:
        end = "Every item of the rubric is met, and there is nothing to add or to take away."
    else:
        best = max(criteria, key=lambda name: criteria[name]["score"])
        worst = min(criteria, key=lambda name: criteria[name]["score"])
        end = f"It is strongest in {best} and weakest in {worst}; points were lost at {', '.join(lost)}."
    opening = _OPENINGS[(slot - 1) % len(_OPENINGS)]
    if slot > len(_OPENINGS):
        opening = f"(Opinion {slot}) {opening}"  # so that no two slots of a run say the same
    return f"{opening} {end} Weighted over the five categories this makes {score:.4f} of 1."


def judgment(
    score: float | None = None,
    *,
    passed: bool | None = None,
    reasoning: str | None = None,
    criteria: JsonObject | None = None,
    slot: int = 1,
) -> JsonObject:
    """Return a judge slot's judgment.json.

    The score is the criteria's where none is given, and the criteria are some that fit a given score;
    the grade and, unless it is given, `passed` follow from the score.
    """
    if criteria is None:
        criteria = criteria_scores(0.9 if score is None else score)
    if score is None:
        score = weighted_score(criteria)
    return {
        "score": score,
        "passed": score >= PASS_THRESHOLD if passed is None else passed,
        "grade": grade(score),
        "reasoning": _reasoning(slot, score, criteria) if reasoning is None else reasoning,
        "is_valid": True,
        "criteria_scores": criteria,
    }


def _prose(verdict: Mapping[str, Any]) -> str:
    lines = [
        "I have read the task, the agent's report and the files in the workspace, and I ran the script myself.",
        "",
        "## Category by category",
        "",
    ]
    for name, category in (verdict["criteria_scores"] or {}).items():
        mark = "\u2713" if category["score"] == 1 else "\u2014"
        lines.append(f"- **{name}** {mark} {category['achieved']:g} of {category['max']:g} points")
    lines += [
        "",
        "The files that only the tools left behind were not counted against the agent, and the lack of a",
        "type annotation here or there was not either, since the rubric does not ask for any.",
        "",
        "Here is my verdict:",
    ]
    return "\n".join(lines)


def _reply_object(verdict: Mapping[str, Any]) -> JsonObject:
    return {
        "score": verdict["score"],
        "passed": verdict["passed"],
        "grade": verdict["grade"],
        "reasoning": verdict["reasoning"],
        "categories": verdict["criteria_scores"],
    }


def response(verdict: Mapping[str, Any], prose: str | None = None) -> str:
    """Return the reply (response.txt and stdout.log) of a judge whose judgment is given."""
    block = json.dumps(_reply_object(verdict), indent=2)
    return f"{_prose(verdict) if prose is None else prose}\n\n```json\n{block}\n```\n"


def judge_timing(duration: float, measured_at: str) -> JsonObject:
    """Return a timing.json of a judge slot or of the whole judging."""
    return {"judge_duration_seconds": duration, "measured_at": measured_at}


def consensus(judgments: Sequence[Mapping[str, Any]]) -> JsonObject:
    """Return judge/result.json: what the judgments of a run come to.

    The reasoning and the criteria are those of the judgment closest to the mean, the first of equals.
    """
    scores = [verdict["score"] for verdict in judgments]
    mean = math.fsum(scores) / len(scores)
    nearest = min(abs(score - mean) for score in scores)
    closest = next(verdict for verdict in judgments if abs(verdict["score"] - mean) <= nearest + 1e-9)
    return {
        "score": mean,
        "passed": sum(1 for verdict in judgments if verdict["passed"]) * 2 > len(judgments),
        "grade": grade(mean),
        "reasoning": closest["reasoning"],
        "is_valid": all(verdict.get("is_valid", True) for verdict in judgments),
        "criteria_scores": closest["criteria_scores"],
    }


# ---------------------------------------------------------------------------------------------------------
# Records: the run


def run_result(
    *,
    run_number: int,
    agent: Mapping[str, Any],
    judgments: Sequence[Mapping[str, Any]],
    judge_models: Sequence[str],
    agent_duration: float,
    judge_duration: float,
    recorded_run: str,
    verdict: Mapping[str, Any] | None = None,
) -> JsonObject:
    """Return run_result.json: `agent` is the agent's result.json, `verdict` the consensus if at hand."""
    if verdict is None:
        verdict = consensus(judgments)
    tokens = agent["token_stats"]
    return {
        "run_number": run_number,
        "exit_code": agent["exit_code"],
        "token_stats": dict(tokens),
        "tokens_input": tokens["input_tokens"] + tokens["cache_read_tokens"],
        "tokens_output": tokens["output_tokens"],
        "cost_usd": agent["cost_usd"],
        "duration_seconds": agent_duration + judge_duration,
        "agent_duration_seconds": agent_duration,
        "judge_duration_seconds": judge_duration,
        "judge_score": verdict["score"],
        "judge_passed": verdict["passed"],
        "judge_grade": verdict["grade"],
        "judge_reasoning": verdict["reasoning"],
        "judges": [
            {
                "model": model,
                "score": item["score"],
                "passed": item["passed"],
                "grade": item["grade"],
                "reasoning": item["reasoning"],
                "judge_number": number,
            }
            for number, (model, item) in enumerate(zip(judge_models, judgments, strict=True), 1)
        ],
        "workspace_path": f"{recorded_run}/workspace",
        "logs_path": f"{recorded_run}/agent",
        "command_log_path": f"{recorded_run}/agent/command_log.json",
        "criteria_scores": verdict["criteria_scores"],
    }


# ---------------------------------------------------------------------------------------------------------
# Records: aggregates and the experiment


def _sum_tokens(parts: Sequence[Mapping[str, Any]]) -> JsonObject:
    names = ("input_tokens", "output_tokens", "cache_creation_tokens", "cache_read_tokens")
    return {name: sum(part["token_stats"][name] for part in parts) for name in names}


def subtest_result(tier: str, subtest: str, runs: Sequence[JsonObject]) -> JsonObject:
    """Return what a tier's result.json holds of a subtest; `runs` are its run results, at least one."""
    scores = [run["judge_score"] for run in runs]
    costs = [run["cost_usd"] for run in runs]
    mean = math.fsum(scores) / len(scores)
    deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
    grades = [run["judge_grade"] for run in runs]
    distribution: dict[str, int] = {}
    for name in grades:
        distribution[name] = distribution.get(name, 0) + 1
    return {
        "subtest_id": subtest,
        "tier_id": tier,
        "runs": list(runs),
        "pass_rate": sum(1 for run in runs if run["judge_passed"]) / len(runs),
        "mean_score": mean,
        "median_score": statistics.median(scores),
        "std_dev_score": deviation,
        "mean_cost": math.fsum(costs) / len(costs),
        "total_cost": math.fsum(costs),
        "token_stats": _sum_tokens(runs),
        "consistency": max(0.0, 1.0 - (deviation / mean if mean > 0 else 1.0)),
        "grade_distribution": distribution,
        "modal_grade": max(distribution, key=distribution.__getitem__),
        "min_grade": min(grades, key=GRADES.index),
        "max_grade": max(grades, key=GRADES.index),
        "selected_as_best": False,
        "selection_reason": "",
        "rate_limit_info": None,
    }


def best_subtest(results: Mapping[str, Mapping[str, Any]]) -> JsonObject:
    """Return a tier's best_subtest.json: the highest median wins, near ties are broken by fewer tokens."""

    def vote(subtest: str, confidence: float, reasoning: str) -> JsonObject:
        score = results[subtest]["median_score"]
        return {"subtest_id": subtest, "score": score, "confidence": confidence, "reasoning": reasoning}

    ranked = sorted(results, key=lambda subtest: -results[subtest]["median_score"])
    winner = ranked[0]
    votes = []
    margin, tiebreaker = 1.0, None
    if len(ranked) == 1:
        votes = [vote(winner, 1.0, "No other candidate")]
    else:
        for subtest in ranked:
            result = results[subtest]
            reasoning = (
                f"{result['pass_rate']:.1%} of the runs passed with a mean of {result['mean_score']:.3f} "
                f"(consistency {result['consistency']:.3f})"
            )
            votes.append(vote(subtest, result["consistency"], reasoning))
        first, second = ranked[:2]
        margin = results[first]["median_score"] - results[second]["median_score"]
        if margin < TIE_THRESHOLD:
            used = {subtest: sum(results[subtest]["token_stats"].values()) for subtest in (first, second)}
            winner = min(used, key=used.__getitem__)
            detail = ", ".join(f"{subtest}={tokens}" for subtest, tokens in used.items())
            tiebreaker = vote(winner, 1.0, f"Near tie, decided by token usage ({detail}): fewer is better")
    return {
        "winning_subtest": winner,
        "winning_score": results[winner]["median_score"],
        "votes": votes,
        "margin": margin,
        "tiebreaker_needed": tiebreaker is not None,
        "tiebreaker_result": tiebreaker,
    }


def tier_result(
    tier: str,
    results: Mapping[str, JsonObject],
    selection: Mapping[str, Any],
    duration: float,
) -> JsonObject:
    """Return a tier's result.json; marks the winner of `selection` in `results`."""
    winner = selection["winning_subtest"]
    best = results[winner]
    best["selected_as_best"] = True
    tiebreaker = selection["tiebreaker_result"]
    best["selection_reason"] = (
        tiebreaker["reasoning"] if tiebreaker else f"Best median: {selection['winning_score']:.3f}"
    )
    return {
        "tier_id": tier,
        "subtest_results": dict(results),
        "best_subtest": winner,
        "best_subtest_score": selection["winning_score"],
        "inherited_from": None,
        "tiebreaker_needed": selection["tiebreaker_needed"],
        "total_cost": math.fsum(result["total_cost"] for result in results.values()),
        "total_duration": duration,
        "cost_of_pass": best["mean_cost"] / best["pass_rate"] if best["pass_rate"] > 0 else None,
        "token_stats": _sum_tokens(list(results.values())),
    }


def experiment_result(
    config: JsonObject,
    tiers: Mapping[str, JsonObject],
    started_at: datetime,
    completed_at: datetime,
) -> JsonObject:
    """Return the experiment's result.json; the best tier is the one with the lowest cost of a pass."""
    costs = {tier: result["cost_of_pass"] for tier, result in tiers.items() if result["cost_of_pass"] is not None}
    best = min(costs, key=costs.__getitem__) if costs else None
    return {
        "config": config,
        "tier_results": dict(tiers),
        "best_overall_tier": best,
        "best_overall_subtest": tiers[best]["best_subtest"] if best else None,
        "frontier_cop": costs[best] if best else None,
        "frontier_cop_tier": best,
        "total_cost": math.fsum(result["total_cost"] for result in tiers.values()),
        "total_duration_seconds": (completed_at - started_at).total_seconds(),
        "token_stats": _sum_tokens(list(tiers.values())),
        "started_at": started_at.isoformat(),
        "completed_at": completed_at.isoformat(),
    }


def experiment_config(plan: Plan) -> JsonObject:
    """Return config/experiment.json."""
    config: JsonObject = {
        "experiment_id": plan.experiment_id,
        "task_repo": _TASK_REPO,
        "task_commit": _TASK_COMMIT,
        "task_prompt_file": "tasks/tally/prompt.md",
        "language": "python",
        "models": [AGENT_MODEL],
        "runs_per_subtest": plan.runs_per_subtest,
        "tiers_to_run": list(plan.tiers),
        "judge_models": list(plan.judge_models),
        "parallel_subtests": 6,
        "timeout_seconds": 600,
        "max_turns": None,
        "max_subtests": None,
        "use_containers": False,
    }
    if plan.layout == "staged":
        config["thinking_mode"] = "None"
    return config


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the checkpoint's hash of a configuration."""
    kept = {key: value for key, value in config.items() if key not in ("parallel_subtests", "max_subtests")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def checkpoint(
    plan: Plan,
    completed_runs: Mapping[str, Mapping[str, Mapping[str, str]]],
    *,
    started_at: str,
    last_updated_at: str,
) -> JsonObject:
    """Return checkpoint.json of a finished experiment."""
    return {
        "version": "2.0",
        "experiment_id": plan.experiment_id,
        "experiment_dir": recorded_dir(plan),
        "config_hash": config_hash(experiment_config(plan)),
        "completed_runs": completed_runs,
        "started_at": started_at,
        "last_updated_at": last_updated_at,
        "status": "completed",
        "rate_limit_source": None,
        "rate_limit_until": None,
        "pause_count": 0,
        "pid": 41873,
    }


# ---------------------------------------------------------------------------------------------------------
# Writing


class _Json:
    """`json.dumps(value, indent=2)` that renders large objects only once.

    Text rendered before is put in again with the indentation of its new place: a JSON string holds no raw
    line break, so every line break of the text is one of the layout.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, str]] = {}

    def remember(self, value: JsonObject) -> str:
        """Render an object that will come again (and must not change any more)."""
        text = self.text(value)
        self._known[id(value)] = (value, text)  # holding the object keeps its id its own
        return text

    def forget(self, value: JsonObject) -> None:
        """Give up what `remember` kept."""
        self._known.pop(id(value), None)

    def text(self, value: Any, line: str = "\n") -> str:
        """Return the JSON text of a value; `line` is a line break with the indentation of the value."""
        if isinstance(value, str):
            return encode_basestring_ascii(value)
        if isinstance(value, dict):
            known = self._known.get(id(value))
            if known is not None:
                return known[1].replace("\n", line)
            if not value:
                return "{}"
            inner = line + "  "
            members = [f"{encode_basestring_ascii(key)}: {self.text(item, inner)}" for key, item in value.items()]
            return "{" + inner + ("," + inner).join(members) + line + "}"
        if isinstance(value, (list, tuple)):
            if not value:
                return "[]"
            inner = line + "  "
            return "[" + inner + ("," + inner).join([self.text(item, inner) for item in value]) + line + "]"
        return json.dumps(value, allow_nan=False)


def _write(path: str, text: str) -> None:
    with open(path, "wb") as file:
        file.write(text.encode())


def _write_script(path: str, text: str) -> None:
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o755)) as file:
        file.write(text.encode())


@dataclass(frozen=True)
class _Draw:
    """What chance decides about a run."""

    reply: JsonObject
    agent_duration: float
    judgments: list[JsonObject]
    slot_durations: list[float]


_DOINGS = (
    "I split the work into a counting function, a function that orders the words and a thin command line.",
    "A `Counter` does the counting; the order is a sort by falling count and then by the word.",
    "I wrote the tests first, watched them fail and then wrote the script.",
)
_CLOSINGS = (
    "No other file was changed.",
    "The tool never touches the network, so there is no rate limit or timeout to handle.",
    "One thing I left out on purpose: stop words are counted like any others.",
)


def _draw(plan: Plan, run_id: str) -> _Draw:
    rng = Random(f"{plan.seed}:{run_id}")
    tier, subtest, _ = run_id.split("/")
    level = 0.62 + 0.3 * Random(f"{plan.seed}:{tier}/{subtest}").random()

    words = rng.randrange(180, 900)
    text = (
        f"Done: `tally.py` counts the words of a file or of standard input.\n\n{rng.choice(_DOINGS)}\n\n"
        f"- \u2713 the sample text has {words} words, as `wc -w` says\n- \u2713 {rng.randrange(4, 14)} tests pass\n\n"
        f"Files: {recorded_root(plan)}/{run_id}/workspace/tally.py and test_tally.py. {rng.choice(_CLOSINGS)}"
    )
    turns = rng.randrange(4, 19)
    tokens = (
        rng.randrange(12, 60),
        rng.randrange(500, 4200),
        rng.randrange(3000, 30000),
        turns * rng.randrange(14000, 21000),
    )
    rates = (3e-6, 15e-6, 3.75e-6, 0.3e-6)
    agent_duration = round(rng.uniform(14.0, 95.0), 6)
    reply = agent_reply(
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cache_creation_tokens=tokens[2],
        cache_read_tokens=tokens[3],
        cost_usd=round(math.fsum(count * rate for count, rate in zip(tokens, rates, strict=True)), 8),
        turns=turns,
        duration_seconds=agent_duration - 0.9,
        text=text,
        session_id=str(UUID(int=rng.getrandbits(128), version=4)),
    )

    chance = rng.random()
    if chance < 0.1:
        quality = 1.0
    elif chance < 0.25:
        quality = rng.uniform(0.0, 0.55)
    else:
        quality = min(0.98, max(0.2, rng.gauss(level, 0.1)))
    while True:
        judgments = []
        for slot in range(1, len(plan.judge_models) + 1):
            seen = quality if quality >= 1 else min(0.99, max(0.0, quality + rng.gauss(0.0, 0.06)))
            judgments.append(judgment(criteria=criteria_scores(seen, rng), slot=slot))
        # A mean on the border of two grades would be one or the other as it is rounded.
        mean = math.fsum(verdict["score"] for verdict in judgments) / len(judgments)
        if not any(abs(mean - border) < 1e-5 for border in (0.2, 0.4, 0.6, 0.8)):
            break
    slot_durations = [round(rng.uniform(18.0, 75.0), 6) for _ in plan.judge_models]
    return _Draw(reply, agent_duration, judgments, slot_durations)


_PIPELINE = """\
### Python build: passed

```
compiled tally.py, test_tally.py
```

### Python tests: passed

```
collected 9 items
test_tally.py .........
9 passed in 0.31s
```
"""
_JUDGE_PROMPT_HEAD = f"""\
## Rubric

```yaml
{_rubric_yaml()}```

## Task

{TASK_PROMPT}
## Output of the agent

"""
_JUDGE_PROMPT_TAIL = f"""
## Workspace after the agent

- `tally.py` (new)
- `test_tally.py` (new)

## Pipeline

{_PIPELINE}
---

Judge the agent's work by the rubric, item by item, and end with one JSON object in a fenced block.
"""


def judge_prompt(stdout: str) -> str:
    """Return a run's judge_prompt.md: everything a judge is given."""
    return f"{_JUDGE_PROMPT_HEAD}{stdout}{_JUDGE_PROMPT_TAIL}"


def _write_run(path: str, plan: Plan, run_id: str, started: datetime, dump: _Json) -> tuple[JsonObject, datetime]:
    """Write a run; return its result and the time at which it ended."""
    draw = _draw(plan, run_id)
    recorded_run = f"{recorded_root(plan)}/{run_id}"
    stdout, stderr = agent_stdout(draw.reply), agent_stderr(recorded_run)
    agent = agent_result(stdout, stderr=stderr)
    prompt = judge_prompt(stdout)
    os.makedirs(f"{path}/agent", exist_ok=True)
    os.makedirs(f"{path}/judge", exist_ok=True)

    now = started + timedelta(seconds=draw.agent_duration, microseconds=1370)
    log = command_log(recorded_run, duration=draw.agent_duration, finished_at=now.isoformat())
    now += timedelta(microseconds=1130)
    _write(f"{path}/task_prompt.md", TASK_PROMPT)
    _write(f"{path}/judge_prompt.md", prompt)
    for name in ("stdout.log", "output.txt", "cmd_0000_stdout.log"):
        _write(f"{path}/agent/{name}", stdout)
    for name in ("stderr.log", "cmd_0000_stderr.log"):
        _write(f"{path}/agent/{name}", stderr)
    _write(f"{path}/agent/command_log.json", dump.text(log))
    _write(f"{path}/agent/result.json", dump.text(agent))
    _write(f"{path}/agent/timing.json", dump.text(agent_timing(draw.agent_duration, now.isoformat())))
    _write(f"{path}/agent/prompt.md", TASK_PROMPT)
    now += timedelta(seconds=1.947)
    _write(f"{path}/agent/MODEL.md", model_md("Agent", AGENT_MODEL, now.isoformat()))

    for number, model in enumerate(plan.judge_models, 1):
        slot = f"{path}/judge/judge_{number:02d}"
        os.makedirs(slot, exist_ok=True)
        verdict = draw.judgments[number - 1]
        dump.remember(verdict["criteria_scores"])
        reply = f"{_prose(verdict)}\n\n```json\n{dump.text(_reply_object(verdict))}\n```\n"
        now += timedelta(seconds=draw.slot_durations[number - 1], microseconds=412)
        _write(f"{slot}/MODEL.md", model_md("Judge", model, now.isoformat()))
        now += timedelta(microseconds=290)
        _write(f"{slot}/response.txt", reply)
        _write(f"{slot}/stdout.log", reply)
        _write(f"{slot}/judgment.json", dump.text(verdict))
        _write(f"{slot}/timing.json", dump.text(judge_timing(draw.slot_durations[number - 1], now.isoformat())))
        if plan.side_files:
            recorded_slot = f"{recorded_run}/judge/judge_{number:02d}"
            _write_script(
                f"{slot}/replay.sh",
                f"#!/bin/sh\nset -eu\ncd {recorded_run}\n"
                f"claude --model {model} --print < judge_prompt.md > {recorded_slot}/response.txt\n",
            )

    now += timedelta(microseconds=510)
    judge_duration = round(math.fsum(draw.slot_durations), 6)
    verdict = consensus(draw.judgments)
    _write(f"{path}/judge/result.json", dump.text(verdict))
    _write(f"{path}/judge/timing.json", dump.text(judge_timing(judge_duration, now.isoformat())))
    result = run_result(
        run_number=int(run_id.rpartition("_")[2]),
        agent=agent,
        judgments=draw.judgments,
        judge_models=plan.judge_models,
        agent_duration=draw.agent_duration,
        judge_duration=judge_duration,
        recorded_run=recorded_run,
        verdict=verdict,
    )
    _write(f"{path}/run_result.json", dump.remember(result))
    for item in draw.judgments:
        dump.forget(item["criteria_scores"])

    now += timedelta(microseconds=3207)
    report = {
        "run_number": result["run_number"],
        "score": result["judge_score"],
        "grade": result["judge_grade"],
        "passed": result["judge_passed"],
        "cost_usd": result["cost_usd"],
        "duration_seconds": result["duration_seconds"],
        "generated_at": now.isoformat(),
    }
    _write(f"{path}/report.json", dump.text(report))
    if plan.side_files:
        _write_run_sides(path, run_id, recorded_run, result, now)
    return result, now


def _write_run_sides(path: str, run_id: str, recorded_run: str, result: JsonObject, now: datetime) -> None:
    branch = run_id.replace("/", "_")
    os.makedirs(f"{path}/commands", exist_ok=True)
    _write(f"{path}/commands/python_build_output.log", "compiled tally.py, test_tally.py\n")
    _write(f"{path}/commands/python_test_output.log", "collected 9 items\ntest_tally.py .........\n9 passed in 0.31s\n")
    _write(f"{path}/cmd_0000_stdout.log", f"HEAD is now at {_TASK_COMMIT[:7]} Add the sample text\n")
    _write(f"{path}/cmd_0000_stderr.log", f"Preparing worktree (new branch '{branch}')\n")
    _write_script(
        f"{path}/worktree_create.sh",
        f"#!/bin/sh\nset -eu\ngit -C ../repo worktree add -b {branch} {recorded_run}/workspace {_TASK_COMMIT}\n",
    )
    command = " ".join(_agent_argv(recorded_run, AGENT_MODEL))
    _write_script(f"{path}/agent/replay.sh", f"#!/bin/sh\nset -eux\ncd {recorded_run}/workspace\n{command}\n")
    lines = [
        f"# Run {run_id}",
        "",
        f"**Generated**: {now.isoformat()}",
        "",
        "| Metric | Value |",
        "|--------|-------|",
        f"| Score | {result['judge_score']:.3f} |",
        f"| Grade | {result['judge_grade']} |",
        f"| Passed | {_yes(result['judge_passed'])} |",
        f"| Cost | ${result['cost_usd']:.4f} |",
        f"| Duration | {result['duration_seconds']:.2f}s |",
        f"| Agent | {result['agent_duration_seconds']:.2f}s |",
        f"| Judges | {result['judge_duration_seconds']:.2f}s |",
        f"| Exit code | {result['exit_code']} |",
        "",
        *_token_table(result["token_stats"]),
        "",
        "## Judges",
    ]
    for judge in result["judges"]:
        lines += [
            "",
            f"### Judge {judge['judge_number']}: {judge['model']}",
            "",
            f"{judge['score']:.3f}, grade {judge['grade']}, passed: {_yes(judge['passed'])}",
            "",
            judge["reasoning"],
            "",
            f"- [judgment](./judge/judge_{judge['judge_number']:02d}/judgment.json)",
        ]
    lines += ["", "## Agent", "", "- [output](./agent/output.txt)", "- [result](./agent/result.json)"]
    _write(f"{path}/report.md", "\n".join(lines) + "\n" + _FOOTER)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _token_table(tokens: Mapping[str, int]) -> list[str]:
    return [
        "| Tokens | Count |",
        "|--------|-------|",
        f"| Input (fresh) | {tokens['input_tokens']:,} |",
        f"| Output | {tokens['output_tokens']:,} |",
        f"| Cache read | {tokens['cache_read_tokens']:,} |",
        f"| Cache created | {tokens['cache_creation_tokens']:,} |",
        f"| **Total** | **{sum(tokens.values()):,}** |",
    ]


def _write_subtest(path: str, plan: Plan, result: JsonObject, now: datetime, dump: _Json) -> None:
    runs = result["runs"]
    report = {
        "subtest_id": result["subtest_id"],
        "tier_id": result["tier_id"],
        "summary": {
            "total_runs": len(runs),
            "passed": sum(1 for run in runs if run["judge_passed"]),
            "pass_rate": result["pass_rate"],
            "mean_score": result["mean_score"],
            "median_score": result["median_score"],
            "std_dev": result["std_dev_score"],
            "total_cost": result["total_cost"],
            "consistency": result["consistency"],
            "grade_distribution": result["grade_distribution"],
            "modal_grade": result["modal_grade"],
            "min_grade": result["min_grade"],
            "max_grade": result["max_grade"],
        },
        "token_stats": result["token_stats"],
        "children": [
            {
                "run_number": run["run_number"],
                "score": run["judge_score"],
                "passed": run["judge_passed"],
                "report": f"./run_{run['run_number']:02d}/report.json",
            }
            for run in runs
        ],
        "generated_at": now.isoformat(),
    }
    _write(f"{path}/report.json", dump.text(report))
    if not plan.side_files:
        return
    lines = [
        f"# Subtest {result['tier_id']}/{result['subtest_id']}",
        "",
        f"**Generated**: {now.isoformat()}",
        "",
        "| Metric | Value |",
        "|--------|-------|",
        f"| Runs | {len(runs)} |",
        f"| Passed | {result['pass_rate']:.1%} |",
        f"| Mean score | {result['mean_score']:.3f} |",
        f"| Median score | {result['median_score']:.3f} |",
        f"| Standard deviation | {result['std_dev_score']:.3f} |",
        f"| Consistency | {result['consistency']:.3f} |",
        f"| Cost | ${result['total_cost']:.4f} |",
        "",
        "| Run | Score | Grade | Passed | Duration | Cost |",
        "|-----|-------|-------|--------|----------|------|",
    ]
    for run in runs:
        name = f"run_{run['run_number']:02d}"
        lines.append(
            f"| [{name}](./{name}/report.md) | {run['judge_score']:.2f} | {run['judge_grade']} "
            f"| {_yes(run['judge_passed'])} | {run['duration_seconds']:.2f}s | ${run['cost_usd']:.4f} |"
        )
    lines += ["", *_token_table(result["token_stats"])]
    _write(f"{path}/report.md", "\n".join(lines) + "\n" + _FOOTER)


def _write_manifest(path: str, tier: str, subtest: str, now: datetime, dump: _Json) -> None:
    blocks = [f"B{number:02d}" for number in range(1, 1 + int(subtest) % 5)]
    manifest = {
        "tier_id": tier,
        "subtest_id": subtest,
        "fixture_config_path": f"subtests/{tier.lower()}/{subtest}-synthetic.yaml",
        "resources": {"claude_md": {"blocks": blocks}},
        "composed_at": now.isoformat(),
        "claude_md_hash": hashlib.sha256(" ".join(blocks).encode()).hexdigest() if blocks else None,
        "inherited_from": None,
    }
    _write(f"{path}/config_manifest.json", dump.text(manifest))


def _subtest_table(rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[str]:
    lines = [
        "| Tier | Subtest | Median | Passed | Mean cost | Report |",
        "|------|---------|--------|--------|-----------|--------|",
    ]
    for tier, link, result in rows:
        lines.append(
            f"| {tier} | {result['subtest_id']} | {result['median_score']:.2f} | {result['pass_rate']:.1%} "
            f"| ${result['mean_cost']:.4f} | [report]({link}/report.md) |"
        )
    return lines


def _write_tier(
    path: str,
    plan: Plan,
    result: JsonObject,
    selection: JsonObject,
    now: datetime,
    dump: _Json,
) -> None:
    tier, best, subtests = result["tier_id"], result["best_subtest"], result["subtest_results"]
    _write(f"{path}/best_subtest.json", dump.text(selection))
    _write(f"{path}/result.json", dump.remember(result))
    report = {
        "tier": tier,
        "summary": {
            "total_subtests": len(subtests),
            "best_subtest": best,
            "best_score": result["best_subtest_score"],
            "total_cost": result["total_cost"],
            "total_duration": result["total_duration"],
            "tiebreaker_needed": result["tiebreaker_needed"],
        },
        "token_stats": result["token_stats"],
        "best": {"subtest": best, "score": result["best_subtest_score"], "report": f"./{best}/report.json"},
        "children": [
            {
                "id": subtest,
                "score": item["median_score"],
                "pass_rate": item["pass_rate"],
                "cost": item["total_cost"],
                "selected": item["selected_as_best"],
                "report": f"./{subtest}/report.json",
            }
            for subtest, item in subtests.items()
        ],
        "generated_at": now.isoformat(),
    }
    _write(f"{path}/report.json", dump.text(report))
    if not plan.side_files:
        return
    table = _subtest_table([(tier, f"./{subtest}", item) for subtest, item in subtests.items()])
    lines = [
        f"# Tier {tier}",
        "",
        f"**Generated**: {now.isoformat()}",
        "",
        "| Metric | Value |",
        "|--------|-------|",
        f"| Subtests | {len(subtests)} |",
        f"| Best | {best} |",
        f"| Best score | {result['best_subtest_score']:.3f} |",
        f"| Cost | ${result['total_cost']:.4f} |",
        f"| Duration | {result['total_duration']:.1f}s |",
        f"| Tiebreaker | {_yes(result['tiebreaker_needed'])} |",
        "",
        *table,
        "",
        *_token_table(result["token_stats"]),
    ]
    _write(f"{path}/report.md", "\n".join(lines) + "\n" + _FOOTER)
    _write(f"{path}/summary.md", "\n".join([f"# Subtests of {tier}", "", *table]) + "\n" + _FOOTER)


def _write_totals(root: str, plan: Plan, result: JsonObject, now: datetime, dump: _Json) -> None:
    tiers, best = result["tier_results"], result["best_overall_tier"]
    prefix = "./completed" if plan.layout == "staged" else "."
    _write(f"{root}/result.json", dump.text(result))
    comparison = {
        tier: {
            "best_subtest": item["best_subtest"],
            "best_score": item["best_subtest_score"],
            "total_cost": item["total_cost"],
            "tiebreaker_needed": item["tiebreaker_needed"],
        }
        for tier, item in tiers.items()
    }
    _write(f"{root}/tier_comparison.json", dump.text(comparison))
    report = {
        "experiment_id": plan.experiment_id,
        "summary": {
            "total_tiers": len(tiers),
            "best_tier": best,
            "best_subtest": result["best_overall_subtest"],
            "frontier_cop": result["frontier_cop"],
            "total_cost": result["total_cost"],
            "total_duration": result["total_duration_seconds"],
            "started_at": result["started_at"],
            "completed_at": result["completed_at"],
        },
        "token_stats": result["token_stats"],
        "best": {
            "tier": best,
            "subtest": result["best_overall_subtest"],
            "report": f"{prefix}/{best}/report.json" if best else None,
        },
        "children": [
            {
                "tier": tier,
                "best_subtest": item["best_subtest"],
                "best_score": item["best_subtest_score"],
                "cost": item["total_cost"],
                "report": f"{prefix}/{tier}/report.json",
            }
            for tier, item in tiers.items()
        ],
        "generated_at": now.isoformat(),
    }
    _write(f"{root}/report.json", dump.text(report))
    if not plan.side_files:
        return
    lines = [
        f"# Experiment {plan.experiment_id}",
        "",
        f"**Generated**: {now.isoformat()}",
        f"**Duration**: {result['total_duration_seconds']:.1f}s",
        f"**Cost**: ${result['total_cost']:.4f}",
        f"**Best**: {best}/{result['best_overall_subtest']}",
        "",
        "| Tier | Subtests | Best | Score | Cost | Duration |",
        "|------|----------|------|-------|------|----------|",
    ]
    for tier, item in tiers.items():
        lines.append(
            f"| [{tier}]({prefix}/{tier}/report.md) | {len(item['subtest_results'])} | {item['best_subtest']} "
            f"| {item['best_subtest_score']:.2f} | ${item['total_cost']:.2f} | {item['total_duration']:.1f}s |"
        )
    lines += ["", *_token_table(result["token_stats"])]
    _write(f"{root}/report.md", "\n".join(lines) + "\n" + _FOOTER)
    table = _subtest_table(
        [
            (tier, f"{prefix}/{tier}/{subtest}", item)
            for tier, result_of_tier in tiers.items()
            for subtest, item in result_of_tier["subtest_results"].items()
        ]
    )
    _write(f"{root}/summary.md", "\n".join(["# All subtests", "", *table]) + "\n" + _FOOTER)


def write_experiment(root: Path, plan: Plan, *, missing: Callable[[str], bool] | None = None) -> None:
    """Write the experiment of a plan below `root`, which need not exist.

    A run whose id (`T0/00/run_01`) `missing` accepts is left out everywhere: it has no directory, no entry
    in the checkpoint and no share in any aggregate. A subtest all of whose runs are missing keeps its
    directory with config_manifest.json, as if the runner had stopped before the first run; aggregates that
    would be about no run at all are not written.
    """
    dump = _Json()
    top = os.fspath(root)
    below = os.fspath(tiers_dir(root, plan))
    os.makedirs(f"{top}/config", exist_ok=True)
    config = experiment_config(plan)
    _write(f"{top}/config/experiment.json", dump.text(config))
    _write(f"{top}/prompt.md", TASK_PROMPT)
    _write(f"{top}/rubric.yaml", _rubric_yaml())
    _write(f"{top}/criteria.md", _criteria_md())
    _write(
        f"{top}/judge_prompt.md",
        f"# What the judges are given\n\nThe rubric ({recorded_dir(plan)}/rubric.yaml), the task, the agent's output,\n"
        "the list of changed files and the pipeline's output: see judge_prompt.md in each run.\n",
    )

    begun = _STARTED - timedelta(seconds=4.183)
    ended = _STARTED
    ordinal = 0
    completed: dict[str, dict[str, dict[str, str]]] = {}
    tier_results: dict[str, JsonObject] = {}
    for tier, subtests in plan.tiers.items():
        tier_path = f"{below}/{tier}"
        tier_begun = tier_ended = _STARTED + ordinal * _RUN_EVERY
        results: dict[str, JsonObject] = {}
        for subtest in subtests:
            path = f"{tier_path}/{subtest}"
            os.makedirs(path, exist_ok=True)
            subtest_ended = started = _STARTED + ordinal * _RUN_EVERY
            _write_manifest(path, tier, subtest, started, dump)
            runs = []
            for number in range(1, plan.runs_per_subtest + 1):
                run_id = f"{tier}/{subtest}/run_{number:02d}"
                started = _STARTED + ordinal * _RUN_EVERY
                ordinal += 1
                if missing is not None and missing(run_id):
                    continue
                result, run_ended = _write_run(f"{path}/run_{number:02d}", plan, run_id, started, dump)
                runs.append(result)
                subtest_ended = max(subtest_ended, run_ended)
                word = "passed" if result["judge_passed"] else "failed"
                completed.setdefault(tier, {}).setdefault(subtest, {})[str(number)] = word
            if runs:
                results[subtest] = subtest_result(tier, subtest, runs)
                tier_ended = max(tier_ended, subtest_ended)
                _write_subtest(path, plan, results[subtest], subtest_ended + timedelta(microseconds=2719), dump)
        if results:
            selection = best_subtest(results)
            duration = (tier_ended - tier_begun).total_seconds()
            tier_results[tier] = tier_result(tier, results, selection, duration)
            _write_tier(tier_path, plan, tier_results[tier], selection, tier_ended + timedelta(microseconds=5303), dump)
            for item in results.values():
                for run in item["runs"]:
                    dump.forget(run)
            ended = max(ended, tier_ended)

    ended += timedelta(seconds=1.011)
    if tier_results:
        totals = experiment_result(config, tier_results, begun, ended)
        _write_totals(top, plan, totals, ended + timedelta(microseconds=640), dump)
    state = checkpoint(
        plan,
        completed,
        started_at=begun.isoformat(),
        last_updated_at=(ended + timedelta(microseconds=911)).isoformat(),
    )
    _write(f"{top}/checkpoint.json", dump.text(state))


# ---------------------------------------------------------------------------------------------------------
# Command line


def _plan_of(scale: str) -> Plan:
    if scale == "full":
        return FULL_SCALE
    if scale == "small":
        return small()
    subtests, _, runs = scale.partition("x")
    if not (subtests.isdecimal() and runs.isdecimal() and 1 <= int(subtests) <= 1000 and int(runs) >= 1):
        raise argparse.ArgumentTypeError(f"{scale!r} is none of full, small and NxRUNS such as 20x5 (N at most 1000)")
    tiers = {"T0": _numbered(int(subtests), first=0)}
    return small(tiers=tiers, runs_per_subtest=int(runs), experiment_id=f"synthetic-{scale}")


def main(argv: Sequence[str] | None = None) -> int:
    """Write an experiment as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthetic", description="Write a synthetic experiment.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write it: a new or empty directory")
    parser.add_argument(
        "--scale",
        type=_plan_of,
        default="full",
        dest="plan",
        metavar="full|small|NxRUNS",
        help="1,130 runs, 6 runs, or N subtests of one tier with RUNS runs each (default: full)",
    )
    parser.add_argument("--runs", type=int, metavar="N", help="runs per subtest, whatever the scale says")
    parser.add_argument("--missing-half", action="store_true", help="leave out every second run of each subtest")
    options = parser.parse_args(argv)
    plan: Plan = options.plan
    if options.runs is not None:
        if options.runs < 1:
            parser.error("--runs must be at least 1")
        plan = replace(plan, runs_per_subtest=options.runs)
    root: Path = options.directory
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        parser.error(f"{root} is there already and not an empty directory")

    def is_even(run_id: str) -> bool:
        return int(run_id.rpartition("_")[2]) % 2 == 0

    missing = is_even if options.missing_half else None
    begun = time.perf_counter()
    write_experiment(root, plan, missing=missing)
    written = sum(1 for run_id in run_ids(plan) if missing is None or not missing(run_id))
    print(
        f"{written} runs, {written * len(plan.judge_models)} judge slots in {time.perf_counter() - begun:.1f} s: {root}"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
