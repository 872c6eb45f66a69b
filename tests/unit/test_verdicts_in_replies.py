"""What a judge's reply says: every verdict object at top level or in a fence, and nothing else, in linear time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import judgment, response
from pytest_scylla.auditing.verdicts import MOST_OBJECTS, Verdict, verdicts_in

from .limits import processor_time

VERDICT = '{"score": 0.85, "passed": true, "grade": "A", "reasoning": "Good."}'
OTHER = '{"score": 0.2, "passed": false, "grade": "D", "reasoning": "On second thought."}'


def said(reply: str) -> list[tuple[float, bool]]:
    return [(verdict.score, verdict.passed) for verdict in verdicts_in(reply)]


def fenced(text: str, info: str = "json") -> str:
    return f"```{info}\n{text}\n```"


# -------------------------------------------------------------------------------------------- where a verdict may stand

PLACES = {
    "alone": VERDICT,
    "alone, indented": json.dumps(json.loads(VERDICT), indent=2),
    "in a fence": fenced(VERDICT),
    "in a fence without a word": fenced(VERDICT, ""),
    "in a fence with a word and more": fenced(VERDICT, 'json title="verdict"'),
    "in a fence of capital letters": fenced(VERDICT, "JSON"),
    "in a fence of four backticks": f"````json\n{VERDICT}\n````",
    "in an indented fence": "1. My verdict:\n\n   ```json\n   " + VERDICT + "\n   ```\n",
    "in a fence of tildes": f"~~~json\n{VERDICT}\n~~~\n",
    "in a fence on one line": f"Here it is:\n```json {VERDICT} ```\n",
    "prose before": f"I ran the tests. All pass.\n\n{VERDICT}",
    "prose after": f"{VERDICT}\n\nThat is my opinion.",
    "prose around": f"I ran it.\n\n{fenced(VERDICT)}\n\nThat is my opinion.\n",
    "prose on the same line": f"My verdict is {VERDICT}, as I said.",
    "fence never closed": f"I ran it.\n```json\n{VERDICT}\n",
    "fence never opened": f"I ran it.\n{VERDICT}\n```\n",
    "backticks around": f"My verdict: `{VERDICT}`",
    "prose about fences": f"As asked, a ```json block follows, between ``` and ```.\n\n{fenced(VERDICT)}",
    "an inch in the prose": f'The screen is 5" wide.\n{fenced(VERDICT)}',
    "an inch before a bare one": f'The screen is 5" wide. {VERDICT}',
    "an open brace in the prose": f"The function is `int main() {{` and so on.\n\n{fenced(VERDICT)}",
    "an open object in the prose": f'It prints {{"score": and stops.\n\n{fenced(VERDICT)}',
    "a closing brace in the prose": f"The last line is `}}`.\n\n{VERDICT}",
    "braces in the prose": f"It returns {{1, 2}} for {{name}} and {{}} else: {VERDICT}",
    "after a fence of code": "```c\nint main() { if (x) {\n```\n" + fenced(VERDICT),
    "after a fence of other JSON": fenced('{"tests": 4}') + "\n" + fenced(VERDICT),
    "after a broken fence": fenced('{"score": 0.1, "passed": false, "reasoning": ') + "\n" + fenced(VERDICT),
    "before a broken fence": fenced(VERDICT) + "\n" + fenced('{"score": 0.1, "passed": false, "reasoning": '),
    "blank lines": "\n" * 50 + VERDICT + "\n" * 50,
}


@pytest.mark.parametrize("reply", PLACES.values(), ids=PLACES.keys())
def test_a_verdict_is_found(reply: str) -> None:
    assert verdicts_in(reply) == [Verdict(0.85, True, json.loads(VERDICT))]


@pytest.mark.parametrize("reply", PLACES.values(), ids=PLACES.keys())
def test_a_verdict_is_found_between_windows_line_ends(reply: str) -> None:
    assert said(reply.replace("\n", "\r\n")) == [(0.85, True)]


@pytest.mark.parametrize("reply", PLACES.values(), ids=PLACES.keys())
def test_a_verdict_is_found_in_the_json_in_which_a_command_line_wrapped_the_reply(reply: str) -> None:
    wrapped = {"type": "result", "is_error": False, "num_turns": 2, "result": reply, "usage": {"input_tokens": 1}}
    assert said(json.dumps(wrapped)) == [(0.85, True)]
    assert said(json.dumps(wrapped, indent=2) + "\n") == [(0.85, True)]


@pytest.mark.parametrize("text", ["", "Done.", "I could not judge it.", '{"tests": 4}'])
def test_a_wrapped_reply_without_a_verdict_has_none(text: str) -> None:
    assert said(json.dumps({"type": "result", "result": text, "passed_tests": 1})) == []


@pytest.mark.parametrize("result", [None, 1, ["x"], {"text": VERDICT}])
def test_a_wrapper_whose_result_is_no_text_has_no_verdict(result: Any) -> None:
    assert said(json.dumps({"type": "result", "result": result, "log": VERDICT})) == []


def test_a_reply_as_judges_write_it_gives_its_verdict_back() -> None:
    stored = judgment(0.7, slot=2)
    (verdict,) = verdicts_in(response(stored))
    assert verdict.agrees_with(stored["score"], stored["passed"])
    assert {key: verdict.record[key] for key in ("grade", "reasoning", "categories")} == {
        "grade": stored["grade"],
        "reasoning": stored["reasoning"],
        "categories": stored["criteria_scores"],
    }


# ------------------------------------------------------------------------------------------------------ several of them


@pytest.mark.parametrize("between", ["", "\n", " Wait. ", "\n\nOn second thought:\n\n"])
def test_several_verdicts_come_in_their_order(between: str) -> None:
    first, second = (0.85, True), (0.2, False)
    assert said(VERDICT + between + OTHER) == [first, second]
    assert said(OTHER + between + VERDICT + between + OTHER) == [second, first, second]


def test_fenced_and_bare_verdicts_come_in_their_order() -> None:
    reply = f"{VERDICT}\n{fenced(OTHER)}\nno:\n{VERDICT}\n{fenced(OTHER)}\n{VERDICT}"
    assert said(reply) == [(0.85, True), (0.2, False)] * 2 + [(0.85, True)]


def test_two_verdicts_in_one_fence_both_count() -> None:
    assert said(fenced(f"{VERDICT}\n{OTHER}")) == [(0.85, True), (0.2, False)]


def test_of_more_than_64_objects_only_the_first_64_are_looked_at() -> None:
    assert MOST_OBJECTS == 64
    other = '{"passed": true}\n'
    assert said(other * 63 + VERDICT) == [(0.85, True)]
    assert said(other * 64 + VERDICT) == []
    assert len(said(VERDICT * 1000)) == 64


# ------------------------------------------------------------------------------------------------ what is not a verdict

NESTED = {
    "in an object": f'{{"verdict": {VERDICT}}}',
    "in a criterion": f'{{"categories": {{"tests": {VERDICT}}}}}',
    "in a list of an object": f'{{"verdicts": [{VERDICT}, {OTHER}]}}',
    "in a fence": fenced(f'{{"verdict": {VERDICT}}}'),
    "in a text": json.dumps({"log": f"```json\n{VERDICT}\n```", "passed": None}),
}


@pytest.mark.parametrize("reply", NESTED.values(), ids=NESTED.keys())
def test_an_object_inside_another_is_no_verdict(reply: str) -> None:
    assert said(reply) == []


def test_the_criteria_of_a_verdict_are_no_verdicts() -> None:
    outer = {"categories": {"tests": json.loads(OTHER)}, "score": 0.85, "passed": True}
    assert said(json.dumps(outer)) == [(0.85, True)]


BROKEN = {
    "missing value": f'{{"tests": {OTHER}, "score": , "passed": true}}',
    "trailing comma": f'{{"tests": {OTHER}, "score": 0.85, "passed": true,}}',
    "single quotes": f"{{\"tests\": {OTHER}, 'score': 0.85, 'passed': true}}",
    "comment": f'{{"tests": {OTHER}, // good\n "score": 0.85, "passed": true}}',
    "ellipsis": f'{{"tests": {OTHER}, ...}}',
    "line break in a text": f'{{"tests": {OTHER}, "reasoning": "a\nb", "score": 0.85, "passed": true}}',
    "cut off": f'{{"tests": {OTHER}, "score": 0.8',
    "cut off in a text": f'{{"tests": {OTHER}, "reasoning": "Good',
    "cut off twice below": f'{{"categories": {{"tests": {OTHER}, "more": {OTHER}',
    "broken before": f'{{"score": 0.85 "passed": true, "tests": {OTHER}}}',
    "key twice": f'{{"score": 0.1, "score": 0.85, "passed": true, "tests": {OTHER}}}',
    "too deep": '{"score": 0.85, "passed": true, "x": ' + "[" * 200 + "]" * 200 + f', "tests": {OTHER}}}',
    "far too deep": '{"score": 0.85, "passed": true, "x": ' + "[" * 20000 + "]" * 20000 + f', "tests": {OTHER}}}',
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_object_is_no_verdict_and_does_not_reveal_those_inside_it(reply: str) -> None:
    assert said(reply) == []
    assert said(f"My verdict:\n{reply}\n") == []
    assert said(f"My verdict:\n{fenced(reply)}\n") == []


def test_a_verdict_behind_a_broken_object_that_closes_is_found() -> None:
    assert said(f'{{"score": 0.1, "passed": false,}}\nSorry, again:\n{VERDICT}') == [(0.85, True)]


@pytest.mark.parametrize("length", range(1, len(VERDICT)))
def test_a_reply_cut_off_anywhere_has_no_verdict(length: int) -> None:
    assert said(VERDICT[:length]) == []
    assert said(f"prose\n```json\n{VERDICT[:length]}") == []


NO_SCORE = ["85", "1.0000001", "-0.1", '"85%"', '"0.85"', "true", "false", "null", "[0.85]", "{}", "1e999"]
NO_NUMBER = ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("score", NO_SCORE + NO_NUMBER)
def test_a_score_that_is_no_number_from_0_to_1_makes_no_verdict(score: str) -> None:
    assert said(f'{{"score": {score}, "passed": true}}') == []
    assert said(fenced(f'{{"score": {score}, "passed": true}}')) == []


@pytest.mark.parametrize("passed", ['"false"', '"true"', "0", "1", "null", "[]", '"yes"', "1.0"])
def test_passed_that_is_no_boolean_makes_no_verdict(passed: str) -> None:
    assert said(f'{{"score": 0.85, "passed": {passed}}}') == []


@pytest.mark.parametrize("text", ['{"score": 0.85}', '{"passed": true}', '{"Score": 0.85, "Passed": true}', "{}"])
def test_an_object_that_lacks_score_or_passed_is_no_verdict(text: str) -> None:
    assert said(text) == []


@pytest.mark.parametrize(("text", "score"), [("0", 0.0), ("1", 1.0), ("0.0", 0.0), ("1.0", 1.0), ("1e-3", 0.001)])
def test_a_score_from_0_to_1_is_one_however_it_is_written(text: str, score: float) -> None:
    (verdict,) = verdicts_in(f'{{"score": {text}, "passed": false}}')
    assert (verdict.score, verdict.passed) == (score, False)
    assert type(verdict.score) is float


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_anywhere_in_an_object_makes_no_verdict(value: str) -> None:
    assert said(f'{{"score": 0.85, "passed": true, "weight": {value}}}') == []


def test_verdicts_agree_within_the_tolerance_and_only_if_both_pass_or_fail() -> None:
    verdict = Verdict(0.85, True, {})
    assert verdict.agrees_with(0.85, True)
    assert verdict.agrees_with(0.8500005, True)
    assert not verdict.agrees_with(0.850002, True)
    assert not verdict.agrees_with(0.85, False)


# ------------------------------------------------------------------------------------------------------ any text at all

PROSE = st.text(st.characters(exclude_characters="{}`", exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ['"', 'He said "', '"passed"', "\\", '\\"', "\n\n", "\r\n", "[", "~~~\n", "\u2028", "\0"]
)
VERDICTS = st.fixed_dictionaries(
    {"score": st.floats(0, 1) | st.sampled_from([0, 1]), "passed": st.booleans()},
    optional={
        "grade": st.sampled_from("SABCDF"),
        "reasoning": st.text(max_size=30) | st.sampled_from(["```", "a\n```\nb", "{", '"}', "}\\", '{"score": 1']),
        "categories": st.dictionaries(
            st.text(max_size=5), st.fixed_dictionaries({"score": st.floats(0, 1)}), max_size=2
        ),
    },
)


@given(PROSE, VERDICTS, PROSE, st.sampled_from([None, 2]), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_verdict_is_found_in_any_prose(
    before: str, verdict: dict[str, Any], after: str, indent: int | None, ascii_only: bool, in_fence: bool
) -> None:
    text = json.dumps(verdict, indent=indent, ensure_ascii=ascii_only)
    reply = f"{before}\n{fenced(text)}\n{after}" if in_fence else before + text + after
    assert verdicts_in(reply) == [Verdict(verdict["score"], verdict["passed"], verdict)]


@settings(deadline=None)
@given(st.lists(VERDICTS, min_size=1, max_size=5), PROSE)
def test_any_number_of_verdicts_is_found_in_order(verdicts: list[dict[str, Any]], between: str) -> None:
    reply = between.join(json.dumps(verdict) for verdict in verdicts)
    assert [verdict.record for verdict in verdicts_in(reply)] == verdicts


FRAGMENTS = st.sampled_from(
    [
        *('"passed"', '"score"', '"passed": true', '"score": 0.5', ":", ",", " ", "\n", "{", "}", "[", "]", '"', "\\"),
        *("```", "```json\n", "\n```\n", "`", "0.5", "1e999", "NaN", "true", "\\u12", "\ud800", "\r\n", VERDICT, OTHER),
        *('{"result": "', '\\"passed\\"', "\0", "\N{GRINNING FACE}"),
    ]
)


@given(st.text(max_size=50) | st.lists(FRAGMENTS, max_size=25).map("".join))
@settings(max_examples=500, deadline=None)
def test_no_text_whatsoever_makes_it_raise_or_find_what_is_no_verdict(reply: str) -> None:
    for verdict in verdicts_in(reply):
        assert 0 <= verdict.score <= 1
        assert type(verdict.passed) is bool
        assert verdict.record["score"] == verdict.score
        assert verdict.record["passed"] is verdict.passed


# ---------------------------------------------------------------------------------------------------------- linear time


HOSTILE = [
    *("{", '{"', '"', "`", "```\n", "\n```{", "[", "\\", '\\"', "\n", '"passed"', '\\"passed\\"', '"}{"'),
    *('{"a":', '{"a":[', '{"a":"', '{"a":1}', "{}", '{"a":{}', '{"a":}', '{"a":"\\"}'),
    *('{"passed":', '{"passed":{', '{"passed":"', '{"passed":}', '{"passed":true}', '{"passed":true,}', '}{"passed"'),
    *('{"passed":NaN}', '{"passed":"\\u12"}', '{"passed":\n', '```\n{"passed":\n', '```\n{"passed":}\n'),
]


def megabyte_of(fragment: str) -> str:
    return fragment * (1_000_000 // len(fragment))


@pytest.mark.parametrize("before", ["", '{"passed": "'], ids=["", "in a text"])
@pytest.mark.parametrize("fragment", HOSTILE)
def test_a_megabyte_of_hostile_text_takes_about_a_second_processor_time(before: str, fragment: str) -> None:
    with processor_time(1.5):
        verdicts_in(before + megabyte_of(fragment))


@pytest.mark.parametrize("tail", ['"passed"', '\n"passed": 1}', "}" * 1000])
@pytest.mark.parametrize("fragment", ["{", '{"', '"', "`", '{"a":', '\\"'])
def test_a_megabyte_of_hostile_text_with_a_tail_takes_about_a_second_processor_time(fragment: str, tail: str) -> None:
    with processor_time(1.5):
        verdicts_in(megabyte_of(fragment) + tail)


@pytest.mark.parametrize("fragment", ["{", '{"passed":', '{"passed":}', '"', '\\"'])
def test_a_wrapped_megabyte_of_hostile_text_takes_about_a_second_processor_time(fragment: str) -> None:
    with processor_time(1.5):
        verdicts_in(json.dumps({"result": '{"passed": ' + megabyte_of(fragment)}))
