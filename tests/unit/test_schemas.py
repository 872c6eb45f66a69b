"""The shipped schemas: complete, valid themselves, and understood alike by both validators."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_scylla
from benchmarks.synthetic import SECRET, agent_reply, command_log, small, write_experiment
from pytest_scylla.experiment.records import Blob
from pytest_scylla.experiment.schemas import (
    MOST_PROBLEMS,
    Kind,
    as_record,
    is_valid,
    load_schema,
    problems,
    schema_directory,
)
from pytest_scylla.experiment.strict_json import Json
from pytest_scylla.experiment.wording import printable

KINDS: tuple[Kind, ...] = get_args(Kind)
every_kind = pytest.mark.parametrize("kind", KINDS)
Path_ = tuple[str | int, ...]

KIND_OF_FILE: dict[str, Kind] = {
    r"config/experiment\.json": "experiment",
    r"checkpoint\.json": "checkpoint",
    r"result\.json": "experiment-result",
    r"report\.json": "experiment-report",
    r"tier_comparison\.json": "tier-comparison",
    r"T\d+/best_subtest\.json": "tier-best-subtest",
    r"T\d+/result\.json": "tier-result",
    r"T\d+/report\.json": "tier-report",
    r"T\d+/\d\d/config_manifest\.json": "config-manifest",
    r"T\d+/\d\d/report\.json": "subtest-report",
    r"T\d+/\d\d/run_\d\d/run_result\.json": "run-result",
    r"T\d+/\d\d/run_\d\d/report\.json": "run-report",
    r"T\d+/\d\d/run_\d\d/agent/result\.json": "agent-result",
    r"T\d+/\d\d/run_\d\d/agent/timing\.json": "agent-timing",
    r"T\d+/\d\d/run_\d\d/agent/command_log\.json": "command-log",
    r"T\d+/\d\d/run_\d\d/judge/result\.json": "consensus",
    r"T\d+/\d\d/run_\d\d/judge/timing\.json": "judge-timing",
    r"T\d+/\d\d/run_\d\d/judge/judge_\d\d/judgment\.json": "judgment",
    r"T\d+/\d\d/run_\d\d/judge/judge_\d\d/timing\.json": "judge-slot-timing",
}


@cache
def reference(kind: Kind) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(read_schema(kind))


@cache
def fast(kind: Kind) -> Any:
    return jsonschema_rs.validator_for(read_schema(kind))


@cache
def read_schema(kind: Kind) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((schema_directory() / f"{kind}.schema.json").read_text("utf-8"))
    return schema


def examples(kind: Kind) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = copy.deepcopy(read_schema(kind)["examples"])
    return found


def subschemas(schema: Json, place: Path_ = ()) -> Iterator[tuple[Path_, dict[str, Any]]]:
    """Every object of a schema that is itself a schema, with its place; examples, enums and consts are data."""
    if isinstance(schema, dict):
        yield place, schema
        for key, value in schema.items():
            if key in ("properties", "$defs", "patternProperties"):
                for name, inner in value.items():
                    yield from subschemas(inner, (*place, key, name))
            elif key not in ("examples", "enum", "const", "required", "default"):
                yield from subschemas(value, (*place, key))
    elif isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from subschemas(inner, (*place, index))


def nodes(value: Json, place: Path_ = ()) -> Iterator[tuple[Path_, Json]]:
    """Every value inside a document, with its place; of a list only the first entry."""
    if place:
        yield place, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, (*place, key))
    elif isinstance(value, list) and value:
        yield from nodes(value[0], (*place, 0))


def put(document: Json, place: Path_, value: Json) -> Json:
    """A copy of a document with another value at a place."""
    if not place:
        return value
    changed: Any = dict(document) if isinstance(document, dict) else list(document)
    changed[place[0]] = put(changed[place[0]], place[1:], value)
    return changed


def drop(document: Json, place: Path_) -> Json:
    """A copy of a document without what is at a place."""
    changed: Any = dict(document) if isinstance(document, dict) else list(document)
    if len(place) == 1:
        del changed[place[0]]
    else:
        changed[place[0]] = drop(changed[place[0]], place[1:])
    return changed


def pointer(place: Path_) -> str:
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in place)


WRONG = [
    *(None, True, False, 0, 1, 1.0, -1, 0.5, 85, -0.001, 1.001, 10**17, 1e300),
    *("", "x", "N/A", "85%", "false", "\N{GRINNING FACE}", "T0\n"),
    *([], [None], [0, False], {}, {"": None}),
]


WRONG_KINDS: list[Json] = [None, True, "x", -1, 85, [], {"key": 1}]


def distinct_nodes(document: Json) -> Iterator[tuple[Path_, Json]]:
    """Every value inside a document, but each key in each kind of object once."""
    seen = set()
    for place, value in nodes(document):
        kind = (place[-2:], type(value))
        if kind not in seen:
            seen.add(kind)
            yield place, value


def mutations(document: Json) -> Iterator[Json]:
    """A document damaged in one place."""
    for place, value in distinct_nodes(document):
        yield drop(document, place)
        for wrong in WRONG:
            yield put(document, place, wrong)
        if isinstance(value, dict):
            yield put(document, place, {**value, "unknown_key": {"any": [1, None]}})
        if isinstance(value, list):
            yield put(document, place, value * 2)


# ----------------------------------------------------------------------------------------------- the schemas themselves


def test_there_is_one_schema_for_every_kind_of_file() -> None:
    assert {path.name for path in schema_directory().iterdir()} == {f"{kind}.schema.json" for kind in KINDS}
    assert set(KIND_OF_FILE.values()) <= set(KINDS)


@every_kind
def test_a_schema_is_valid_and_of_draft_2020_12(kind: Kind) -> None:
    schema = read_schema(kind)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert load_schema(kind) == schema


@every_kind
def test_a_schema_explains_itself_and_every_key(kind: Kind) -> None:
    schema = read_schema(kind)
    assert schema["title"].strip()
    assert schema["description"].strip()
    assert schema["examples"]
    assert schema["type"] == "object"
    for place, inner in subschemas(schema):
        if len(place) >= 2 and place[-2] in ("properties", "$defs") and "if" not in place and "then" not in place:
            assert inner.get("description", "").strip(), pointer(place)


@every_kind
def test_examples_are_valid_for_both_validators(kind: Kind) -> None:
    for example in examples(kind):
        assert reference(kind).is_valid(example)
        assert fast(kind).is_valid(example)
        assert is_valid(kind, example)
        assert problems(kind, example) == ()


@every_kind
def test_examples_show_every_key_that_the_schema_names(kind: Kind) -> None:
    named = set(read_schema(kind).get("properties", ()))
    assert named <= {key for example in examples(kind) for key in example}


@every_kind
def test_no_reference_leaves_the_file(kind: Kind) -> None:
    schema = read_schema(kind)
    for _, inner in subschemas(schema):
        assert not {"$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor"} & inner.keys()
        if "$ref" in inner:
            assert inner["$ref"].startswith("#/")
            target: Any = schema
            for step in inner["$ref"][2:].split("/"):
                target = target[step]
            assert isinstance(target, dict)
    assert [place for place, inner in subschemas(schema) if "$id" in inner] == [()]


@every_kind
def test_a_schema_uses_nothing_that_validators_understand_differently(kind: Kind) -> None:
    for place, inner in subschemas(read_schema(kind)):
        assert not {"multipleOf", "format", "contentEncoding", "contentSchema"} & inner.keys(), pointer(place)
        assert not re.search(r"\$|\\[dDwWsSbB]", inner.get("pattern", "")), pointer(place)
        assert "patternProperties" not in inner, pointer(place)


# ------------------------------------------------------------------------------------------- what is valid, what is not


@every_kind
def test_both_validators_give_the_same_verdict_on_every_mutation(kind: Kind) -> None:
    seen = set()
    for example in examples(kind):
        for document in mutations(example):
            verdict = reference(kind).is_valid(document)
            assert fast(kind).is_valid(document) is verdict, document
            assert is_valid(kind, document) is verdict, document
            seen.add(verdict)
    assert seen == {True, False}


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 1.0, -0.0, "N/A", "S", "T0", "passed", "2.0"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_both_validators_give_the_same_verdict_on_random_damage(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    document: Json = data.draw(st.sampled_from(examples(kind)))
    for _ in range(data.draw(st.integers(1, 4))):
        places = [place for place, _ in nodes(document)]
        if not places:
            break
        place = data.draw(st.sampled_from(places))
        document = drop(document, place) if data.draw(st.booleans()) else put(document, place, data.draw(ANY_JSON))
    verdict = reference(kind).is_valid(document)
    assert fast(kind).is_valid(document) is verdict
    assert (problems(kind, document) == ()) is verdict


@every_kind
def test_without_a_required_key_a_document_is_invalid_and_the_message_names_the_key(kind: Kind) -> None:
    for key in read_schema(kind).get("required", ()):
        document = examples(kind)[0]
        del document[key]
        assert not is_valid(kind, document)
        found = {problem.pointer: problem.message for problem in problems(kind, document)}
        assert found == {f"/{key}": "expected this key, found it absent"}


@every_kind
def test_unknown_keys_are_fine(kind: Kind) -> None:
    if isinstance(read_schema(kind)["additionalProperties"], dict):
        pytest.skip("its keys are ids")
    assert is_valid(kind, {**examples(kind)[0], "a_later_version": {"any": [1, "thing"]}})


def assert_none_fits(kind: Kind, document: Json, place: Path_, values: list[Json]) -> None:
    for value in values:
        assert not is_valid(kind, put(document, place, value)), (place, value)


@every_kind
def test_a_boolean_is_no_number_and_a_number_no_boolean(kind: Kind) -> None:
    for example in examples(kind):
        for place, value in nodes(example):
            if isinstance(value, bool):
                assert_none_fits(kind, example, place, [0, 1, 1.0, "true", "false", [], {}])
            elif isinstance(value, (int, float)) and place[-1] != "api_error_status":
                assert_none_fits(kind, example, place, [True, False, "0.85", "85%", "1", [1], {}])


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("judgment", ("score",)),
        ("consensus", ("score",)),
        ("run-result", ("judge_score",)),
        ("run-result", ("judges", 0, "score")),
        ("run-report", ("score",)),
    ],
)
def test_a_score_goes_from_0_to_1(kind: Kind, place: Path_) -> None:
    document = examples(kind)[0]
    for score in (0, 0.0, -0.0, 5e-324, 0.5, 1, 1.0):
        assert is_valid(kind, put(document, place, score)), score
    for score in (-1, -5e-324, 1.0000000000000002, 2, 85, 1e300):
        changed = put(document, place, score)
        assert not is_valid(kind, changed), score
        (problem,) = problems(kind, changed)
        assert problem.pointer == pointer(place)
        assert re.fullmatch(r"expected at (least 0|most 1), found .+", problem.message)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("agent-result", ("cost_usd",)),
        ("agent-result", ("api_calls",)),
        ("agent-result", ("token_stats", "input_tokens")),
        ("agent-reply", ("usage", "output_tokens")),
        ("agent-reply", ("total_cost_usd",)),
        ("agent-timing", ("agent_duration_seconds",)),
        ("judge-timing", ("judge_duration_seconds",)),
        ("run-result", ("tokens_input",)),
        ("run-result", ("duration_seconds",)),
        ("experiment", ("runs_per_subtest",)),
    ],
)
def test_counts_costs_and_durations_are_not_negative(kind: Kind, place: Path_) -> None:
    assert not is_valid(kind, put(examples(kind)[0], place, -1))


JUDGMENT = {"score": 0.5, "passed": False, "grade": "C", "reasoning": ""}
TOKENS = {"input_tokens": 1, "output_tokens": 2}
RESULT = {"exit_code": -1, "stdout": "", "stderr": "", "cost_usd": 0, "api_calls": 0}


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("judgment", {**JUDGMENT, "criteria_scores": None}),
        ("judgment", {**JUDGMENT, "criteria_scores": {"a": {"achieved": "N/A", "max": 2, "score": "N/A"}}}),
        ("judgment", {**JUDGMENT, "criteria_scores": {"a": {"items": {"b": {"achieved": "N/A", "max": 1}}}}}),
        ("judgment", {**JUDGMENT, "grade": "N/A", "is_valid": False}),
        ("judgment", {**JUDGMENT, "score": 0.7, "passed": True, "fallback": True, "fallback_reason": "timeout"}),
        ("consensus", JUDGMENT),
        ("agent-result", {**RESULT, "token_stats": {**TOKENS, "cache_creation_tokens": 0, "cache_read_tokens": 0}}),
        (
            "agent-result",
            {
                **RESULT,
                "stderr": None,
                "token_stats": {**TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0},
            },
        ),
        ("judge-slot-timing", {"judge_duration_seconds": 0, "measured_at": "", "failed": True, "fallback": True}),
        ("agent-reply", agent_reply()),
        ("agent-reply", {"is_error": True}),
        ("command-log", {"commands": []}),
    ],
)
def test_what_real_experiments_hold_is_valid(kind: Kind, document: Json) -> None:
    assert problems(kind, document) == ()
    assert is_valid(kind, document)


@pytest.mark.parametrize("word", ["None", "Low", "High", "UltraThink"])
def test_a_configuration_may_name_a_thinking_mode(word: str) -> None:
    assert is_valid("experiment", {**examples("experiment")[0], "thinking_mode": word})


@pytest.mark.parametrize("word", ["passed", "failed", "agent_complete"])
def test_a_checkpoint_knows_three_ends_of_a_run(word: str) -> None:
    checkpoint = {**examples("checkpoint")[0], "completed_runs": {"T0": {"00": {"1": word}}}}
    assert is_valid("checkpoint", checkpoint)
    assert not is_valid("checkpoint", {**checkpoint, "completed_runs": {"T0": {"00": {"1": word.upper()}}}})


@pytest.mark.parametrize("word", ["running", "paused_rate_limit", "completed", "failed"])
def test_a_checkpoint_says_what_the_runner_is_doing(word: str) -> None:
    assert is_valid("checkpoint", {**examples("checkpoint")[0], "status": word})


@pytest.mark.parametrize(
    "change",
    [{"grade": "E"}, {"grade": "a"}, {"grade": "N/A"}, {"grade": "N/A", "is_valid": True}, {"reasoning": None}],
)
def test_a_judgment_has_a_grade_that_fits_and_a_reasoning(change: dict[str, Json]) -> None:
    assert not is_valid("judgment", {**JUDGMENT, **change})


# ---------------------------------------------------------------------------------------------------- whole experiments


def check_files(root: Path, prefix: str) -> set[Kind]:
    seen: set[Kind] = set()
    for path in sorted(root.rglob("*.json")):
        relative = path.relative_to(root).as_posix().removeprefix(prefix)
        kinds = [kind for pattern, kind in KIND_OF_FILE.items() if re.fullmatch(pattern, relative)]
        assert len(kinds) == 1, f"no schema for {relative}"
        record = as_record(Blob(relative, "sound", path.read_bytes()), kinds[0])
        assert record.sound, (relative, record.problems)
        document = json.loads(path.read_bytes())
        assert record.data == document
        assert reference(kinds[0]).is_valid(document)
        seen.add(kinds[0])
    replies = sorted(root.rglob("agent/output.txt"))
    assert replies
    for path in replies:
        assert as_record(Blob(path.name, "sound", path.read_bytes()), "agent-reply").sound, path
    return seen


def test_every_file_of_the_recorded_experiment_is_valid(recorded_experiment: Path) -> None:
    kinds = check_files(recorded_experiment, "")
    assert kinds >= {"experiment", "checkpoint", "run-result", "judgment", "consensus", "agent-result", "command-log"}


@pytest.mark.parametrize(("layout", "prefix"), [("flat", ""), ("staged", "completed/")])
def test_every_file_of_a_synthetic_experiment_is_valid(tmp_path: Path, layout: str, prefix: str) -> None:
    write_experiment(tmp_path, small(layout=layout))
    assert check_files(tmp_path, prefix) == set(KIND_OF_FILE.values())


# ------------------------------------------------------------------------------------------------------------- messages


@every_kind
def test_a_problem_names_the_place_and_the_expected_and_the_found_value(kind: Kind) -> None:
    example = examples(kind)[0]
    for place, value in distinct_nodes(example):
        for wrong in WRONG_KINDS:
            document = put(example, place, wrong)
            found = problems(kind, document)
            assert bool(found) is not is_valid(kind, document)
            assert len(found) <= MOST_PROBLEMS
            for problem in found:
                told = place[: place.index("env_vars") + 1] if "env_vars" in place else place
                assert problem.pointer.startswith(pointer(told)), (place, value, wrong)
                assert "expected" in problem.message
                assert "found" in problem.message, problem.message
                assert len(problem.message) < 400


@pytest.mark.parametrize(
    ("kind", "place", "wrong", "message"),
    [
        ("judgment", ("score",), 85, "expected at most 1, found 85"),
        ("judgment", ("score",), "85%", 'expected number, found "85%"'),
        ("judgment", ("score",), True, "expected number, found true"),
        ("judgment", ("passed",), "false", 'expected boolean, found "false"'),
        ("run-result", ("judges",), {"1": {}}, "expected array, found an object with 1 key"),
        ("experiment", ("runs_per_subtest",), 0, "expected at least 1, found 0"),
        ("experiment", ("runs_per_subtest",), None, "expected integer, found null"),
    ],
)
def test_a_problem_is_told_in_words(kind: Kind, place: Path_, wrong: Json, message: str) -> None:
    (problem,) = problems(kind, put(examples(kind)[0], place, wrong))
    assert (problem.pointer, problem.message) == (pointer(place), message)


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("judgment", {**JUDGMENT, "grade": "N/A", "is_valid": True}),
        ("judgment", {**JUDGMENT, "criteria_scores": {"a": {"achieved": "n/a"}}}),
        ("experiment", {**examples("experiment")[0], "tiers_to_run": ["T0", "T1", "T0"]}),
        ("experiment", {**examples("experiment")[0], "tiers_to_run": ["../x"]}),
        ("experiment", {**examples("experiment")[0], "judge_models": ["judge"] * 100}),
        ("agent-reply", {"result": "neither usage nor is_error"}),
        ("agent-result", {**RESULT, "token_stats": TOKENS}),
    ],
)
def test_every_rule_of_a_schema_is_told_with_the_expected_and_the_found_value(kind: Kind, document: Json) -> None:
    (problem,) = problems(kind, document)
    assert re.match(r"expected .+, found .+", problem.message)


def test_a_document_with_everything_wrong_has_a_few_problems_not_hundreds() -> None:
    document = {**examples("command-log")[0], "commands": [{}] * 500}
    assert len(problems("command-log", document)) == MOST_PROBLEMS


@given(st.text(max_size=200) | st.sampled_from(["\x1b]0;title\x07", "a\nb", "::error::x", "##[error]", "\u202e"]))
@settings(deadline=None)
def test_a_message_is_one_printable_line_whatever_the_document_holds(text: str) -> None:
    document = {**JUDGMENT, "grade": text, "score": text, "criteria_scores": {text: {"items": text, text: text}}}
    found = problems("judgment", document)
    assert found
    for problem in found:
        for shown in (problem.pointer, problem.message):
            assert shown.isprintable()
            assert not re.search(r"(?<!\w)::|::(?!\w)", shown)
            assert "##" not in shown
            assert len(shown) < 500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("exp/T0/00/run_01::judge_02", "exp/T0/00/run_01::judge_02"),
        ("::error", r":\x3aerror"),
        (" ::error", r" :\x3aerror"),
        ("\n::error", r"\n:\x3aerror"),
        ("the end::", r"the end:\x3a"),
        ("a::error::b", r"a:\x3aerror:\x3ab"),
        ("a:::b", r"a:\x3a:b"),
        ("a##[error]b", r"a#\x23[error]b"),
    ],
)
def test_only_one_pair_of_colons_inside_of_a_word_is_shown_as_it_is(text: str, shown: str) -> None:
    assert printable(text) == shown


RUN = "/data/exp/T0/00/run_01"
WRONG_ENVIRONMENTS: dict[str, Json] = {
    "text": SECRET,
    "list": [SECRET],
    "list of objects": [{"KEY": SECRET}],
    "value in a list": {"KEY": [SECRET]},
    "value in an object": {"KEY": {"inner": SECRET}},
    "value twice below": {"KEY": {"env_vars": {"inner": [SECRET]}}},
    "other value wrong": {"KEY": SECRET, "OTHER": None},
    "number": {"KEY": 8675309867530986},
}


@pytest.mark.parametrize("environment", WRONG_ENVIRONMENTS.values(), ids=WRONG_ENVIRONMENTS.keys())
def test_no_value_below_env_vars_is_ever_told(environment: Json) -> None:
    log = command_log(RUN, duration=1.0, finished_at="2026-03-01T10:05:00+00:00")
    log["commands"][0]["env_vars"] = environment
    record = as_record(Blob("agent/command_log.json", "sound", json.dumps(log).encode()), "command-log")
    assert record.state == "invalid"
    assert SECRET not in repr(record)
    assert "8675309867530986" not in repr(record)


def test_no_secret_is_told_of_a_command_log_damaged_anywhere() -> None:
    log = command_log(RUN, duration=1.0, finished_at="2026-03-01T10:05:00+00:00")
    for document in mutations(log):
        assert SECRET not in repr(problems("command-log", document))
    for wrong in (log["commands"][0], {"0": log["commands"][0]}, [log["commands"]], [{"env_vars": {"K": SECRET}}]):
        found = problems("command-log", {**log, "commands": wrong})
        assert found
        assert SECRET not in repr(found)


def test_no_secret_is_told_of_a_command_log_that_is_cut_off() -> None:
    text = json.dumps(command_log(RUN, duration=1.0, finished_at="2026-03-01T10:05:00+00:00"))
    damaged = [text[:length] for length in range(1, len(text), 7)]
    damaged += [text.replace(f'"{SECRET}"', wrong) for wrong in (SECRET, f"'{SECRET}'", f'"{SECRET}\n"')]
    damaged.append(text.replace(f'"{SECRET}"', f'"{SECRET}", "PATH": "{SECRET}"'))
    for content in damaged:
        record = as_record(Blob("agent/command_log.json", "sound", content.encode()), "command-log")
        assert record.state == "malformed"
        assert SECRET not in repr(record)


def test_no_finding_on_a_damaged_experiment_tells_a_secret(experiment_dir: Path) -> None:
    logs = sorted(experiment_dir.rglob("command_log.json"))
    for path, environment in zip(logs, WRONG_ENVIRONMENTS.values(), strict=False):
        log = json.loads(path.read_bytes())
        log["commands"][0]["env_vars"] = environment
        path.write_text(json.dumps(log))
    audits = list(pytest_scylla.audit(pytest_scylla.load(experiment_dir)))
    findings = [found for audit in audits for found in audit.findings]
    assert len(findings) >= len(logs)
    assert SECRET not in repr(audits)
