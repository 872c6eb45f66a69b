"""pytest-scylla: audit and repair LLM-agent experiments.

The library's face, without pytest::

    import pytest_scylla

    experiment = pytest_scylla.load("experiments/2026-01-20-test-001")
    for audit in pytest_scylla.audit(experiment):
        if audit.status != "completed":
            print(audit.run, audit.status, *audit.findings, sep="\\n  ")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .auditing.evidence import Policy
    from .auditing.findings import CODES, RUN_STATUSES, SLOT_STATUSES, Finding
    from .auditing.run import RunAudit, audit_run
    from .auditing.run import audit_all as audit
    from .auditing.slot import SlotAudit
    from .experiment.errors import ExperimentError
    from .experiment.expected import Experiment, find_experiments
    from .experiment.expected import load_experiment as load
    from .experiment.layout import RunId, SlotId
    from .judging.contract import (
        Judge,
        JudgeLimit,
        JudgePermanent,
        JudgeReply,
        JudgeRequest,
        JudgeTimeout,
        JudgeTransient,
    )
    from .repair.request import CannotRegenerate, Regenerate, Regenerated, RegenerateRequest
    from .running.contract import (
        Agent,
        AgentLimit,
        AgentPermanent,
        AgentReply,
        AgentRequest,
        AgentTimeout,
        AgentTransient,
        CannotPrepare,
        MakeWorkspace,
        Workspace,
        WorkspaceRequest,
    )

__all__ = [
    "CODES",
    "RUN_STATUSES",
    "SLOT_STATUSES",
    "Agent",
    "AgentLimit",
    "AgentPermanent",
    "AgentReply",
    "AgentRequest",
    "AgentTimeout",
    "AgentTransient",
    "CannotPrepare",
    "CannotRegenerate",
    "Experiment",
    "ExperimentError",
    "Finding",
    "Judge",
    "JudgeLimit",
    "JudgePermanent",
    "JudgeReply",
    "JudgeRequest",
    "JudgeTimeout",
    "JudgeTransient",
    "MakeWorkspace",
    "Policy",
    "Regenerate",
    "RegenerateRequest",
    "Regenerated",
    "RunAudit",
    "RunId",
    "SlotAudit",
    "SlotId",
    "Workspace",
    "WorkspaceRequest",
    "audit",
    "audit_run",
    "find_experiments",
    "load",
]

# Imported when first asked for: pytest imports this package in every session, also in those without an experiment.
_ORIGIN = {
    "CODES": ("auditing.findings", "CODES"),
    "RUN_STATUSES": ("auditing.findings", "RUN_STATUSES"),
    "SLOT_STATUSES": ("auditing.findings", "SLOT_STATUSES"),
    "Experiment": ("experiment.expected", "Experiment"),
    "ExperimentError": ("experiment.errors", "ExperimentError"),
    "Finding": ("auditing.findings", "Finding"),
    "Policy": ("auditing.evidence", "Policy"),
    "CannotRegenerate": ("repair.request", "CannotRegenerate"),
    "Regenerate": ("repair.request", "Regenerate"),
    "RegenerateRequest": ("repair.request", "RegenerateRequest"),
    "Regenerated": ("repair.request", "Regenerated"),
    "RunAudit": ("auditing.run", "RunAudit"),
    "RunId": ("experiment.layout", "RunId"),
    "SlotAudit": ("auditing.slot", "SlotAudit"),
    "SlotId": ("experiment.layout", "SlotId"),
    "audit": ("auditing.run", "audit_all"),
    "audit_run": ("auditing.run", "audit_run"),
    "find_experiments": ("experiment.expected", "find_experiments"),
    "load": ("experiment.expected", "load_experiment"),
    "Agent": ("running.contract", "Agent"),
    "AgentLimit": ("running.contract", "AgentLimit"),
    "AgentPermanent": ("running.contract", "AgentPermanent"),
    "AgentReply": ("running.contract", "AgentReply"),
    "AgentRequest": ("running.contract", "AgentRequest"),
    "AgentTimeout": ("running.contract", "AgentTimeout"),
    "AgentTransient": ("running.contract", "AgentTransient"),
    "CannotPrepare": ("running.contract", "CannotPrepare"),
    "Judge": ("judging.contract", "Judge"),
    "JudgeLimit": ("judging.contract", "JudgeLimit"),
    "JudgePermanent": ("judging.contract", "JudgePermanent"),
    "JudgeReply": ("judging.contract", "JudgeReply"),
    "JudgeRequest": ("judging.contract", "JudgeRequest"),
    "JudgeTimeout": ("judging.contract", "JudgeTimeout"),
    "JudgeTransient": ("judging.contract", "JudgeTransient"),
    "MakeWorkspace": ("running.contract", "MakeWorkspace"),
    "Workspace": ("running.contract", "Workspace"),
    "WorkspaceRequest": ("running.contract", "WorkspaceRequest"),
}


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _ORIGIN[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
