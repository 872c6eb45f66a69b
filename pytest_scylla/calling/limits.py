"""When a limit ends, by the words in which a command line or a service tells of it.

They name a moment (``resets 4pm (America/Los_Angeles)``), a wait (``try again in 11.054s``) or an epoch
(``limit reached|1755615600``). A time of day in no zone is one in the zone of ``now``; in a zone that is not known
here, it is none at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from zoneinfo import ZoneInfo

JUST_NOW = timedelta(minutes=5)
"""A time of day that passed no longer ago is not tomorrow's: the limit ended while its message was under way."""

_FLAGS = re.IGNORECASE | re.ASCII

_EPOCH = re.compile(r"\blimit reached\|(\d{9,16})\b", _FLAGS)

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MOMENT = re.compile(
    rf"""
    \b (?: reset(?:s|ting)? (?: \s+ (?:at|on) )? | (?: try \s+ again | retry | regain \s+ access ) \s+ (?:at|on) ) \s+
    (?:
        (?P<iso> \d{{4}}-\d\d-\d\d ) (?: T | \s+ (?: at \s+ )? )
      | (?P<weekday> {"|".join(_WEEKDAYS)} ) [a-z]{{0,6}} ,? \s+ (?: at \s+ )?
      | (?P<month> {"|".join(_MONTHS)} ) [a-z]{{0,6}} \.? \s+ (?P<day> \d{{1,2}} ) (?:st|nd|rd|th)?
        (?: ,? \s+ (?P<year> \d{{4}} ) \b )? ,? \s+ (?: at \s+ )?
    )?
    (?P<hour> \d{{1,2}} ) (?: : (?P<minute> \d\d ) (?: :\d\d (?: \.\d{{1,9}} )? )? )? \s{{0,3}} (?P<half> [ap]m )?
    (?: (?P<offset> [+-]\d\d:?\d\d )
      | \s{{0,3}} (?P<zulu> (?-i:[A-Z]{{1,5}}) ) \b
      | \s{{0,3}} \( \s{{0,3}} (?P<zone> [^()\s]{{1,64}} (?: \s [^()\s]{{1,64}} ){{0,3}} ) \s{{0,3}} \)
      | (?! \w )
    )
    """,
    _FLAGS | re.VERBOSE,
)

_RETRY_DATE = re.compile(r"\bretry-after[\"']?\s{0,3}[:=]\s{0,3}[\"']?([a-z]{3}, [\w :]{10,30})", _FLAGS)
_RETRY_SECONDS = re.compile(r"\bretry-after[\"']?\s{0,3}[:=]\s{0,3}[\"']?(\d{1,9})(?![\w.:-])", _FLAGS)

