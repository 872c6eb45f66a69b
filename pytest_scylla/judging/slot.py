"""Judging one slot: ask until there is a verdict, or it was asked often enough, and write what comes of it.

Everything happens under the run's lock, on what is read under it: of two sessions that want the same slot judged, the
second finds it done. A failure for a reason of the place (no command, no login, a limit, the network, money) changes
nothing of the slot. One for a reason of the slot (no verdict in the answer, a timeout, a prompt too long) is an
attempt, and attempts are counted over all sessions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from hashlib import sha256
from pathlib import Path

from ..auditing.derived import exit_codes
from ..auditing.evidence import Policy, SlotEvidence
from ..auditing.run import RunAudit, examine
from ..auditing.slot import SlotAudit
from ..auditing.status import Case
from ..calling.calls import Called, Calls, NotGranted, Waiting
from ..calling.failures import CallFailed
from ..experiment.attempts import Attempt, keep_attempt, kept_reply
from ..experiment.expected import Experiment
from ..experiment.keeping import Keeping
from ..experiment.layout import SlotId
from ..experiment.records import has_directory, open_experiment
from ..experiment.wording import printable
from ..experiment.writing import CannotWrite
from ..repair.actions import NOT_RUN, Action, Ending
from ..repair.plan import Admits, Given, make_plan
from ..repair.request import Regenerate, written_like
from ..repair.transaction import carry_out, run_locked
from .answer import (
    Answer,
    Unusable,
    failed_timing,
    fallback_record,
    read_answer,
    reminder,
    response_bytes,
    slot_files,
)
from .contract import JudgeReply, JudgeRequest
from .terms import JudgeTerms

JUDGE_CALL = "judge call"


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a slot: the run as it stands, and what was done; nothing where another process had judged it.

    First of ``actions`` is the call, behind it is what follows from the answer. ``not_run``: nobody was asked, or not
    often enough, for a reason that passes.
    """

    case: Case
    audit: RunAudit
    actions: tuple[Action, ...]
    not_run: bool = False


