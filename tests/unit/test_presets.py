"""The command lines that can judge: which words each is called with, and what of the environment it gets."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_scylla.calling.presets import (
    CLAUDE,
    CODEX,
    GEMINI,
    PRESETS,
    Preset,
    UnfitModel,
    argv,
    filled,
    own_command,
    reduced,
    without_secrets,
)
from pytest_scylla.options import COMMAND_LINES

WORKSPACE = Path('/exp/T0/00/run_01/work "space"')
TEXT = 'Judge.\nSay "why", \\ and {workspace}.'


def words(preset: Preset, model: str = "m-1", workspace: Path | None = WORKSPACE) -> tuple[str, ...]:
    return argv(preset, model=model, system_prompt=TEXT, workspace=workspace, files="/files")


def settings_of(command: tuple[str, ...]) -> dict[str, object]:
    """What the one word of claude's settings says."""
    (text,) = [word.removeprefix("--settings=") for word in command if word.startswith("--settings=")]
    settings: dict[str, object] = json.loads(text)
    return settings


# ------------------------------------------------------------------------------------------------------------- presets


def test_there_is_a_preset_for_every_command_line_that_can_be_named() -> None:
    assert tuple(PRESETS) == COMMAND_LINES
    assert all(preset.name == name and preset.arguments[0] == name for name, preset in PRESETS.items())


def test_claude_is_asked_for_one_object_with_nothing_loaded_and_nothing_that_writes() -> None:
    assert words(CLAUDE, workspace=None) == (
        "claude",
        "-p",
        "--output-format=json",
        "--model=m-1",
        f"--system-prompt={TEXT}",
        "--permission-mode=dontAsk",
        "--setting-sources=",
        "--strict-mcp-config",
        '--mcp-config={"mcpServers":{}}',
        "--disallowedTools=mcp__*",
        "--disable-slash-commands",
        "--tools=",
        '--settings={"verbose":false,"disableAllHooks":true,'
        '"permissions":{"blockReadsOutsideWorkingDirectories":true}}',
    )


def test_claude_reads_the_workspace_with_tools_that_only_read_and_loads_nothing_from_it() -> None:
    command = words(CLAUDE)
    assert [word for word in command if word.startswith("--tools")] == ["--tools=Read,Grep,Glob"]
    assert settings_of(command) == {
        "verbose": False,
        "disableAllHooks": True,
        "permissions": {"blockReadsOutsideWorkingDirectories": True, "additionalDirectories": [str(WORKSPACE)]},
    }
    assert not any(word.startswith("--add-dir") for word in command)
    assert CLAUDE.environment["CLAUDE_CODE_SAFE_MODE"] == CLAUDE.environment["CLAUDE_CODE_RESTRICTED"] == "1"


def test_claudes_options_hold_their_values_so_that_none_takes_the_next_word() -> None:
    assert [word for word in words(CLAUDE)[1:] if not word.startswith("-")] == []


def test_codex_gets_the_prompt_on_standard_input_and_no_workspace() -> None:
    command = words(CODEX)
    assert command == words(CODEX, workspace=None)
    assert not any(str(WORKSPACE) in word for word in command)
    assert command[:2] == ("codex", "exec")
    assert command[-1] == "-"
    assert {
        "--json",
        "--ephemeral",
        "--ignore-user-config",
        "--ignore-rules",
        "--sandbox=read-only",
        "--model=m-1",
    } < set(command)
    overrides = dict(word.split("=", 1) for flag, word in pairwise(command) if flag == "-c")
    assert len(overrides) == command.count("-c")
    assert json.loads(overrides["developer_instructions"]) == TEXT
    assert overrides["project_doc_max_bytes"] == "0"
    for feature in ("hooks", "plugins", "apps", "memories", "multi_agent", "shell_tool", "unified_exec", "view_image"):
        assert overrides[f"features.{feature}"] == "false"


def test_gemini_gets_no_workspace_and_its_settings_from_files() -> None:
    assert words(GEMINI) == (
        "gemini",
        "--output-format=json",
        "--model=m-1",
        "--approval-mode=default",
        "--extensions=none",
        "--allowed-mcp-server-names=none-allowed",
    )
    assert not GEMINI.takes_workspace
    assert GEMINI.files["system-prompt.md"] == "{system_prompt}"
    settings = json.loads(GEMINI.files["settings.json"])
    assert settings["tools"] == {"core": []}
    assert settings["hooksConfig"] == {"enabled": False}
    assert settings["advanced"] == {"ignoreLocalEnv": True}
    assert GEMINI.environment["GEMINI_SYSTEM_MD"] == "{files}/system-prompt.md"
    assert GEMINI.environment["GEMINI_CLI_SYSTEM_SETTINGS_PATH"] == "{files}/settings.json"


# ----------------------------------------------------------------------------------------------- a command of one's own


def test_an_own_command_is_called_as_its_template_says() -> None:
    preset = own_command(["/opt/judge", "--model", "{model}", "--say={system_prompt}", "--look={workspace}", "end"])
    assert preset.name == "judge"
    assert preset.output == "text"
    assert preset.takes_workspace
    assert words(preset) == (
        "/opt/judge",
        "--model",
        "m-1",
        f"--say={TEXT}",
        f"--look={WORKSPACE}",
        "end",
    )


def test_without_a_workspace_the_words_that_name_it_are_left_out() -> None:
    preset = own_command(["judge", "--in", "{workspace}", "{workspace:json}", "-m={model}@{workspace}", "{workspaces}"])
    assert words(preset, workspace=None) == ("judge", "--in", "{workspaces}")


def test_an_own_command_that_names_no_workspace_gets_none() -> None:
    preset = own_command(["judge", "{model}"])
    assert not preset.takes_workspace
    assert words(preset) == ("judge", "m-1")


