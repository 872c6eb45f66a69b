"""Reading files strictly: only sound JSON is believed, and only regular files of bounded size are opened."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pytest_scylla
from pytest_scylla.experiment.records import (
    MAX_FILE_SIZE,
    Blob,
    Folder,
    Record,
    has_directory,
    open_experiment,
    read_below,
)
from pytest_scylla.experiment.schemas import as_record, is_valid, problems
from pytest_scylla.experiment.strict_json import MAX_DEPTH, MalformedJSON, parse_object

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
)
OBJECTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=15,
    ),
    max_size=5,
)
SOUND = b'{"score": 0.5, "passed": true, "items": [1, -2.5e3, null, "\xc3\xa9\\n"], "nested": {"key": "\\u00e9"}}'


# -------------------------------------------------------------------------------------------------------- what is sound


@settings(deadline=None)
@given(OBJECTS, st.booleans(), st.sampled_from([None, 0, 2]))
def test_every_sound_object_survives_the_round_trip(
    value: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    for source in (text, text.encode()):
        assert repr(parse_object(source)) == repr(value)


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b' \t\r\n{"a": 1}\r\n \n',
        b'{\r\n  "a": 1\r\n}\r\n',
        b'{"a": "' + "\N{GRINNING FACE}".encode() + b'"}',
        b'{"a": 0, "A": 1, " a": 2, "": 3}',
        b'{"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}]}',
        b'{"a": 1e308, "b": 5e-324, "c": 1e-999, "d": -0.0, "e": 1E+2}',
        b'{"a": "NaN", "b": "Infinity", "c": "1e999"}',
    ],
)
def test_what_json_allows_and_every_reader_understands_alike_is_sound(data: bytes) -> None:
    assert repr(parse_object(data)) == repr(json.loads(data))


@pytest.mark.parametrize("number", [0, 1, -1, 2**31, 2**53, -(2**53), 10**17, 2**63 - 1, -(2**63)])
def test_every_signed_64_bit_integer_is_sound(number: int) -> None:
    assert parse_object(f'{{"n": {number}}}') == {"n": number}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_of_a_hundred_is_sound_and_of_one_more_is_not(opening: str, closing: str) -> None:
    def text(depth: int) -> str:
        return '{"a":' + opening * (depth - 1) + "1" * (closing == "}") + closing * (depth - 1) + "}"

    assert MAX_DEPTH == 100
    assert parse_object(text(100)) == json.loads(text(100))
    with pytest.raises(MalformedJSON, match="nesting"):
        parse_object(text(101))


def test_brackets_in_strings_and_beside_each_other_are_no_nesting() -> None:
    text = json.dumps({"a": "[{" * 500, "b": [[] for _ in range(500)], "[{" * 60: {}})
    assert parse_object(text) == json.loads(text)


# ------------------------------------------------------------------------------------------------------ what is unsound

UNSOUND: dict[str, bytes | str] = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "byte order mark in text": '\ufeff{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "Latin-1": '{"a": "\xe9"}'.encode("latin-1"),
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "character cut in two": '{"a": "\xe9'.encode()[:-1],
    "list": b'[{"a": 1}]',
    "text": b'"a"',
    "number": b"1",
    "true": b"true",
    "null": b"null",
    "two objects": b'{"a": 1}{"b": 2}',
    "two lines": b'{"a": 1}\n{"b": 2}\n',
    "trailing text": b'{"a": 1} done',
    "trailing NUL": b'{"a": 1}\0',
    "only NUL": b"\0" * 100,
    "trailing comma": b'{"a": 1,}',
    "trailing comma in a list": b'{"a": [1,]}',
    "single quotes": b"{'a': 1}",
    "no quotes": b"{a: 1}",
    "comment": b'{"a": 1 /* one */}',
    "number as key": b"{1: 2}",
    "control character in a text": b'{"a": "x\ny"}',
    "NUL in a text": b'{"a": "x\0y"}',
    "unknown escape": b'{"a": "\\x41"}',
    "short escape": b'{"a": "\\u12"}',
    "leading zero": b'{"a": 01}',
    "leading plus": b'{"a": +1}',
    "no digit after the point": b'{"a": 1.}',
    "hexadecimal": b'{"a": 0x10}',
    "Python's words": b'{"a": True}',
    "no-break space": '{"a":\xa01}'.encode(),
    "key twice": b'{"a": 1, "a": 1}',
    "key twice, other between": b'{"a": 1, "b": 2, "a": 3}',
    "key twice below": b'{"x": {"a": 1, "a": 2}}',
    "key twice in a list": b'{"x": [0, {"a": 1, "a": 2}]}',
    "key twice, once escaped": b'{"a": 1, "\\u0061": 2}',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "-Infinity": b'{"a": -Infinity}',
    "NaN in a list": b'{"a": [0, NaN]}',
    "1e999": b'{"a": 1e999}',
    "-1e999": b'{"a": [-1e999]}',
    "400 digits and a point": b'{"a": ' + b"9" * 400 + b".0}",
    "30 digits": b'{"a": 123456789012345678901234567890}',
    "5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "-5000 digits": b'{"a": -' + b"9" * 5000 + b"}",
    "101 levels": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
    "100,000 levels of lists": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 levels of objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "100,000 levels unclosed": b'{"a":' * 100_000,
    "100,000 levels of a list": b"[" * 100_000,
}


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND.keys())
def test_unsound_text_is_refused_in_one_printable_sentence(data: bytes | str) -> None:
    with pytest.raises(MalformedJSON) as caught:
        parse_object(data)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    assert re.match(r"expected .+, found .+", message)


@pytest.mark.parametrize("data", UNSOUND.values(), ids=UNSOUND.keys())
def test_an_unsound_file_is_a_malformed_record_without_data(data: bytes | str) -> None:
    stored = data if isinstance(data, bytes) else data.encode()
    record = as_record(Blob("T0/00/run_01/run_result.json", "sound", stored), "run-result")
    assert (record.state, dict(record.data)) == ("malformed", {})
    assert record.problems


def test_a_record_cut_off_anywhere_is_refused() -> None:
    for length in range(len(SOUND)):
        with pytest.raises(MalformedJSON):
            parse_object(SOUND[:length])
    assert parse_object(SOUND) == json.loads(SOUND)


def test_a_message_does_not_carry_the_terminal_escapes_of_the_text() -> None:
    key = "\x1b[31m\r\n::error::\u202e\x9b##[group]"
    hostile = json.dumps(key, ensure_ascii=False)
    with pytest.raises(MalformedJSON) as caught:
        parse_object(f"{{{hostile}: 1, {hostile}: 2}}")
    message = str(caught.value)
    assert message.isprintable()
    assert "::" not in message
    assert "##" not in message


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_json_does_or_refused(data: bytes) -> None:
    agrees_with_json(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_json_is_read_as_json_does_or_refused(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([SOUND.decode(), '{"a": 1.5e3, "b": [1, {"c": null}], "d": ""}']))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 6)))
        fragment = st.text('{}[]":,0123456789eE+-.\\u \n\0', max_size=4) | st.sampled_from(
            ["NaN", "Infinity", "1e999", "null", '"score": 1,', "\ufeff", "\\ud800", "0" * 20]
        )
        text = text[:start] + data.draw(fragment) + text[end:]
    agrees_with_json(text.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_any_number_is_read_as_json_does_or_refused(number: str) -> None:
    agrees_with_json(f'{{"n": {number}}}'.encode())
    agrees_with_json(f'{{"n": [{number}, {{"m": {number}}}]}}'.encode())


@settings(deadline=None)
@given(OBJECTS, st.text(max_size=8), SCALARS, SCALARS, st.sampled_from(["", " ", "\n", "\t \r\n"]), st.booleans())
def test_a_key_given_twice_is_refused_wherever_it_stands_and_however_it_is_written(
    other: dict[str, Any], key: str, one: Any, two: Any, space: str, escaped: bool
) -> None:
    again = "".join(f"\\u{ord(c):04x}" for c in key if ord(c) < 0x10000) if escaped else json.dumps(key)[1:-1]
    assume(json.loads(f'"{again}"') == key)
    pair = space.join(["", json.dumps(key), ":", json.dumps(one), ","])
    twice = "{" + pair + space.join(["", f'"{again}"', ":", json.dumps(two), "}"])
    for text in (twice, f'{{"x": {twice}}}', f'{{"x": [{json.dumps(other)}, {twice}], "y": {json.dumps(other)}}}'):
        with pytest.raises(MalformedJSON, match="twice"):
            parse_object(text)


def agrees_with_json(data: bytes) -> None:
    try:
        value = parse_object(data)
    except MalformedJSON:
        return
    assert type(value) is dict
    assert repr(value) == repr(json.loads(data))


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"]), max_size=5))
def test_half_a_surrogate_pair_never_crashes_a_validation(around: str) -> None:
    document = b'{"score": 0.5, "passed": true, "grade": "C", "reasoning": "' + around.encode() + b'\\ud83d"}'
    record = as_record(Blob("judgment.json", "sound", document), "judgment")
    assert record.state in ("sound", "malformed")
    reference = json.loads(document)
    assert is_valid("judgment", reference) is (problems("judgment", reference) == ())


# ------------------------------------------------------------------------------------------------------- what is opened


@pytest.fixture
def place(tmp_path: Path) -> Path:
    root = tmp_path / "exp"
    root.mkdir()
    return root


def read(root: Path, name: str, **options: int) -> Blob:
    with open_experiment(root) as folder:
        return folder.read(name, **options)


def read_at(root: Path, *names: str) -> Blob:
    """Read a file by its path's components."""
    with open_experiment(root) as folder:
        return read_below(folder, "/".join(names))