class SlotJudging:
    """The judging of one slot in one session: what was asked so far, and what it cost.

    ``regenerate`` rebuilds what follows from an answer.
    """

    def __init__(
        self,
        experiment: Experiment,
        slot: SlotId,
        policy: Policy,
        terms: JudgeTerms,
        regenerate: Regenerate,
        admits: Admits,
    ) -> None:
        self._experiment = experiment
        self._slot = slot
        self._policy = policy
        self._terms = terms
        self.regenerate = regenerate
        self._admits = admits
        self._allowed: int | None = None
        self._calls = Calls(terms, str(slot))

    def proceed(self, *, wait: bool = True) -> Judged | Waiting:
        """Judge the slot, as far as that goes now.

        :param wait: wait for another process that is at work on the run.
        :raises Held: there is one, and it was not to wait.
        :raises ExperimentGone: the experiment itself can no longer be opened.
        """
        try:
            with run_locked(self._experiment, self._slot.run, wait=wait) as keeping:
                return self._judge(keeping)
        except CannotWrite as error:
            case, audit = examine(self._experiment, self._slot.run, self._policy)
            return self._unchanged(case, audit, "failed", printable(str(error)))

    def give_up(self, reason: str) -> Judged:
        """Leave the slot as it is, since what it waits for takes too long.

        :raises ExperimentGone: the experiment itself can no longer be opened.
        """
        case, audit = examine(self._experiment, self._slot.run, self._policy)
        return self._not_run(case, audit, reason)

    def _judge(self, keeping: Keeping) -> Judged | Waiting:
        case, audit = examine(self._experiment, self._slot.run, self._policy)
        evidence, slot = _own(self._slot, case, audit)
        if slot.status not in ("missing", "failed"):
            return Judged(case, audit, ())
        prompt = case.evidence.judge_prompt
        if not prompt.data.strip():
            return self._unchanged(case, audit, "refused", f"{prompt.file} is lost (evidence-gone)")
        terms, model = self._terms, evidence.model
        at_hand = files_at_hand(self._experiment, self._slot, case, self._policy, terms)
        if at_hand is not None:
            return self._write(keeping, case, audit, at_hand.files, "done", at_hand.reason)
        attempts = list(evidence.attempts_with(prompt))
        failed = [attempt for attempt in attempts if attempt.counts]
        if self._allowed is None:
            again = len(failed) if terms.retry and len(failed) >= terms.attempts else 0
            self._allowed = again + terms.attempts
        while len(failed) < self._allowed:
            if reason := terms.stopped(model):
                return self._unchanged(case, audit, "refused", reason)
            started = time.monotonic()
            request = self._request(case, evidence, attempts)
            try:
                called = self._calls.make(keeping, model, request.attempt, partial(self._ask, request))
            except NotGranted as refused:
                return self._not_run(case, audit, str(refused))
            except CallFailed as failure:
                if failure.of_the_place:
                    terms.note(model, failure)
                    return self._unchanged(case, audit, "failed", printable(str(failure)))
                attempt = self._keep(keeping, evidence, prompt.data, started, failure=failure)
                failed.append(attempt)
                break  # the same call would fail in the same way
            if isinstance(called, Waiting):
                return called
            terms.note_answer(model)
            reply, answer = called
            if isinstance(answer, Unusable):
                attempt = self._keep(keeping, evidence, prompt.data, started, reply=reply, unusable=str(answer))
                attempts.append(attempt)
                failed.append(attempt)
                continue
            attempt = self._keep(keeping, evidence, prompt.data, started, reply=reply)
            return self._store(keeping, case, audit, reply, answer, attempt)
        return self._without_verdict(keeping, case, audit, failed)

    # Asking

    def _request(self, case: Case, evidence: SlotEvidence, attempts: list[Attempt]) -> JudgeRequest:
        prompt = case.evidence.judge_prompt
        asked = prompt.data
        if attempts and attempts[-1].unusable is not None:
            asked += reminder(attempts[-1].unusable)
        return JudgeRequest(
            slot_id=str(self._slot),
            model=evidence.model,
            prompt=asked,
            prompt_file=self._experiment.root / prompt.file,
            workspace=self._workspace(case),
            timeout=self._terms.timeout,
            attempt=len(attempts) + 1,
        )

    def _workspace(self, case: Case) -> Path | None:
        place = f"{case.evidence.folder.file}/workspace"
        with open_experiment(self._experiment.root) as root:
            return self._experiment.root / place if has_directory(root, place) else None

    def _ask(self, request: JudgeRequest) -> Called[tuple[JudgeReply, Answer | Unusable]]:
        assert self._terms.judge is not None
        reply = self._terms.judge(request)
        try:
            return Called((reply, read_answer(reply.text)), reply.cost_usd, reply.usage)
        except Unusable as unusable:
            return Called((reply, unusable), reply.cost_usd, reply.usage, str(unusable))

    def _keep(
        self,
        keeping: Keeping,
        evidence: SlotEvidence,
        prompt: bytes,
        started: float,
        *,
        reply: JudgeReply | None = None,
        unusable: str | None = None,
        failure: CallFailed | None = None,
    ) -> Attempt:
        """Keep an attempt before anything else is done with it."""
        ended = datetime.now(timezone.utc)
        if reply is not None:
            text, stdout, stderr, cost = reply.text, reply.stdout, reply.stderr, reply.cost_usd
        else:
            assert failure is not None
            text, stdout, stderr, cost = "", failure.stdout, failure.stderr, failure.cost_usd
        response = response_bytes(text)
        return keep_attempt(
            keeping,
            self._slot,
            model=evidence.model,
            prompt_sha256=_digest(prompt),
            ended_at=ended,
            seconds=round(time.monotonic() - started, 3),
            cost_usd=cost,
            failure=None if failure is None else str(failure),
            unusable=unusable,
            response=response,
            stdout=response if stdout is None else stdout,
            stderr=stderr,
        )

    # Writing

    def _store(
        self, keeping: Keeping, case: Case, audit: RunAudit, reply: JudgeReply, answer: Answer, attempt: Attempt
    ) -> Judged:
        return self._write(keeping, case, audit, _files_of(case, reply, answer, attempt), "done")

    def _without_verdict(self, keeping: Keeping, case: Case, audit: RunAudit, failed: list[Attempt]) -> Judged:
        """Leave the slot without a judgment, with the reason; or give it the fallback's, where that is wanted."""
        if fallback := _fallback(case, failed, self._policy, self._terms):
            return self._write(keeping, case, audit, fallback.files, "done", fallback.reason)
        reason, last = _reason(failed), failed[-1]
        if _is_for_a_fallback(failed, self._policy, self._terms):
            reason += "; no fallback, for the agent's own reply does not say that it succeeded"
        if not self._calls.made:
            return self._unchanged(case, audit, "refused", f"exhausted: {reason}; --repair-retry asks again")
        files = {"timing.json": written_like(case.evidence)(failed_timing(last.seconds, last.ended_at))}
        return self._write(keeping, case, audit, files, "failed", reason)

    def _write(
        self,
        keeping: Keeping,
        case: Case,
        audit: RunAudit,
        files: Mapping[str, bytes],
        ending: Ending,
        reason: str | None = None,
    ) -> Judged:
        """Write files of the slot, and what follows from them."""
        prompt, name = case.evidence.judge_prompt.file, self._slot.name
        given = Given(name, of_slot(name, files), f"judge/{name}/judgment.json", "judges", (prompt,))
        plan = make_plan(self._experiment, case, audit, self.regenerate, self._admits, given)
        repaired = carry_out(self._experiment, self._slot.run, self._policy, plan, keeping)
        written = [action for action in repaired.actions.get(name, ()) if action.level == "judges"]
        follows = [action for done in repaired.actions.values() for action in done if action.level != "judges"]
        slot = _own(self._slot, repaired.case, repaired.audit)[1]
        if broken := [action for action in written if action.outcome == "failed"]:
            ending, reason = "failed", broken[0].reason
        elif ending == "done" and not slot.complete:
            ending, reason = "failed", f"audited again, it still has {slot.findings[0]}"
        action = replace(
            self._action(ending, reason),
            files=tuple(file for action in written for file in action.files),
            solved=tuple(code for action in written for code in action.solved) if ending == "done" else (),
            sources=(prompt,),
        )
        return Judged(repaired.case, repaired.audit, (action, *(done for done in follows if done.outcome != "refused")))

    def _unchanged(self, case: Case, audit: RunAudit, ending: Ending, reason: str, *, not_run: bool = False) -> Judged:
        """Leave the slot as it is."""
        action = self._action("failed" if self._calls.made and not not_run else ending, reason)
        return Judged(case, audit, (action,), not_run)

    def _action(self, ending: Ending, reason: str | None) -> Action:
        """The calls so far, as one action."""
        return Action(
            "judges",
            JUDGE_CALL,
            ending,
            reason=reason,
            calls=self._calls.made,
            cost_usd=self._calls.cost_usd,
            seconds=round(self._calls.seconds, 3),
        )

    def _not_run(self, case: Case, audit: RunAudit, reason: str) -> Judged:
        return self._unchanged(case, audit, "refused", f"{NOT_RUN}{reason}", not_run=True)


