"""When a limit ends, read off the words in which commands and services tell of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_scylla.calling.limits import JUST_NOW, epoch_time, reset_time

UTC = timezone.utc
EAST = timezone(timedelta(hours=2))
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=EAST)
"""A Tuesday; ten in the morning in UTC."""


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def read(text: str, now: datetime = NOW) -> datetime | None:
    return reset_time(text, now)


# --------------------------------------------------------------------------------------------------------- times of day


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You've hit your limit · resets 2:10pm (Europe/Moscow)", utc(2026, 11, 24, 11, 10)),
        ("You've hit your session limit · resets 3:30am (America/New_York)", utc(2026, 11, 25, 8, 30)),
        ("Limit reached · resets 11:30am (Asia/Calcutta) · /upgrade to get more", utc(2026, 11, 25, 6, 0)),
        ("Claude usage limit reached. Your limit will reset at 10am (America/Lima)", utc(2026, 11, 24, 15, 0)),
        ("Prompt is too long · automatic compaction failed: .. limit · resets 1:30am (UTC)", utc(2026, 11, 25, 1, 30)),
        ("resets 12am (UTC)", utc(2026, 11, 25, 0, 0)),
        ("resets 12pm (UTC)", utc(2026, 11, 24, 12, 0)),
        ("RESETS 4 PM (utc)", utc(2026, 11, 24, 16, 0)),
        ("resets 16:05 (Europe/Berlin)", utc(2026, 11, 24, 15, 5)),
    ],
)
def test_a_time_of_day_is_the_next_one_in_its_zone(text: str, expected: datetime) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5-hour limit reached ∙ resets 2am", utc(2026, 11, 25, 0, 0)),
        ("You've hit your Opus limit · resets 3:45pm", utc(2026, 11, 24, 13, 45)),
        ("You've hit your usage limit. Upgrade, or try again at 12:16 PM.", utc(2026, 11, 24, 10, 16)),
        ("You've hit your usage limit. Try again at 11:59 AM.", None),
        ("You've hit your usage limit. Try again at 11:54 AM.", utc(2026, 11, 25, 9, 54)),
    ],
)
def test_without_a_zone_it_is_in_the_zone_of_now(text: str, expected: datetime | None) -> None:
    assert read(text) == expected


def test_a_time_that_passed_just_now_is_not_taken_for_tomorrows() -> None:
    at = datetime(2026, 11, 24, 3, 30, tzinfo=UTC)
    text = "You've hit your session limit · resets 3:30am (UTC)"
    assert read(text, at - timedelta(seconds=1)) == at
    assert read(text, at) is None
    assert read(text, at + JUST_NOW - timedelta(seconds=1)) is None
    assert read(text, at + JUST_NOW) == at + timedelta(days=1)


@pytest.mark.parametrize("zone", ["Mars/Phobos", "PST8PDT9", "Pacific Time", "../../etc/passwd", "America", "x" * 64])
def test_a_zone_that_is_not_known_gives_no_time_in_another(zone: str) -> None:
    assert read(f"You've hit your limit · resets 4pm ({zone})") is None


def test_an_abbreviation_that_several_zones_share_is_no_zone() -> None:
    assert read("resets 4pm CST") is None
    assert read("resets 4pm UTC") == utc(2026, 11, 24, 16, 0)
    assert read("resets 4pm GMT") == utc(2026, 11, 24, 16, 0)


@pytest.mark.parametrize(
    "text", ["resets 25:00", "resets 12:60", "resets 0am", "resets 13pm", "resets 4", "resets 5 hours"]
)
def test_what_is_no_time_of_day_is_none(text: str) -> None:
    assert read(text) is None


NEW_YORK = ZoneInfo("America/New_York")


def test_a_time_that_the_clock_leaves_out_is_the_one_an_hour_later() -> None:
    """On 8 March 2026 the clocks of New York go from 2:00 to 3:00."""
    assert read("resets 2:30am (America/New_York)", utc(2026, 3, 8, 5, 0)) == utc(2026, 3, 8, 7, 30)


def test_of_a_time_that_comes_twice_the_next_one_counts() -> None:
    """On 1 November 2026 the clocks of New York go from 2:00 back to 1:00."""
    text = "resets 1:30am (America/New_York)"
    assert read(text, utc(2026, 11, 1, 5, 0)) == utc(2026, 11, 1, 5, 30)
    assert read(text, utc(2026, 11, 1, 5, 45)) == utc(2026, 11, 1, 6, 30)
    assert read(text, datetime(2026, 11, 1, 1, 45, tzinfo=NEW_YORK)) == utc(2026, 11, 1, 6, 30)
    assert read(text, utc(2026, 11, 1, 6, 45)) == utc(2026, 11, 2, 6, 30)


# ----------------------------------------------------------------------------------------------------------------- days


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You've hit your weekly limit · resets Mon 12:00am", utc(2026, 11, 29, 22, 0)),
        ("You've hit your weekly limit · resets Wed 9am (UTC)", utc(2026, 11, 25, 9, 0)),
        ("resets Tuesday, 9pm (UTC)", utc(2026, 11, 24, 21, 0)),
        ("resets Tue 9am (UTC)", utc(2026, 12, 1, 9, 0)),
    ],
)
def test_a_weekday_is_the_next_one(text: str, expected: datetime) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You've hit your limit · resets Nov 26 at 4pm (America/Recife)", utc(2026, 11, 26, 19, 0)),
        ("You've hit your limit · resets Jan 18, 11:30am (Asia/Calcutta)", utc(2027, 1, 18, 6, 0)),
        ("You've hit your limit · resets Feb 7, 11am (Asia/Seoul)", utc(2027, 2, 7, 2, 0)),
        ("You've hit your weekly limit · resets Dec 21, 10pm (UTC)", utc(2026, 12, 21, 22, 0)),
        ("resets December 1st, 6am", utc(2026, 12, 1, 4, 0)),
    ],
)
def test_a_day_without_a_year_is_that_of_this_year_or_the_next(text: str, expected: datetime) -> None:
    assert read(text) == expected


def test_a_day_that_lately_passed_is_not_that_of_the_next_year() -> None:
    assert read("resets Nov 23, 6am (UTC)") is None
    assert read("resets Nov 24, 9:59am (UTC)") is None
    assert read("resets Dec 31, 6am (UTC)", utc(2027, 1, 1, 0, 0)) is None
    assert read("resets Jan 1, 6am (UTC)", utc(2026, 12, 31, 23, 0)) == utc(2027, 1, 1, 6, 0)


def test_the_29th_of_february_is_one_of_a_leap_year() -> None:
    assert read("resets Feb 29, 6am (UTC)", utc(2028, 2, 25, 0, 0)) == utc(2028, 2, 29, 6, 0)
    assert read("resets Feb 29, 6am (UTC)", utc(2026, 2, 25, 0, 0)) is None
    assert read("resets Feb 30, 6am (UTC)", utc(2028, 2, 25, 0, 0)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You've hit your usage limit. Try again at Aug 3rd, 2027 5:26 PM.", utc(2027, 8, 3, 15, 26)),
        ("You've hit your usage limit. Try again at Aug 3rd, 2025 5:26 PM.", None),
        ("spend limit reached (daily; resets 2026-12-09 00:00 UTC)", utc(2026, 12, 9, 0, 0)),
        ("spend limit reached (daily; resets 2026-08-09 00:00 UTC)", None),
        ("resets at 2026-12-09T00:00:30Z", utc(2026, 12, 9, 0, 0)),
        ("You will regain access on 2026-12-01 at 00:00 UTC.", utc(2026, 12, 1, 0, 0)),
        ("resets at 2026-12-09T00:00:30.123+05:30", utc(2026, 12, 8, 18, 30)),
        ("resets at 2026-12-09T00:00-0300", utc(2026, 12, 9, 3, 0)),
        ("resets 2026-13-09 00:00 UTC", None),
    ],
)
def test_a_full_date_is_that_one_or_none_where_it_has_passed(text: str, expected: datetime | None) -> None:
    assert read(text) == expected


def test_a_moment_more_than_a_week_ahead_is_told_as_it_is() -> None:
    assert read("spend limit reached (monthly; resets 2027-01-01 00:00 UTC)") == utc(2027, 1, 1, 0, 0)


# ---------------------------------------------------------------------------------------------------- epochs and waits


def test_an_epoch_is_in_seconds_or_milliseconds() -> None:
    assert read("Claude AI usage limit reached|1795615600") == utc(2026, 11, 25, 14, 6, 40)
    assert read("Claude AI usage limit reached|1795615600000") == utc(2026, 11, 25, 14, 6, 40)
    assert read("Claude AI usage limit reached|1755615600") is None


def test_an_epoch_that_no_clock_shows_is_none() -> None:
    assert epoch_time(1795615600.5, NOW) == utc(2026, 11, 25, 14, 6, 40) + timedelta(seconds=0.5)
    assert epoch_time(float("nan"), NOW) is None
    assert epoch_time(float("inf"), NOW) is None
    assert epoch_time(1e300, NOW) is None
    assert epoch_time(-1, NOW) is None
    assert epoch_time(NOW.timestamp(), NOW) is None


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("try again in 2 days 17 hours 14 minutes.", timedelta(days=2, hours=17, minutes=14)),
        ("Rate limit reached for gpt-5.1 in organization. Please try again in 11.054s.", timedelta(seconds=11.054)),
        ("Please try again in 350ms.", timedelta(milliseconds=350)),
        ("Please try again in 1m30s.", timedelta(seconds=90)),
        ("Please retry in 47.5s", timedelta(seconds=47.5)),
        ("Your quota will reset after 4h28m20s.", timedelta(hours=4, minutes=28, seconds=20)),
        ("Suggested retry after 60s.", timedelta(seconds=60)),
        ("resets in 1 hour and 5 min", timedelta(minutes=65)),
        ('"retryDelay": "38s"', timedelta(seconds=38)),
        ('retryDelay: "34.07s"', timedelta(seconds=34.07)),
        ("Retry-After: 30", timedelta(seconds=30)),
        ('{"retry-after": "30"}', timedelta(seconds=30)),
        ("retry-after: Tue, 24 Nov 2026 10:00:45 GMT", timedelta(seconds=45)),
    ],
)
def test_a_wait_counts_from_now(text: str, wait: timedelta) -> None:
    assert read(text) == NOW + wait


@pytest.mark.parametrize(
    "text",
    [
        "",
        "try again later.",
        "Try again in a moment.",
        "try again in 0s",
        "try again in 5 parsecs",
        "try again in 999999999 days",
        "Retry-After: 99999999999",
        "Retry-After: Tue, 99 Nov 2026 10:00:45 GMT",
        "retry-after: Tue, 24 Nov 2026 09:00:45 GMT",
        "API Error: Server is temporarily limiting requests (not your usage limit)",
        "You've reached your Fable limit",
        "the build takes 30s and resets the counter",
    ],
)
def test_words_that_name_no_moment_ahead_give_none(text: str) -> None:
    assert read(text) is None


def test_the_moment_is_told_in_utc() -> None:
    for text in (
        "resets 4pm",
        "resets 4pm (Asia/Tokyo)",
        "limit reached|1795615600",
        "try again in 5s",
        "Retry-After: 5",
    ):
        moment = read(text)
        assert moment is not None
        assert moment.tzinfo is UTC


# ----------------------------------------------------------------------------------------------------------- whatever

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Nowhere/At_All", "Europe/London"]
FRAGMENTS = [
    "resets ", "try again at ", "try again in ", "Retry-After: ", "limit reached|", "reset after ", "Mon ", "Feb 29, ",
    "Aug 3rd, ", "2026 ", "9999-12-31 ", "0001-01-01T", "23:59", "12", ":30", "am", "PM", "Z", "+25:99", "-23:59",
    " UTC", *(f" ({zone})" for zone in ZONES), "999999999 days ", "1.5h", "ms", "1795615600", "9999999999999999", ", ",
]  # fmt: skip
MOMENTS = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.sampled_from([UTC, EAST, NEW_YORK])
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join) | st.text(max_size=60), MOMENTS)
@example("resets 9999-12-31 23:59-23:59", datetime(9999, 12, 30, tzinfo=UTC))
@example("resets 1am (America/New_York)", datetime(9999, 12, 30, tzinfo=EAST))
@example("resets Mon 1am (UTC)", datetime(9999, 12, 30, tzinfo=UTC))
def test_it_never_fails_and_never_tells_of_the_past(text: str, now: datetime) -> None:
    moment = reset_time(text, now)
    assert moment is None or (moment.utcoffset() == timedelta(0) and moment > now)


@given(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(hours=21)),
    st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Europe/London"]),
)
def test_a_time_of_day_within_a_day_is_found_whatever_the_zone(now: datetime, ahead: timedelta, zone: str) -> None:
    moment = (now + ahead).replace(second=0, microsecond=0) + timedelta(minutes=1)
    local = moment.astimezone(ZoneInfo(zone))
    found = reset_time(f"You've hit your limit · resets {local:%I:%M%p} ({zone})", now)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    assert found == moment or (twice and found is not None and abs(found - moment) <= timedelta(hours=1))


@given(
    st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2035, 1, 1), timezones=st.just(EAST)),
    st.integers(1, 180),
)
def test_a_named_day_within_half_a_year_is_found(now: datetime, days: int) -> None:
    day = now + timedelta(days=days)
    found = reset_time(f"resets {day:%b} {day.day}, 6am", now)
    assert found == day.replace(hour=6, minute=0, second=0, microsecond=0)
