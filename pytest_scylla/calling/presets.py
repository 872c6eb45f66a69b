"""The command lines that can judge: how each is called, what of the environment it gets, how its output is read.

The workspace is the tested agent's. Its settings, hooks, servers, plugins, skills and instruction files must not act on
whoever judges it. So no command works in there, and a workspace is handed over, to be read, only to a command that can
be told to load nothing from it and to read no other place.

- ``claude`` reads the workspace. It takes version 2.1.0 (January 2026) or newer; newer ones close more doors: safe mode
  came with 2.1.169, restricted mode with 2.1.248, no reading elsewhere with 2.1.257. An older version does not know
  these variables and settings, and passes them over; there, what holds is that no settings are loaded and that no tool
  but three that read is offered. The user's own settings are not loaded either, so what they set of the service
  (``env``, ``apiKeyHelper``) is to come from the environment.
- ``codex`` gets no workspace: it reads by running commands, which may read the whole disk, its own login included. It
  takes a version that knows ``--ignore-user-config`` (since the end of April 2026). The user's own providers are not
  loaded either.
- ``gemini`` gets no workspace: it would obey every GEMINI.md in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from .replies import Output


@dataclass(frozen=True, slots=True)
class Preset:
    """How a command line is asked to judge; a template, apart from its first word.

    Its words are ``arguments`` and then, where a workspace is handed over, ``with_workspace``, else
    ``without_workspace``; ``with_workspace`` is ``None`` where it never gets one. ``environment`` is set for it,
    ``files`` are written for it (texts by name), and ``needs`` names variables of the user's environment, perhaps by
    patterns, that it gets beside the usual ones.

    A template may hold ``{model}``, ``{system_prompt}`` and ``{workspace}``, and each also as a JSON text, such as
    ``{workspace:json}``; a preset of the plugin's own also ``{files}``, the directory of its files. What else stands in
    braces is text.
    """

    name: str
    output: Output
    arguments: tuple[str, ...]
    without_workspace: tuple[str, ...] = ()
    with_workspace: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def takes_workspace(self) -> bool:
        """Whether a workspace can be handed over to it."""
        return self.with_workspace is not None


class UnfitModel(ValueError):
    """A model has a name that no command line can be given; ``str()`` says why, in one line."""


_CLAUDE_SETTINGS = (
    '--settings={"verbose":false,"disableAllHooks":true,"permissions":{"blockReadsOutsideWorkingDirectories":true%s}}'
)

CLAUDE = Preset(
    name="claude",
    output="claude-json",
    # Every value is in one word with its option: several of these would take the words behind them for further values.
    arguments=(
        "claude",
        "-p",
        "--output-format=json",
        "--model={model}",
        "--system-prompt={system_prompt}",
        "--permission-mode=dontAsk",
        "--setting-sources=",
        "--strict-mcp-config",
        '--mcp-config={"mcpServers":{}}',
        "--disallowedTools=mcp__*",
        "--disable-slash-commands",
    ),
    without_workspace=("--tools=", _CLAUDE_SETTINGS % ""),
    # Not --add-dir, which would look into the directory for skills, commands, agents and plugins.
    with_workspace=("--tools=Read,Grep,Glob", _CLAUDE_SETTINGS % ',"additionalDirectories":[{workspace:json}]'),
    environment={
        "CLAUDE_CODE_SAFE_MODE": "1",
        "CLAUDE_CODE_RESTRICTED": "1",
        "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_SKIP_PROMPT_HISTORY": "1",
        "ENABLE_CLAUDEAI_MCP_SERVERS": "false",
        "NO_COLOR": "1",
    },
    needs=(
        "ANTHROPIC_*",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_*",
        "CLAUDE_CODE_SKIP_*_AUTH",
        "CLAUDE_CODE_CERT_STORE",
        "CLAUDE_CODE_CLIENT_*",
        "CLAUDE_CODE_MAX_RETRIES",
        "API_TIMEOUT_MS",
        "AWS_*",
        "CLOUD_ML_REGION",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
)

CODEX = Preset(
    name="codex",
    output="codex-jsonl",
    arguments=(
        "codex",
        "exec",
        "--json",
        "--ephemeral",
        "--skip-git-repo-check",
        "--ignore-user-config",
        "--ignore-rules",
        "--sandbox=read-only",
        "--color=never",
        "--model={model}",
        "-c",
        "developer_instructions={system_prompt:json}",
        "-c",
        "project_doc_max_bytes=0",
        "-c",
        'web_search="disabled"',
        "-c",
        "features.hooks=false",
        "-c",
        "features.plugins=false",
        "-c",
        "features.apps=false",
        "-c",
        "features.memories=false",
        "-c",
        "features.multi_agent=false",
        "-c",
        "features.shell_tool=false",
        "-c",
        "features.unified_exec=false",
        "-c",
        "features.view_image=false",
        "-c",
        "skills.include_instructions=false",
        "-c",
        "skills.bundled.enabled=false",
        "-c",
        'shell_environment_policy.inherit="none"',
        "-c",
        'history.persistence="none"',
        "-c",
        "check_for_update_on_startup=false",
        "-",
    ),
    environment={"NO_COLOR": "1"},
    needs=(
        "CODEX_HOME",
        "CODEX_SQLITE_HOME",
        "CODEX_API_KEY",
        "CODEX_ACCESS_TOKEN",
        "CODEX_CA_CERTIFICATE",
        "OPENAI_*",
    ),
)

GEMINI = Preset(
    name="gemini",
    output="gemini-json",
    arguments=(
        "gemini",
        "--output-format=json",
        "--model={model}",
        "--approval-mode=default",
        "--extensions=none",
        # An empty list of servers would allow all; a name that none has allows none.
        "--allowed-mcp-server-names=none-allowed",
    ),
    environment={
        # Even an empty directory has to be trusted.
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_SYSTEM_MD": "{files}/system-prompt.md",
        "GEMINI_CLI_SYSTEM_SETTINGS_PATH": "{files}/settings.json",
        "NO_COLOR": "1",
    },
    needs=("GEMINI_API_KEY", "GEMINI_CLI_HOME", "GOOGLE_*", "CODE_ASSIST_ENDPOINT"),
    files={
        "system-prompt.md": "{system_prompt}",
        # The file's name is one that no directory above the working directory holds.
        "settings.json": (
            '{"tools":{"core":[]},"hooksConfig":{"enabled":false},"skills":{"enabled":false},'
            '"context":{"fileName":"no-such-file-7f3a.md","includeDirectoryTree":false},'
            '"advanced":{"ignoreLocalEnv":true}}'
        ),
    },
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (CLAUDE, CODEX, GEMINI)}
"""The plugin's own presets by name."""