def test_other_braces_are_text() -> None:
    preset = own_command(
        ["judge", "{}", "{other}", "{files}", "{ model }", "{model:yaml}", "{{model}}", '{"a":{"b":1}}']
    )
    assert words(preset)[1:] == ("{}", "{other}", "{files}", "{ model }", "{model:yaml}", "{m-1}", '{"a":{"b":1}}')


def test_no_value_chooses_the_command() -> None:
    assert words(own_command(["{model}", "{model}"])) == ("{model}", "m-1")


def test_an_empty_template_is_refused() -> None:
    with pytest.raises(ValueError, match="values to unpack"):
        own_command([])


# -------------------------------------------------------------------------------------------------------------- values


def test_what_stands_in_a_value_is_not_expanded_again() -> None:
    assert filled("{a} {b}", {"a": "{b}", "b": "{a}"}) == "{b} {a}"
    preset = own_command(["judge", "{model}{system_prompt}"])
    assert words(preset, model="{workspace}{system_prompt}") == ("judge", "{workspace}{system_prompt}" + TEXT)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("\x7f")
def test_a_json_value_is_the_text_itself_to_json_and_to_toml(text: str) -> None:
    written = filled("{a:json}", {"a": text})
    assert json.loads(written) == text
    assert pytest.importorskip("tomllib").loads(f"value = {written}") == {"value": text}


@given(st.text())
def test_a_model_becomes_one_word_or_is_refused(model: str) -> None:
    preset = own_command(["judge", "{model}", "--model={model}"])
    try:
        command = words(preset, model=model)
    except UnfitModel:
        return
    assert command == ("judge", model, f"--model={model}")
    assert model.strip()
    assert model.isprintable()
    assert not model.startswith("-")


@pytest.mark.parametrize(
    "model", ["", " ", "-", "--dangerously-skip-permissions", "a\nb", "a\0", "\x1b[31m", "\ud800", "a\u202eb"]
)
@pytest.mark.parametrize("preset", [*PRESETS.values(), own_command(["judge"])], ids=lambda preset: preset.name)
def test_a_model_that_is_no_name_is_refused_whatever_the_command(preset: Preset, model: str) -> None:
    with pytest.raises(UnfitModel, match="expected the name of a model, found"):
        words(preset, model=model)


@pytest.mark.parametrize(
    "model", ["claude-opus-4-5", "opus[1m]", "org/model:free", "models/x@latest", "{model}", "a b", "é"]
)
def test_other_names_of_models_are_taken_as_they_are(model: str) -> None:
    assert words(own_command(["judge", "{model}"]), model=model) == ("judge", model)


# --------------------------------------------------------------------------------------------------------- environment


ENVIRON = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "USER": "me",
    "LC_ALL": "C",
    "TZ": "UTC",
    "https_proxy": "http://proxy",
    "NO_PROXY": "localhost",
    "SSL_CERT_FILE": "/certs",
    "XDG_CONFIG_HOME": "/home/me/.config",
}
SECRETS = {
    "ANTHROPIC_API_KEY": "a",
    "CLAUDE_CODE_OAUTH_TOKEN": "b",
    "AWS_SECRET_ACCESS_KEY": "c",
    "OPENAI_API_KEY": "d",
    "CODEX_HOME": "e",
    "GEMINI_API_KEY": "f",
    "GOOGLE_CLOUD_PROJECT": "g",
    "GITHUB_TOKEN": "h",
    "PYTEST_CURRENT_TEST": "i",
    "CLAUDECODE": "1",
    "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
    "NODE_OPTIONS": "--require=/tmp/x.js",
    "LD_PRELOAD": "/tmp/x.so",
    "GEMINI_CLI_IDE_SERVER_PORT": "1",
}


@pytest.mark.parametrize(
    ("preset", "needed"),
    [
        (CLAUDE, {"ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "AWS_SECRET_ACCESS_KEY"}),
        (CODEX, {"OPENAI_API_KEY", "CODEX_HOME"}),
        (GEMINI, {"GEMINI_API_KEY", "GOOGLE_CLOUD_PROJECT"}),
        (own_command(["judge"]), set()),
    ],
    ids=lambda value: value.name if isinstance(value, Preset) else "",
)
def test_a_command_gets_the_usual_and_what_its_preset_needs(preset: Preset, needed: set[str]) -> None:
    assert reduced({**ENVIRON, **SECRETS}, preset) == {**ENVIRON, **{name: SECRETS[name] for name in needed}}


def test_what_runs_an_agents_work_gets_no_proxy_either_for_there_may_be_a_password_in_it() -> None:
    proxies = {f"{name}_proxy": "http://me:secret@proxy" for name in ("http", "https", "all")}
    proxies |= {name.upper(): value for name, value in proxies.items()}
    found = without_secrets({**ENVIRON, **SECRETS, **proxies})
    assert found == {name: value for name, value in ENVIRON.items() if "proxy" not in name.lower()}


def test_further_variables_are_given_by_name_or_pattern() -> None:
    environ = {**ENVIRON, **SECRETS}
    found = reduced(environ, own_command(["judge"]), ["GITHUB_TOKEN", "GEMINI_*", "ABSENT", "path"])
    assert found == {
        **ENVIRON,
        **{n: SECRETS[n] for n in ("GITHUB_TOKEN", "GEMINI_API_KEY", "GEMINI_CLI_IDE_SERVER_PORT")},
    }


def test_what_a_preset_sets_is_not_taken_from_the_user() -> None:
    for preset in PRESETS.values():
        assert not set(reduced(dict.fromkeys(preset.environment, "user's"), preset)) & set(preset.environment)