def test_a_regular_file_is_read_whole_and_named_by_its_path_in_the_experiment(place: Path) -> None:
    (place / "T0" / "00").mkdir(parents=True)
    content = bytes(range(256)) * 4096
    (place / "T0" / "00" / "f.bin").write_bytes(content)
    blob = read_at(place, "T0", "00", "f.bin")
    assert (blob.file, blob.state, blob.data, blob.reason) == ("T0/00/f.bin", "sound", content, "")


def test_an_empty_file_is_there_and_an_absent_one_is_not(place: Path) -> None:
    (place / "empty").touch()
    assert read(place, "empty") == Blob("empty", "sound", b"")
    assert read(place, "lost") == Blob("lost", "absent")
    with open_experiment(place) as folder:
        assert folder.open("lost") == Blob("lost", "absent")


def test_a_hard_link_is_a_regular_file(place: Path) -> None:
    (place / "one").write_text("{}")
    os.link(place / "one", place / "two")
    assert read(place, "two").data == b"{}"


@pytest.mark.parametrize("component", [0, 1, 2, 3], ids=["tier", "subtest", "run", "file"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_link_in_any_component_is_unsafe_and_nothing_behind_it_is_read(
    place: Path, component: int, absolute: bool
) -> None:
    names = ("T0", "00", "run_01", "run_result.json")
    (place / "T0" / "00" / "run_01").mkdir(parents=True)
    place.joinpath(*names).write_text("{}")
    linked = place.joinpath(*names[: component + 1])
    moved = linked.with_name("elsewhere")
    linked.rename(moved)
    linked.symlink_to(moved if absolute else moved.name)
    assert linked.exists()
    blob = read_at(place, *names)
    assert (blob.file, blob.state, blob.data) == ("/".join(names[: component + 1]), "unsafe", b"")
    assert blob.reason


def test_a_file_some_levels_below_is_read_up_to_its_bound_and_one_of_the_root_as_well(place: Path) -> None:
    (place / "T0" / "00").mkdir(parents=True)
    for file in ("f", "T0/00/f"):
        (place / file).write_bytes(b"1234")
        with open_experiment(place) as root:
            assert read_below(root, file, 4) == Blob(file, "sound", b"1234")
            assert read_below(root, file, 3).state == "unsafe"
            assert root.names()  # it is still open


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("T0/lost", Blob("T0/lost", "absent")),
        ("T1/00/f", Blob("T1", "absent")),
        ("T0/f/f", Blob("T0/f", "malformed", reason="expected a directory, found a file")),
        ("T0", Blob("T0", "malformed", reason="expected a file, found a directory")),
        ("", Blob("", "absent")),
        ("/T0/f", Blob("", "absent")),
        ("T0//f", Blob("T0/", "absent")),
        ("T0/../T0/f", Blob("T0/..", "absent")),
    ],
)
def test_what_cannot_be_read_below_is_told_by_the_first_name_that_cannot_be_opened(
    place: Path, file: str, found: Blob
) -> None:
    (place / "T0").mkdir()
    (place / "T0" / "f").write_text("{}")
    with open_experiment(place) as root:
        assert read_below(root, file) == found


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("T0", True),
        ("T0/00", True),
        ("T0/lost", False),
        ("T0/file", False),
        ("T0/file/00", False),
        ("T0/link", False),
        ("T0/link/inside", False),
        ("T0/..", False),
        ("", False),
    ],
)
def test_a_directory_is_there_if_it_can_be_reached_without_a_link(place: Path, name: str, there: bool) -> None:
    (place / "T0" / "00" / "inside").mkdir(parents=True)
    (place / "T0" / "file").touch()
    (place / "T0" / "link").symlink_to("00")
    with open_experiment(place) as root:
        assert has_directory(root, name) == there


