"""Waivers: what may stay as it is, for a reason and until a day, in a file outside of the experiment.

The file is YAML of the plainest kind, a list of mappings of texts; whatever else YAML knows is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from ..experiment.layout import run_named_in
from ..experiment.wording import describe, printable
from ..outcomes import WHOLES, Selection
from .given import GivenFile

MAX_SIZE = 1024 * 1024
"""The largest waivers file, in bytes."""

_KEYS = ("item", "reason", "until")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_QUOTE = 'a glob that begins with * or [ has to stand in quotes, as in item: "*/judge_01"'
_QUOTE_COLON = 'a text with a colon and a space in it has to stand in quotes, as in reason: "gone: see the log"'

_SOUND = ("passed", "repaired")

Fault = Literal["expired", "unused"]


class WaiverError(Exception):
    """A waivers file that cannot be used; ``str()`` is one line: file, line, what is wrong, and what is expected."""

    def __init__(self, file: str, line: int, message: str) -> None:
        super().__init__(f"{printable(file)}:{line}: {message}")


@dataclass(frozen=True, slots=True)
class Waiver:
    """One waiver. ``item`` is a glob on item ids; ``until`` is the last day, in UTC, on which it holds.

    ``line`` is where it begins in its file, from 1.
    """

    item: str
    reason: str
    until: date
    line: int

    def as_data(self) -> list[Any]:
        """The waiver as plain data, for the way to a worker."""
        return [self.item, self.reason, self.until.isoformat(), self.line]

    @classmethod
    def from_data(cls, data: Sequence[Any]) -> Waiver:
        """The reverse of :meth:`as_data`."""
        item, reason, until, line = data
        return cls(item, reason, date.fromisoformat(until), line)


@dataclass(frozen=True, slots=True)
class WaiverUse:
    """What came of a waiver: how many items it waives, and what is wrong with it, if anything.

    ``matched`` are all the items that its glob matches, ``earlier`` the lines of the waivers before it that take those
    of them that are not sound, where it is unused because of them.
    """

    waiver: Waiver
    file: str
    waived: int
    matched: int
    fault: Fault | None
    earlier: tuple[int, ...] = ()

    @property
    def problem(self) -> str:
        """What is wrong, and what to do; "" where nothing is."""
        item = describe(self.waiver.item)
        if self.fault == "expired":
            return f"{item} was waived until {self.waiver.until}: put it right, or set another day"
        if self.fault == "unused" and self.earlier:
            lines = ", ".join(map(str, self.earlier))
            waive = f"line {lines} already waives" if len(self.earlier) == 1 else f"lines {lines} already waive"
            return f"{item}: {waive} what it matches: remove one"
        if self.fault == "unused" and not self.matched and (meant := _id_meant_by(self.waiver.item)):
            return f"{item} matches nothing: name the item by its id, {printable(meant)}, or remove it"
        if self.fault == "unused":
            sound = (
                "1 item, which is sound" if self.matched == 1 else f"{self.matched} items, and all of them are sound"
            )
            return f"{item} matches {sound if self.matched else 'nothing'}: remove it"
        return ""

    @property
    def place(self) -> str:
        """The file and the line."""
        return f"{printable(self.file)}:{self.waiver.line}"

    def as_data(self) -> dict[str, Any]:
        """The same under the names of the report."""
        return {
            "line": self.waiver.line,
            "item": self.waiver.item,
            "reason": self.waiver.reason,
            "until": self.waiver.until.isoformat(),
            "waived": self.waived,
            "fault": self.fault,
        }


class Waivers:
    """The waivers of a session. ``today`` is the same day for all of it, in UTC."""

    def __init__(self, file: str, waivers: Iterable[Waiver], today: date) -> None:
        self.file = file
        self.today = today
        self._selections = [(waiver, Selection((waiver.item,))) for waiver in waivers]
        self._holding = [(waiver, items) for waiver, items in self._selections if waiver.until >= today]

    def waiver_of(self, item_id: str) -> Waiver | None:
        """The waiver of an item, the first in the file; ``None`` where no waiver holds that matches."""
        return next((waiver for waiver, items in self._holding if item_id in items), None)

    def reason_of(self, item_id: str) -> str:
        """Why an item is waived, with the place and the last day; "" where it is not."""
        waiver = self.waiver_of(item_id)
        if waiver is None:
            return ""
        return f"{waiver.reason} ({printable(self.file)}:{waiver.line}, until {waiver.until})"

    def uses(self, experiments: Sequence[Mapping[str, str]]) -> Iterator[tuple[WaiverUse, ...]]:
        """What came of every waiver: of each experiment its own, with the faults that they have in all together.

        :param experiments: the outcomes of every item of each, by id; "" where nobody looked. Only a waiver is unused
            of which every item is known to be sound, or is waived by an earlier one.
        """
        matched = {
            waiver: [[(item_id, word) for item_id, word in known.items() if item_id in items] for known in experiments]
            for waiver, items in self._selections
        }
        for index in range(len(experiments)):
            yield tuple(self._use(waiver, found, index) for waiver, found in matched.items())

    def _use(self, waiver: Waiver, matched: list[list[tuple[str, str]]], index: int) -> WaiverUse:
        count = sum(map(len, matched))
        if waiver.until < self.today:
            return WaiverUse(waiver, self.file, 0, count, "expired")
        takers = [self.waiver_of(item_id) for found in matched for item_id, word in found if word not in _SOUND]
        if waiver not in takers:
            earlier = sorted({taker.line for taker in takers if taker is not None})
            return WaiverUse(waiver, self.file, 0, count, "unused", tuple(earlier))
        waived = sum(word == "waived" and self.waiver_of(item_id) is waiver for item_id, word in matched[index])
        return WaiverUse(waiver, self.file, waived, count, None)


def _id_meant_by(item: str) -> str:
    """The id of the item that a node id or a path names; "" where it names none."""
    path, _, name = item.replace("\\", "/").partition("::")
    if name in WHOLES:
        return name
    run = run_named_in(path)
    if run is None:
        return ""
    item_id = path[path.rindex(run) :]
    return item_id if name in ("", "run") else f"{item_id}/{name}"


def read_waivers(file: GivenFile) -> tuple[Waiver, ...]:
    """Read a waivers file.

    :raises WaiverError: it cannot be read, or holds anything but waivers.
    """
    blob = file.read(MAX_SIZE)
    if blob.state != "sound":
        raise WaiverError(file.shown, 1, blob.reason)
    try:
        text = blob.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = blob.data.count(b"\n", 0, error.start) + 1
        raise WaiverError(file.shown, line, "expected UTF-8, found another byte") from None
    return parse_waivers(text, file.shown)


def parse_waivers(text: str, file: str) -> tuple[Waiver, ...]:
    """Read the text of a waivers file; ``file`` is its name, for messages. An empty one holds no waivers.

    :raises WaiverError: it holds anything but waivers.
    """
    import yaml  # 20 ms, which a session without waivers does not pay

    try:
        return tuple(_Reader(yaml, text, file).waivers())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = f": {_QUOTE}" if "alias" in (error.context or "") else ""
        if error.problem == "mapping values are not allowed here":
            hint = f": {_QUOTE_COLON}"
        raise WaiverError(file, line, f"{printable(error.problem or 'expected YAML')}{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise WaiverError(file, line, "expected printable text, found a control character") from None


class _Reader:
    """Reads waivers from a YAML file's events, one after the other, so that nothing is built that is not wanted."""

    def __init__(self, yaml: Any, text: str, file: str) -> None:
        self._yaml = yaml
        self._loader = yaml.SafeLoader(text)
        self._file = file

    def waivers(self) -> Iterator[Waiver]:
        """The waivers, in their order."""
        yaml, loader = self._yaml, self._loader
        lines: dict[str, int] = {}
        loader.get_event()
        if not loader.check_event(yaml.DocumentStartEvent):
            return
        loader.get_event()
        if self._is_empty():
            loader.get_event()
        else:
            self._expect(yaml.SequenceStartEvent, "a list of waivers")
            while not loader.check_event(yaml.SequenceEndEvent):
                waiver = self._waiver()
                if waiver.item in lines:
                    first = lines[waiver.item]
                    message = f"expected every item once, found {describe(waiver.item)} in line {first} as well"
                    raise WaiverError(self._file, waiver.line, message)
                lines[waiver.item] = waiver.line
                yield waiver
            loader.get_event()
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise WaiverError(self._file, self._line(loader.peek_event()), "expected one document, found another")

    def _is_empty(self) -> bool:
        event = self._loader.peek_event()
        return isinstance(event, self._yaml.ScalarEvent) and event.value == "" and bool(event.implicit[0])

    def _waiver(self) -> Waiver:
        yaml = self._yaml
        line = self._line(self._expect(yaml.MappingStartEvent, f"a mapping with {_listed(_KEYS)}"))
        found: dict[str, tuple[str, int]] = {}
        while not self._loader.check_event(yaml.MappingEndEvent):
            key, place = self._text()
            if key not in _KEYS or key in found:
                raise WaiverError(self._file, place, f"expected {_listed(_KEYS)}, each once, found {describe(key)}")
            found[key] = self._text(day=key == "until")
        self._loader.get_event()
        for key in _KEYS:
            text, place = found.get(key, ("", line))
            if not text.strip():
                raise WaiverError(self._file, place, f"expected {_listed(_KEYS)}, found no {key}")
        if not found["item"][0].isprintable():
            message = f"expected a glob on ids, found {describe(found['item'][0])}"
            raise WaiverError(self._file, found["item"][1], message)
        return Waiver(found["item"][0], printable(found["reason"][0].strip()), self._day(*found["until"]), line)

    def _text(self, *, day: bool = False) -> tuple[str, int]:
        """The next text and its line; one that is plain has to be a text for every reader of YAML, or a ``day``.

        It may be empty.
        """
        event = self._expect(self._yaml.ScalarEvent, "a text")
        if event.implicit[0] and event.value:
            tag = self._loader.resolve(self._yaml.ScalarNode, event.value, (True, False)).rpartition(":")[2]
            if tag not in (("str", "timestamp") if day else ("str",)):
                message = f"expected a text, found {describe(event.value)}, which is none in YAML: put it in quotes"
                raise WaiverError(self._file, self._line(event), message)
        return str(event.value), self._line(event)

    def _day(self, text: str, line: int) -> date:
        try:
            if _DAY.fullmatch(text):
                return date.fromisoformat(text)
        except ValueError:
            pass
        raise WaiverError(self._file, line, f"expected until to be a day such as 2026-12-31, found {describe(text)}")

    def _expect(self, kind: type[Any], what: str) -> Any:
        event = self._loader.peek_event()
        line = self._line(event)
        if isinstance(event, self._yaml.AliasEvent):
            raise WaiverError(self._file, line, f"expected {what}, found an alias: {_QUOTE}")
        if getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None:
            raise WaiverError(self._file, line, f"expected {what}, found an anchor or a tag: waivers have neither")
        if not isinstance(event, kind):
            begins = type(event).__name__.removesuffix("StartEvent").removesuffix("Event")
            found = {"Sequence": "a list", "Mapping": "a mapping", "Scalar": "a text"}.get(begins, "nothing")
            hint = f": {_QUOTE}" if begins == "Sequence" and kind is self._yaml.ScalarEvent else ""
            raise WaiverError(self._file, line, f"expected {what}, found {found}{hint}")
        return self._loader.get_event()

    def _line(self, event: Any) -> int:
        return int(event.start_mark.line) + 1


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
