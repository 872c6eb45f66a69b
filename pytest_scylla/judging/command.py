"""The default judge: a command line, run once for each answer."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from ..auditing.verdicts import verdicts_in
from ..calling.failures import CallFailed
from ..calling.presets import PRESETS, Preset, UnfitModel, argv, filled, own_command, reduced
from ..calling.process import Finished, run_command
from ..calling.replies import Failure, read_reply
from ..experiment.wording import printable
from .answer import SYSTEM_PROMPT
from .contract import (
    Judge,
    JudgeLimit,
    JudgePermanent,
    JudgeReply,
    JudgeRequest,
    JudgeTimeout,
    JudgeTransient,
)
from .settings import JudgeSettings

_AT_HAND = """
The agent's workspace is the directory %s: look there, by absolute paths, where that helps.
"""
_NOT_AT_HAND = """
The agent's workspace is not at hand: judge by what the prompt holds.
"""


def command_judge(settings: JudgeSettings, environ: Mapping[str, str] = os.environ) -> Judge:
    """The judge that runs the user's own command, or else the preset that ``settings`` name.

    Its attribute ``command`` is the preset's name, or the name of the user's command without its directory. What it is
    told before the prompt is the user's system prompt or the plugin's, and whether the workspace is at hand. Of
    ``environ`` the command gets what it needs.
    """
    preset = own_command(settings.command) if settings.command else PRESETS[settings.name]
    system_prompt = SYSTEM_PROMPT if settings.system_prompt is None else settings.system_prompt
    return _CommandJudge(preset, system_prompt, reduced(environ, preset, settings.environment))


class _CommandJudge:
    def __init__(self, preset: Preset, system_prompt: str, environment: Mapping[str, str]) -> None:
        self.command = preset.name
        self._preset = preset
        self._system_prompt = system_prompt
        self._environment = environment

    def __call__(self, request: JudgeRequest, /) -> JudgeReply:
        finished = self._run(request)
        reply = read_reply(finished, self._preset.output, datetime.now().astimezone())
        if isinstance(reply, Failure):
            reason = reply.reason if finished.ended == "not-started" else f"{printable(self.command)}: {reply.reason}"
            raise _failed(reply, reason, finished)
        stdout = finished.stdout if _reads_the_same(finished.stdout, reply.text) else None
        return JudgeReply(reply.text, reply.cost_usd, reply.usage, stdout, finished.stderr)

    def _run(self, request: JudgeRequest) -> Finished:
        preset, workspace = self._preset, None
        if request.workspace is not None and preset.takes_workspace:
            # As the command will find it: it compares what it reads with where links lead.
            workspace = request.workspace.resolve()
        where = _NOT_AT_HAND if workspace is None else _AT_HAND % json.dumps(os.fspath(workspace), ensure_ascii=False)
        system_prompt = self._system_prompt + where
        with _files(preset, system_prompt) as files:
            try:
                words = argv(preset, model=request.model, system_prompt=system_prompt, workspace=workspace, files=files)
            except UnfitModel as error:
                raise JudgePermanent(str(error), "model", made=False) from None
            settings = {name: filled(value, {"files": files}) for name, value in preset.environment.items()}
            return run_command(
                words, request.prompt, environment={**self._environment, **settings}, timeout=request.timeout
            )


@contextmanager
def _files(preset: Preset, system_prompt: str) -> Iterator[str]:
    """The directory of the files that a preset needs; "" where it needs none."""
    if not preset.files:
        yield ""
        return
    with ExitStack() as opened:
        try:
            files = opened.enter_context(tempfile.TemporaryDirectory(prefix="scylla-"))
            for name, template in preset.files.items():
                Path(files, name).write_text(filled(template, {"system_prompt": system_prompt}), "utf-8")
        except OSError as error:
            reason = f"{preset.name}: expected room for its files in {tempfile.gettempdir()}: {error.strerror}"
            raise JudgePermanent(printable(reason), "all", made=False) from None
        yield files


def _reads_the_same(stdout: bytes, text: str) -> bool:
    """Whether an audit finds the same verdicts in what the command printed as in its answer."""
    return verdicts_in(stdout.decode("utf-8", "replace")) == verdicts_in(text)


def _failed(failure: Failure, reason: str, finished: Finished) -> CallFailed:
    cost, stdout, stderr = failure.cost_usd, finished.stdout, finished.stderr
    if failure.kind == "limit":
        return JudgeLimit(reason, failure.reset_at, cost_usd=cost, stdout=stdout, stderr=stderr)
    if failure.kind == "transient":
        return JudgeTransient(reason, cost_usd=cost, stdout=stdout, stderr=stderr)
    if failure.kind == "timeout":
        return JudgeTimeout(reason, cost_usd=cost, stdout=stdout, stderr=stderr)
    made = finished.ended != "not-started"
    return JudgePermanent(reason, failure.scope or "slot", made=made, cost_usd=cost, stdout=stdout, stderr=stderr)
