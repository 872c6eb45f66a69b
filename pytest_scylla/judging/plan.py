"""The plan of judge calls: what each would write, as far as that is known before there is an answer.

As with a free repair, a plan is made by doing it on what was read, here with an answer that is made up and forgotten:
which files follow from an answer does not depend on what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone

from ..auditing.evidence import Policy
from ..auditing.run import RunAudit
from ..auditing.status import Case
from ..calling.estimates import Estimate
from ..experiment.expected import Experiment
from ..repair.actions import Action
from ..repair.plan import Admits, Given, make_plan
from ..repair.request import Regenerate, written_like
from .answer import read_answer, slot_files
from .contract import JudgeReply
from .slot import JUDGE_CALL, files_at_hand, of_slot
from .terms import JudgeTerms

_ANY_ANSWER = '{"score": 0.5, "passed": true, "reasoning": "not yet known"}'


def planned_calls(
    experiment: Experiment,
    case: Case,
    audit: RunAudit,
    slots: Iterable[str],
    policy: Policy,
    terms: JudgeTerms,
    regenerate: Regenerate,
    admits: Admits,
) -> dict[str, tuple[Action, ...]]:
    """The actions for each of ``slots`` ("judge_01", ..) that is judged in this order: the call, and what follows.

    What a slot is given without a call stands in the place of one; of a slot that nobody is to ask about any more there
    is nothing.

    :param case: what the run holds once its free repair is done, and ``audit`` what is made of that.
    """
    found: dict[str, tuple[Action, ...]] = {}
    exhausted = {slot.slot.name for slot in audit.slots if any(fault.code == "exhausted" for fault in slot.findings)}
    for name in slots:
        slot = next(slot for slot in case.evidence.slots if slot.slot.name == name)
        at_hand = files_at_hand(experiment, slot.slot, case, policy, terms)
        if at_hand is None and name in exhausted and not terms.retry:
            continue
        files = _files_of_any_answer(case, slot.model) if at_hand is None else at_hand.files
        prompt = case.evidence.judge_prompt.file
        plan = make_plan(
            experiment,
            case,
            audit,
            regenerate,
            admits,
            Given(name, of_slot(name, files), f"judge/{name}/judgment.json", "judges", (prompt,)),
        )
        estimate = terms.estimate(experiment.root, slot.model) if at_hand is None else Estimate(0.0, 0.0)
        written = [step for step in plan.steps if step.level == "judges"]
        call = Action(
            "judges",
            JUDGE_CALL,
            "planned",
            files=tuple(step.file for step in written),
            solved=tuple(code for step in written for code in step.solves),
            sources=(prompt,),
            reason=None if at_hand is None else at_hand.reason,
            calls=int(at_hand is None),
            cost_usd=estimate.cost_usd,
            seconds=estimate.seconds,
        )
        follows = [
            Action(step.level, step.name, "planned", (step.file,), step.solves, tuple(s.file for s in step.sources))
            for step in plan.steps
            if step.level != "judges"
        ]
        found[name] = (call, *follows)
        assert plan.case is not None
        case, audit = plan.case, plan.audit
    return found


def _files_of_any_answer(case: Case, model: str) -> Mapping[str, bytes]:
    return slot_files(
        JudgeReply(_ANY_ANSWER),
        read_answer(_ANY_ANSWER),
        model=model,
        seconds=0.0,
        ended_at=datetime.now(timezone.utc),
        write=written_like(case.evidence),
    )