@dataclass(frozen=True, slots=True)
class AtHand:
    """Files of a slot that take no call, in the order in which to write them, by their names in it.

    ``reason`` says why, where they are not those of an answer.
    """

    files: Mapping[str, bytes]
    reason: str | None = None


def files_at_hand(experiment: Experiment, slot: SlotId, case: Case, policy: Policy, terms: JudgeTerms) -> AtHand | None:
    """What a slot that lacks a judgment is given without a call: an answer that was kept, or a fallback.

    :param case: what its run holds.
    """
    evidence, prompt = case.evidence.slots[slot.number - 1], case.evidence.judge_prompt
    attempts = evidence.attempts_with(prompt)
    answered = [attempt for attempt in attempts if not attempt.counts]
    if answered and not evidence.disowned and (kept := _kept_answer(experiment, slot, answered[-1])):
        return AtHand(_files_of(case, *kept, answered[-1]))
    failed = [attempt for attempt in attempts if attempt.counts]
    return None if terms.retry else _fallback(case, failed, policy, terms)


def _kept_answer(experiment: Experiment, slot: SlotId, attempt: Attempt) -> tuple[JudgeReply, Answer] | None:
    """An answer that was given before: whoever asked for it was killed, or the slot was lost again."""
    with open_experiment(experiment.root) as root:
        kept = kept_reply(root, slot, attempt)
    if kept is None:
        return None
    response, stdout, stderr = kept
    reply = JudgeReply(response.decode("utf-8", "replace"), attempt.cost_usd, None, stdout, stderr)
    try:
        return reply, read_answer(reply.text)
    except Unusable:
        return None


def _files_of(case: Case, reply: JudgeReply, answer: Answer, attempt: Attempt) -> dict[str, bytes]:
    return slot_files(
        reply,
        answer,
        model=attempt.model,
        seconds=attempt.seconds,
        ended_at=attempt.ended_at,
        write=written_like(case.evidence),
    )


def _fallback(case: Case, failed: Sequence[Attempt], policy: Policy, terms: JudgeTerms) -> AtHand | None:
    if not (_is_for_a_fallback(failed, policy, terms) and _agent_succeeded(case)):
        return None
    write, last, reason = written_like(case.evidence), failed[-1], _reason(failed)
    files = {
        "timing.json": write(failed_timing(last.seconds, last.ended_at, fallback=True)),
        "judgment.json": write(fallback_record(reason)),
    }
    return AtHand(files, f"fallback: {reason}")


def _is_for_a_fallback(failed: Sequence[Attempt], policy: Policy, terms: JudgeTerms) -> bool:
    return terms.fallback and policy.fallback == "warn" and len(failed) >= terms.attempts


def _reason(failed: Sequence[Attempt]) -> str:
    count = len(failed)
    return f"no verdict in {count} attempt{'s' * (count != 1)}; the last: {failed[-1].reason}"


def of_slot(slot: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files of a slot ("judge_01") under their names in the run."""
    return {f"judge/{slot}/{name}": data for name, data in files.items()}


def _own(slot: SlotId, case: Case, audit: RunAudit) -> tuple[SlotEvidence, SlotAudit]:
    return case.evidence.slots[slot.number - 1], audit.slots[slot.number - 1]


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def _agent_succeeded(case: Case) -> bool:
    """Whether the agent's own reply says so: it exited with 0 and is no error."""
    reply = case.output.reply
    codes = set(exit_codes(case.evidence).values())
    return reply is not None and reply.record.get("is_error") is False and codes == {0}