@pytest.mark.parametrize("target", ["nowhere", "link", "/etc/passwd", "/dev/zero", ".."])
def test_a_link_is_unsafe_wherever_it_leads(place: Path, target: str) -> None:
    (place / "link").symlink_to(target)
    with open_experiment(place) as folder:
        assert set(folder.names()) == {"link"}
        opened = folder.open("link")
        assert isinstance(opened, Blob)
        for blob in (folder.read("link"), opened):
            assert (blob.state, blob.data) == ("unsafe", b"")


def test_the_root_itself_may_be_named_through_a_link(place: Path, tmp_path: Path) -> None:
    (place / "f").write_text("{}")
    (tmp_path / "link").symlink_to(place)
    assert read(tmp_path / "link", "f").data == b"{}"


def test_a_fifo_is_unsafe_and_nobody_waits_for_its_writer(place: Path) -> None:
    os.mkfifo(place / "f")
    with open_experiment(place) as folder:
        opened = folder.open("f")
        assert isinstance(opened, Blob)
        assert {blob.state for blob in (folder.read("f"), opened)} == {"unsafe"}


def test_a_socket_is_unsafe(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        with open_experiment(place) as folder:
            opened = folder.open("s")
            assert isinstance(opened, Blob)
            assert {blob.state for blob in (folder.read("s"), opened)} == {"unsafe"}


def test_a_device_is_unsafe() -> None:
    with open_experiment("/dev") as folder:
        opened = folder.open("zero")
        assert isinstance(opened, Blob)
        assert {blob.state for blob in (folder.read("zero"), opened)} == {"unsafe"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_or_directory_without_permission_is_unsafe(place: Path) -> None:
    (place / "f").write_text("{}")
    (place / "d").mkdir()
    (place / "f").chmod(0)
    (place / "d").chmod(0)
    try:
        with open_experiment(place) as folder:
            opened = folder.open("d")
            assert isinstance(opened, Blob)
            assert (folder.read("f").state, opened.state) == ("unsafe", "unsafe")
    finally:
        (place / "d").chmod(0o700)


def test_a_directory_where_a_file_belongs_is_malformed(place: Path) -> None:
    (place / "run_result.json").mkdir()
    with open_experiment(place) as folder:
        blob = folder.read("run_result.json")
        assert blob.state == "malformed"
        assert re.match("expected a file, found a directory", blob.reason)
        record = as_record(folder.read("run_result.json"), "run-result")
    assert record.state == "malformed"
    assert record.problems[0].message == "expected a file, found a directory"


def test_a_file_where_a_directory_belongs_is_malformed(place: Path) -> None:
    (place / "agent").write_text("{}")
    with open_experiment(place) as folder:
        opened = folder.open("agent")
    assert isinstance(opened, Blob)
    assert (opened.state, opened.reason) == ("malformed", "expected a directory, found a file")


def test_a_file_of_just_the_bound_is_read_and_one_byte_more_is_unsafe(place: Path) -> None:
    (place / "f").write_bytes(b"x" * 1000)
    assert read(place, "f", max_size=1000).data == b"x" * 1000
    over = read(place, "f", max_size=999)
    assert (over.state, over.data) == ("unsafe", b"")
    assert "999" in over.reason
    assert "1000" in over.reason


def test_the_bound_is_64_mib_unless_told_otherwise(place: Path) -> None:
    with (place / "f").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    assert MAX_FILE_SIZE == 64 * 1024 * 1024
    assert read(place, "f").state == "unsafe"
    assert read(place, "f", max_size=64 * 1024 * 1024 + 1).state == "sound"


@pytest.mark.parametrize(
    "name", ["..", ".", "../secret", "../beside", "a/../..", "/etc/passwd", "/etc", "", "a/b", "a/c"]
)
def test_only_an_entry_of_the_directory_itself_can_be_opened(place: Path, name: str) -> None:
    (place / "a" / "c").mkdir(parents=True)
    (place / "a" / "b").write_text("{}")
    (place.parent / "secret").write_text("{}")
    (place.parent / "beside").mkdir()
    with open_experiment(place) as folder:
        opened = folder.open(name)
        if isinstance(opened, Folder):
            opened.close()
        assert isinstance(opened, Blob)
        assert opened.state in ("absent", "unsafe")
        assert folder.read(name).state in ("absent", "unsafe")


def _put_link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "link": _put_link,
    "FIFO": os.mkfifo,
    "directory": Path.mkdir,
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=REPLACEMENTS.keys())
def test_a_file_replaced_after_the_listing_is_not_read(place: Path, replace: Callable[[Path], object]) -> None:
    (place / "f").write_text("{}")
    with open_experiment(place) as folder:
        (place / "f").unlink()
        replace(place / "f")
        blob = folder.read("f")
    assert blob.state in ("unsafe", "malformed")
    assert blob.data == b""


def test_a_directory_replaced_by_a_link_after_the_listing_is_unsafe(place: Path) -> None:
    (place / "d").mkdir()
    with open_experiment(place) as folder:
        (place / "d").rmdir()
        (place / "d").symlink_to("/etc")
        opened = folder.open("d")
    assert isinstance(opened, Blob)
    assert opened.state == "unsafe"


def test_what_vanishes_after_the_listing_is_absent(place: Path) -> None:
    (place / "f").write_text("{}")
    (place / "d").mkdir()
    with open_experiment(place) as folder:
        (place / "f").unlink()
        (place / "d").rmdir()
        opened = folder.open("d")
        assert isinstance(opened, Blob)
        assert (folder.read("f").state, opened.state) == ("absent", "absent")


@pytest.mark.parametrize("make", [Path.touch, None])
def test_only_a_directory_can_be_an_experiment(tmp_path: Path, make: Callable[[Path], None] | None) -> None:
    if make:
        make(tmp_path / "exp")
    with pytest.raises(OSError, match="exp"):
        open_experiment(tmp_path / "exp")


def test_bytes_that_are_not_utf_8_still_show_as_text() -> None:
    assert Blob("f", "sound", b"a\xffb").text == "a\N{REPLACEMENT CHARACTER}b"


def test_a_record_is_sound_with_unknown_keys_and_windows_line_ends(place: Path) -> None:
    judgment = {"score": 1, "passed": False, "grade": "S", "reasoning": "", "later_key": {"any": [1]}}
    raw = json.dumps(judgment, indent=2).replace("\n", "\r\n").encode()
    (place / "judgment.json").write_bytes(raw)
    record = as_record(read(place, "judgment.json"), "judgment")
    assert record == Record("judgment.json", "sound", judgment, raw=raw)


def test_a_record_says_whether_it_is_absent_unsafe_or_invalid(place: Path) -> None:
    (place / "invalid.json").write_text('{"score": true, "passed": true, "grade": "A", "reasoning": ""}')
    (place / "link.json").symlink_to("invalid.json")
    records = {name: as_record(read(place, f"{name}.json"), "judgment") for name in ("lost", "invalid", "link")}
    assert {name: record.state for name, record in records.items()} == {
        "lost": "absent",
        "invalid": "invalid",
        "link": "unsafe",
    }
    assert not any(record.data or record.sound for record in records.values())
    assert [problem.pointer for problem in records["invalid"].problems] == ["/score"]


# ------------------------------------------------------------------------------------------- descriptors are given back


@pytest.fixture
def open_descriptors() -> Callable[[], int]:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to count open files")
    return lambda: len(os.listdir("/proc/self/fd"))


def test_no_descriptor_is_left_open_whatever_is_opened(place: Path, open_descriptors: Callable[[], int]) -> None:
    (place / "file").write_bytes(b"x" * 100)
    (place / "dir").mkdir()
    (place / "link").symlink_to("file")
    os.mkfifo(place / "fifo")
    before = open_descriptors()
    for _ in range(5):
        with open_experiment(place) as folder:
            for name in ("file", "dir", "link", "fifo", "lost"):
                folder.read(name, 10)
                folder.read(name)
                opened = folder.open(name)
                if isinstance(opened, Folder):
                    opened.close()
                for below in (name, f"dir/{name}", f"{name}/deep/er"):
                    read_below(folder, below)
                    has_directory(folder, below)
        for name in ("file", "lost", "fifo"):
            with pytest.raises(OSError, match=name):
                open_experiment(place / name)
    assert open_descriptors() == before


def test_no_descriptor_is_left_open_by_what_was_replaced_meanwhile(
    place: Path, open_descriptors: Callable[[], int]
) -> None:
    before = open_descriptors()
    for replace in REPLACEMENTS.values():
        (place / "f").write_text("{}")
        with open_experiment(place) as folder:
            (place / "f").unlink()
            replace(place / "f")
            folder.read("f")
        if (place / "f").is_dir():
            (place / "f").rmdir()
        else:
            (place / "f").unlink()
    assert open_descriptors() == before


def test_no_descriptor_is_left_open_by_an_audit_of_a_damaged_experiment(
    experiment_dir: Path, open_descriptors: Callable[[], int]
) -> None:
    run = experiment_dir / "T0" / "00" / "run_01"
    (run / "agent").rename(run / "agent_elsewhere")
    (run / "agent").symlink_to("agent_elsewhere")
    (experiment_dir / "T1" / "01" / "run_02" / "judge" / "judge_01" / "judgment.json").unlink()
    os.mkfifo(experiment_dir / "T1" / "01" / "run_02" / "judge" / "judge_01" / "judgment.json")
    (experiment_dir / "T1" / "02" / "run_01").rename(experiment_dir / "T1" / "02" / "run_09")
    (experiment_dir / "completed" / "T1" / "02").mkdir(parents=True)
    (experiment_dir / "completed" / "T1" / "02" / "run_02").symlink_to("/")
    before = open_descriptors()
    for _ in range(3):
        statuses = {audit.status for audit in pytest_scylla.audit(pytest_scylla.load(experiment_dir))}
    assert open_descriptors() == before
    assert {"completed", "missing", "unsafe"} <= statuses


def test_no_descriptor_is_left_open_by_experiments_that_cannot_be_loaded(
    experiment_dir: Path, open_descriptors: Callable[[], int]
) -> None:
    config = experiment_dir / "config" / "experiment.json"
    before = open_descriptors()
    for content in ("", "{}", "[]"):
        config.write_text(content)
        with pytest.raises(pytest_scylla.ExperimentError):
            pytest_scylla.load(experiment_dir)
    config.unlink()
    config.symlink_to("/dev/zero")
    with pytest.raises(pytest_scylla.ExperimentError):
        pytest_scylla.load(experiment_dir)
    assert open_descriptors() == before


@given(st.text(min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_a_name_that_no_file_can_have_is_absent(name: str) -> None:
    assume("/" not in name)
    with open_experiment(Path(__file__).parent) as folder:
        assume(name not in folder.names())
        assert folder.read(name) == Blob(name, "absent")


def test_reading_works_with_a_small_recursion_limit_left() -> None:
    limit = sys.getrecursionlimit()

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            with pytest.raises(MalformedJSON):
                parse_object('{"a":' * 5000)

    deep(min(limit // 2, 400))
