"""Findings about an experiment itself, beside those about its runs."""

from __future__ import annotations

from ..experiment.expected import Experiment
from .findings import Finding, finding, problem_finding

_EXPECTED = {
    "tier": "expected only the tiers of tiers_to_run, found another",
    "subtest": "expected only defined subtests, found another",
    "run": "expected {runs} runs in a subtest, found another",
}


def audit_experiment(experiment: Experiment) -> tuple[Finding, ...]:
    """What is there beyond the expected, and which sources of subtests were not believed: warnings, all of them."""
    runs = experiment.config.runs_per_subtest
    surplus = [
        finding(f"extra-{extra.kind}", extra.file, _EXPECTED[extra.kind].format(runs=runs))
        for extra in experiment.surplus
    ]
    refused = [problem_finding("subtest-source-refused", source.file, source.problem) for source in experiment.refused]
    return (*surplus, *refused)
