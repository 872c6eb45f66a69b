"""The agent's output, kept in several copies: which are whole, which is the true one, and what it counts."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import agent_reply, agent_stdout
from pytest_scylla.auditing.agent_output import AgentOutput, AgentReply, TokenCounts, read_copies

REPLY = agent_reply(input_tokens=24, output_tokens=1480, cache_creation_tokens=18250, cache_read_tokens=96400)
OUTPUT = agent_stdout(REPLY).encode()
COUNTS = TokenCounts(24, 1480, 18250, 96400)
FILES = ("agent/output.txt", "agent/stdout.log", "agent/cmd_0000_stdout.log", "agent/result.json /stdout")


def copies_of(*texts: bytes) -> list[tuple[str, bytes]]:
    return list(zip(FILES, texts, strict=False))


def read(*texts: bytes) -> AgentOutput:
    return read_copies(copies_of(*texts))


def reply_of(text: bytes) -> AgentReply:
    output = read(text)
    assert output.data == text
    assert output.reply is not None
    return output.reply


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


# ------------------------------------------------------------------------------------------- which copy is the true one


def test_without_a_copy_there_is_no_output_and_no_conflict() -> None:
    output = read_copies([])
    assert (output.data, output.reply, output.sound, output.faults) == (None, None, (), ())
    assert not output.conflicting


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_copies_that_are_equal_are_the_output(count: int) -> None:
    output = read(*[OUTPUT] * count)
    assert output.data == OUTPUT
    assert [copy.file for copy in output.sound] == list(FILES[:count])
    assert output.faults == ()
    assert not output.conflicting


@pytest.mark.parametrize("damaged", [b"", b" \r\n\t", OUTPUT[:-10], OUTPUT[:1], OUTPUT[:50] + b"\0" * 50, b"\0" * 999])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_sound_copy_is_enough_and_the_damaged_ones_are_named(place: int, damaged: bytes) -> None:
    texts = [damaged] * 3
    texts[place] = OUTPUT
    output = read(*texts)
    assert output.data == OUTPUT
    assert [copy.file for copy in output.sound] == [FILES[place]]
    assert [copy.file for copy in output.faults] == [file for file in FILES[:3] if file != FILES[place]]
    assert all(copy.fault.startswith("expected") and copy.fault.isprintable() for copy in output.faults)


def test_without_a_sound_copy_there_is_no_output_and_no_conflict() -> None:
    output = read(OUTPUT[:-10], b"", b"\0")
    assert (output.data, output.reply, output.sound) == (None, None, ())
    assert len(output.faults) == 3
    assert not output.conflicting


@pytest.mark.parametrize("order", list(itertools.permutations([b"one text", b"one text", b"another text"])))
def test_the_majority_of_the_sound_copies_is_right(order: tuple[bytes, ...]) -> None:
    output = read(*order)
    assert output.data == b"one text"
    assert not output.conflicting


@pytest.mark.parametrize("order", list(itertools.permutations([b"a text that", b"a text that was cut", b""])))
def test_a_text_that_another_one_continues_is_a_truncation(order: tuple[bytes, ...]) -> None:
    output = read(*order)
    assert output.data == b"a text that was cut"
    assert not output.conflicting


def test_of_texts_that_continue_one_another_the_longest_is_right() -> None:
    assert read(b"abc", b"ab", b"abcd", b"a").data == b"abcd"


@pytest.mark.parametrize(
    "texts",
    [
        (b"one text", b"another text"),
        (b"one text", b"another text", b"a third text"),
        (b"one text", b"one text", b"another text", b"another text"),
        (b"one text", b"one", b"another text"),
        (OUTPUT, agent_stdout(agent_reply(turns=99)).encode()),
    ],
)
def test_texts_of_which_none_continues_another_conflict_without_a_majority(texts: tuple[bytes, ...]) -> None:
    for order in itertools.permutations(texts):
        output = read(*order)
        assert (output.data, output.reply) == (None, None)
        assert output.conflicting


def test_an_unsound_copy_has_no_vote() -> None:
    output = read(b"\0", b"\0", b"\0", OUTPUT)
    assert output.data == OUTPUT
    assert read(OUTPUT[:9], OUTPUT[:9], OUTPUT).data == OUTPUT


# ----------------------------------------------------------------------------------------------- what is a whole output


@pytest.mark.parametrize(
    "text", [b"Done.", b"Done.\n", b"[1, 2]", b'"{"', b"x {", "\N{CHECK MARK} done".encode(), b"\xff"]
)
def test_other_agents_plain_text_is_taken_as_it_is_and_counts_nothing(text: bytes) -> None:
    output = read(text)
    assert output.data == text
    assert output.reply is None


SYSTEM = {"type": "system", "subtype": "init", "tools": ["Bash"]}
ASSISTANT = {"type": "assistant", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
FORMS = {
    "alone": OUTPUT,
    "alone, without a line end": OUTPUT.rstrip(),
    "alone, indented": json.dumps(REPLY, indent=2).encode(),
    "alone, Windows line ends": json.dumps(REPLY, indent=2).replace("\n", "\r\n").encode() + b"\r\n",
    "alone, blank lines around": b"\n\n" + OUTPUT + b"\n\n",
    "JSON lines": dump(SYSTEM) + b"\n" + dump(ASSISTANT) + b"\n" + OUTPUT,
    "JSON lines, Windows line ends": dump(SYSTEM) + b"\r\n" + dump(ASSISTANT) + b"\r\n" + dump(REPLY) + b"\r\n",
    "JSON lines, others after it": dump(SYSTEM) + b"\n" + OUTPUT + dump({"type": "telemetry"}) + b"\n",
    "JSON lines, two replies": dump(agent_reply(output_tokens=1)) + b"\n" + OUTPUT,
    "a reply, then other lines": OUTPUT + b"Shutting down.\nBye {now}.\n",
    "among other lines": dump(SYSTEM) + b"\nWarning: slow network\n" + OUTPUT + b"Bye.\n",
    "after other lines": b"Warning: slow network\n" + OUTPUT,
    "after a broken line": b'{"type": "assis\n' + OUTPUT,
    "before a broken line": dump(SYSTEM) + b"\n" + OUTPUT + b'{"type": "telemetry", "usage"',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_the_reply_is_found_in_every_form(text: bytes) -> None:
    reply = reply_of(text)
    assert reply.record == REPLY
    assert (reply.tokens, reply.cost_usd, reply.turns) == (COUNTS, REPLY["total_cost_usd"], REPLY["num_turns"])
    assert not reply.service_error


def test_an_indented_reply_before_other_lines_is_found() -> None:
    assert reply_of(json.dumps(REPLY, indent=2).encode() + b"\nShutting down.\n").record == REPLY


def test_of_several_replies_the_last_counts() -> None:
    first, last = agent_reply(output_tokens=1), {"is_error": True, "api_error_status": 529}
    reply = reply_of(dump(first) + b"\n" + dump(last))
    assert (reply.record, reply.service_error, reply.tokens) == (last, True, None)


NO_REPLY = {
    "empty object": b"{}",
    "object without usage or is_error": b'{"type": "result", "result": "Done."}',
    "JSON lines without a reply": dump(SYSTEM) + b"\n" + dump(ASSISTANT) + b"\n",
    "usage only in a text": dump({"result": '"usage": {}, "is_error": false'}),
    "no JSON": b"{hello}",
    "cut off": OUTPUT[: len(OUTPUT) // 2],
    "JSON lines, reply cut off": dump(SYSTEM) + b"\n" + OUTPUT[: len(OUTPUT) // 2],
    "NaN": OUTPUT.replace(b'"num_turns":7', b'"num_turns":NaN'),
    "key twice": OUTPUT.replace(b'"num_turns":7', b'"num_turns":7,"num_turns":8'),
    "counts as text": OUTPUT.replace(b'"input_tokens":24', b'"input_tokens":"24"'),
    "counts as booleans": OUTPUT.replace(b'"input_tokens":24', b'"input_tokens":true'),
    "negative counts": OUTPUT.replace(b'"input_tokens":24', b'"input_tokens":-24'),
    "negative cost": dump({**REPLY, "total_cost_usd": -1}),
    "is_error as text": dump({"is_error": "false"}),
    "usage as list": dump({"usage": [24, 1480]}),
    "deep": b'{"usage":' + b"[" * 5000 + b"]" * 5000 + b"}",
}


@pytest.mark.parametrize("text", NO_REPLY.values(), ids=NO_REPLY.keys())
def test_text_that_begins_as_an_object_and_holds_no_sound_reply_is_unsound(text: bytes) -> None:
    output = read(text)
    assert (output.data, output.reply) == (None, None)
    (fault,) = output.faults
    assert (fault.file, fault.data) == (FILES[0], text)
    assert fault.fault.startswith("expected")
    assert "found" in fault.fault
    assert fault.fault.isprintable()


@pytest.mark.parametrize("text", [b"Done\0.", b"\0", OUTPUT + b"\0", b"x" * 4096 + b"\0" * 4096])
def test_text_with_a_nul_byte_is_unsound(text: bytes) -> None:
    (fault,) = read(text).faults
    assert "NUL" in fault.fault


@pytest.mark.parametrize("text", [b"", b"\n", b" \t\r\n\n", b"\x0b\x0c"])
def test_blank_text_is_unsound(text: bytes) -> None:
    (fault,) = read(text).faults
    assert "blank" in fault.fault


# ------------------------------------------------------------------------------------------------------- what it counts


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"input_tokens": 1},
        {"output_tokens": 1},
        {"input_tokens": None, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": None},
        {"cache_creation_input_tokens": 1, "cache_read_input_tokens": 2},
    ],
)
def test_tokens_that_the_reply_does_not_say_are_unknown_and_not_0(usage: Any) -> None:
    assert reply_of(dump({"is_error": False, "usage": usage})).tokens is None


def test_a_reply_without_usage_cost_and_turns_says_none_of_them() -> None:
    reply = reply_of(dump({"is_error": False}))
    assert (reply.tokens, reply.cost_usd, reply.turns) == (None, None, None)
    reply = reply_of(dump({"is_error": False, "total_cost_usd": None, "num_turns": None, "usage": None}))
    assert (reply.tokens, reply.cost_usd, reply.turns) == (None, None, None)


def test_what_the_reply_does_say_is_kept_where_it_is_0() -> None:
    usage = dict.fromkeys(REPLY["usage"], 0)
    reply = reply_of(dump({"usage": usage, "total_cost_usd": 0, "num_turns": 0}))
    assert (reply.tokens, reply.cost_usd, reply.turns) == (TokenCounts(0, 0, 0, 0), 0, 0)
    assert reply.tokens is not None
    assert reply.tokens.none_at_all


@pytest.mark.parametrize("place", range(4))
def test_one_token_of_any_kind_is_work_done(place: int) -> None:
    assert not TokenCounts(*[int(place == index) for index in range(4)]).none_at_all


def test_stored_counts_are_read_under_their_short_and_their_old_long_names() -> None:
    own = {"input_tokens": 1, "output_tokens": 2}
    short = {**own, "cache_creation_tokens": 3, "cache_read_tokens": 4}
    long = {**own, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4}
    assert TokenCounts.from_stats(short) == TokenCounts.from_stats(long) == TokenCounts(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_error": True, "api_error_status": 429}, True),
        ({"is_error": True, "api_error_status": "overloaded_error"}, True),
        ({"is_error": True, "api_error_status": None}, False),
        ({"is_error": True}, False),
        ({"is_error": False, "api_error_status": 429}, False),
        ({"is_error": False}, False),
        ({"is_error": True, "result": "API Error: 429 rate_limit_error"}, False),
        ({"is_error": False, "result": "You've hit your limit"}, False),
    ],
)
def test_only_the_structured_fields_say_that_the_service_failed(fields: dict[str, Any], expected: bool) -> None:
    assert reply_of(dump({**REPLY, **fields})).service_error is expected


# ------------------------------------------------------------------------------------------------------ any text at all

FRAGMENTS = st.sampled_from(
    [
        *(
            b'{"usage":',
            b'{"is_error":',
            b"true}",
            b"{}}",
            b"}",
            b"{",
            b'"',
            b"\n",
            b"\r\n",
            b" ",
            b"\0",
            b"\xff",
            b"x",
        ),
        *(OUTPUT, OUTPUT[:100], b'{"usage":{"input_tokens":1e999}}', b'{"is_error":false,"num_turns":1.0}', b"\\ud800"),
        *(b'{"usage":{"input_tokens":1.5,"output_tokens":2}}', b'{"usage":{"input_tokens":2.0,"output_tokens":3}}\n'),
    ]
)
TEXTS = st.binary(max_size=20) | st.lists(FRAGMENTS, max_size=5).map(b"".join) | st.sampled_from([b"ab", b"abc", b"b"])


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=4), st.randoms(use_true_random=False))
def test_no_bytes_whatsoever_make_it_raise_and_the_order_makes_no_difference(texts: list[bytes], random: Any) -> None:
    copies = copies_of(*texts)
    output = read_copies(copies)
    assert sorted(copy.file for copy in (*output.sound, *output.faults)) == sorted(file for file, _ in copies)
    assert all(dict(copies)[copy.file] == copy.data for copy in (*output.sound, *output.faults))
    assert output.data is None or output.data in [copy.data for copy in output.sound]
    assert output.conflicting is (output.data is None and bool(output.sound))
    assert output.data is not None or output.reply is None
    random.shuffle(copies)
    again = read_copies(copies)
    assert (again.data, again.reply) == (output.data, output.reply)


@pytest.mark.parametrize("line", [b'{"usage"\n', b'{"is_error":\n', b"{", b'{"usage":', b'{"usage":1}', b"\n"])
def test_half_a_megabyte_of_hostile_text_takes_about_a_second_at_most(line: bytes) -> None:
    begun = time.process_time()
    read(b"{" + line * (500_000 // len(line)))
    assert time.process_time() - begun < 1.5