_UNITS = {
    "millisecond": timedelta(milliseconds=1),
    "ms": timedelta(milliseconds=1),
    "sec": timedelta(seconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_AMOUNT = (
    r"(\d{1,9}(?:\.\d{1,12})?)\s{0,3}"
    r"(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)(?![a-z])"
)
_AMOUNTS = re.compile(_AMOUNT, _FLAGS)
_WAIT = re.compile(
    r"\b(?:try\s+again\s+in|retry(?:ing)?\s+(?:in|after)|resets?\s+(?:in|after)|retry-?delay|retry-after)"
    rf"[\"']?\s{{0,3}}[:=]?\s{{0,3}}[\"']?(?P<amounts>(?:{_AMOUNT}[\s,]{{0,3}}(?:and\s)?){{1,6}})",
    _FLAGS,
)


def reset_time(text: str, now: datetime) -> datetime | None:
    """When the limit ends that ``text`` tells of, in UTC and after ``now``; ``None`` where it does not say.

    ``now`` has a time zone. A time of day, or of a weekday, is the next such one, unless it was just now; a day
    without a year is that of the nearest year. A moment that has passed is none.

    >>> now = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
    >>> reset_time("You've hit your limit · resets 4pm (America/Lima)", now).isoformat()
    '2026-11-24T21:00:00+00:00'
    """
    for pattern, read in _READERS:
        if found := pattern.search(text):
            try:
                moment = read(found, now)
            except (ValueError, OverflowError):  # no such day or hour, or beyond what a datetime holds
                continue
            if moment is not None and moment > now:
                return moment
    return None


def epoch_time(value: float, now: datetime) -> datetime | None:
    """The moment so many seconds, or milliseconds, after the epoch, in UTC; ``None`` where that is not after ``now``.

    ``now`` has a time zone.
    """
    try:
        moment = datetime.fromtimestamp(value / 1000 if value >= 1e11 else value, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment if moment > now else None


def _epoch(found: re.Match[str], now: datetime) -> datetime | None:
    return epoch_time(int(found[1]), now)


def _moment(found: re.Match[str], now: datetime) -> datetime | None:
    if found["minute"] is None and found["half"] is None:
        return None
    zone = _zone(found, now)
    if zone is None:
        return None
    at = time(_hour(int(found["hour"]), found["half"]), int(found["minute"] or 0))
    today = now.astimezone(zone).date()
    if found["iso"]:
        return _in_utc(date.fromisoformat(found["iso"]), at, zone)
    if found["month"]:
        month, day = _MONTHS.index(found["month"].lower()) + 1, int(found["day"])
        if found["year"]:
            return _in_utc(date(int(found["year"]), month, day), at, zone)
        return _nearest(_of_years(range(today.year - 1, today.year + 2), month, day), at, zone, now)
    days = [today + timedelta(days=ahead) for ahead in range(8)]
    if found["weekday"]:
        days = [day for day in days if day.weekday() == _WEEKDAYS.index(found["weekday"].lower())]
    return _next(days, at, zone, now)


def _hour(hour: int, half: str | None) -> int:
    """The hour of the day of one that may be named in halves.

    :raises ValueError: there is no such hour.
    """
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(hour)
    return hour % 12 + (12 if half.lower() == "pm" else 0)


def _zone(found: re.Match[str], now: datetime) -> tzinfo | None:
    """The time zone that a moment is told in; ``None`` where nothing here knows it."""
    if found["offset"]:
        sign = -1 if found["offset"].startswith("-") else 1
        return timezone(sign * timedelta(hours=int(found["offset"][1:3]), minutes=int(found["offset"][-2:])))
    name = found["zone"] or found["zulu"]
    if name is None:
        return now.tzinfo
    if name.upper() in ("UTC", "GMT", "Z"):
        return timezone.utc
    if found["zulu"]:
        return None  # an abbreviation such as CST means several zones
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _of_years(years: Iterable[int], month: int, day: int) -> list[date]:
    found = []
    for year in years:
        try:
            found.append(date(year, month, day))
        except ValueError:  # the 29th of February
            continue
    return found


def _nearest(days: list[date], at: time, zone: tzinfo, now: datetime) -> datetime | None:
    moments = [_in_utc(day, at, zone) for day in days]
    return min(moments, key=lambda moment: abs(moment - now), default=None)


def _next(days: list[date], at: time, zone: tzinfo, now: datetime) -> datetime | None:
    for day in days:
        for fold in (0, 1):  # where the clock is set back, a time of day comes twice
            moment = _in_utc(day, at.replace(fold=fold), zone)
            if moment > now:
                return moment
            if moment > now - JUST_NOW:
                return None
    return None


def _in_utc(day: date, at: time, zone: tzinfo) -> datetime:
    # Two moments of one zone would be compared by what its clocks show, which is the same for two where they are set
    # back.
    return datetime.combine(day, at, zone).astimezone(timezone.utc)


def _retry_date(found: re.Match[str], now: datetime) -> datetime | None:
    moment = parsedate_to_datetime(found[1])
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _retry_seconds(found: re.Match[str], now: datetime) -> datetime | None:
    return now.astimezone(timezone.utc) + timedelta(seconds=int(found[1]))


def _wait(found: re.Match[str], now: datetime) -> datetime | None:
    total = timedelta()
    for number, unit in _AMOUNTS.findall(found["amounts"]):
        total += float(number) * next(length for name, length in _UNITS.items() if unit.lower().startswith(name))
    return now.astimezone(timezone.utc) + total


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], datetime], datetime | None]], ...] = (
    (_EPOCH, _epoch),
    (_MOMENT, _moment),
    (_RETRY_DATE, _retry_date),
    (_RETRY_SECONDS, _retry_seconds),
    (_WAIT, _wait),
)
"""What to look for, in this order; the first that gives a moment tells when."""