_USUAL = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ",
    "TMPDIR",
    "XDG_*",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
"""What any command gets of the user's environment."""

_PROXIES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
)
"""What a command gets beside that asks a service. There may be a password in it."""

_PLACEHOLDER = re.compile(r"\{(\w+)(:json)?\}")


def own_command(template: Iterable[str]) -> Preset:
    """The preset of a command line of the user's own, whose words are ``template``.

    It gets a workspace if one of its words names ``{workspace}``; where there is no workspace, such words are left out.
    What it prints is its answer, or a claude-like JSON object with its answer. It gets nothing of the environment that
    is not asked for by name.

    :raises ValueError: the template is empty.
    """
    command, *rest = template
    without = tuple(word for word in rest if not any(name == "workspace" for name, _ in _PLACEHOLDER.findall(word)))
    return Preset(
        name=os.path.basename(command),
        output="text",
        arguments=(command,),
        without_workspace=without,
        with_workspace=tuple(rest) if len(without) < len(rest) else None,
    )


def argv(preset: Preset, *, model: str, system_prompt: str, workspace: Path | None, files: str = "") -> tuple[str, ...]:
    """The words of one call, the first of them the command as the preset names it.

    A value goes into the words that name it, as it is: it never becomes a further word, or an option, and what stands
    in braces in it stays text.

    :param workspace: an absolute path; ``None`` where the agent's workspace is gone, or not to be handed over.
    :param files: the directory that the preset's files are in.
    :raises UnfitModel: the model has a name that no command line can be given.
    """
    if not model.strip():
        raise UnfitModel("expected the name of a model, found an empty one")
    if not model.isprintable():
        raise UnfitModel("expected the name of a model, found one with characters that cannot be printed")
    if model.startswith("-"):
        raise UnfitModel("expected the name of a model, found one that would be an option")
    values = {"model": model, "system_prompt": system_prompt}
    if preset.files:
        values["files"] = files
    further = preset.without_workspace
    if preset.with_workspace is not None and workspace is not None:
        values["workspace"] = os.fspath(workspace)
        further = preset.with_workspace
    command, *rest = (*preset.arguments, *further)
    return (command, *(filled(word, values) for word in rest))


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with its placeholders' values; each is put in once, and what is no placeholder stays as it is."""

    def value(found: re.Match[str]) -> str:
        text = values.get(found[1])
        if text is None:
            return found[0]
        # TOML reads the same text but for the one control character that JSON leaves as it is.
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") if found[2] else text

    return _PLACEHOLDER.sub(value, template)


def reduced(environ: Mapping[str, str], preset: Preset, extra: Iterable[str] = ()) -> dict[str, str]:
    """What a command gets of the environment ``environ``: the usual, what its preset needs, and ``extra``.

    ``extra`` are names, or patterns of them. What the preset sets is not in it.
    """
    return _matching(environ, (*_USUAL, *_PROXIES, *preset.needs, *extra))


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """What a command that runs what an agent wrote gets of the environment ``environ``."""
    return _matching(environ, _USUAL)


def _matching(environ: Mapping[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """The variables whose names are ``wanted``, or match a pattern that is."""
    patterns = tuple(wanted)
    return {name: value for name, value in environ.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
