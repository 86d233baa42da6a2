"""When runs may start: days, times past midnight, clocks that are put forward and back."""

from datetime import UTC, datetime, timedelta

import pytest

from clients.frozen import parse_yaml
from clients.hours import Hours
from clients.policy import NodePolicy
from privacy.errors import InputError


def hours(text: str) -> Hours:
    return parse_yaml(NodePolicy, f"hours: {text}", "policy.yaml").hours


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_a_word_it_is_always_open() -> None:
    assert all(Hours().open_at(at("2026-03-02") + timedelta(hours=7 * n)) for n in range(40))


@pytest.mark.parametrize(
    ("when", "open_"),
    [
        ("2026-03-02 07:59", False),  # a Monday
        ("2026-03-02 08:00", True),
        ("2026-03-02 17:59", True),
        ("2026-03-02 18:00", False),
        ("2026-03-03 12:00", False),
    ],
)
def test_a_span_holds_its_start_and_not_its_end(when: str, open_: bool) -> None:
    assert hours("{days: [mon, fri], from: 8:00, until: 18:00}").open_at(at(when)) is open_


@pytest.mark.parametrize(
    ("when", "open_"),
    [
        ("2026-03-02 21:59", False),
        ("2026-03-02 22:00", True),  # Monday evening
        ("2026-03-03 05:59", True),  # of Monday's span
        ("2026-03-03 06:00", False),
        ("2026-03-03 22:00", False),  # Tuesday is no day of it
        ("2026-03-02 03:00", False),  # Sunday's span there is not
    ],
)
def test_a_span_past_midnight_belongs_to_the_day_on_which_it_began(when: str, open_: bool) -> None:
    assert hours("{days: [mon], from: '22:00', until: '06:00'}").open_at(at(when)) is open_


def test_times_are_of_the_zone_and_follow_its_summer_time() -> None:
    berlin = hours("{from: 08:00, until: 09:00, zone: Europe/Berlin}")
    assert berlin.open_at(at("2026-01-15 07:30"))  # UTC+1
    assert not berlin.open_at(at("2026-07-15 07:30"))  # UTC+2
    assert berlin.open_at(at("2026-07-15 06:30"))


def test_the_next_opening_is_told_in_the_zone_and_is_one() -> None:
    shanghai = hours("{days: [mon], from: 9:30, until: 12:00, zone: Asia/Shanghai}")
    opening = shanghai.next_opening(at("2026-03-02 05:00"))  # Monday 13:00 there: over
    assert opening is not None
    assert opening.isoformat() == "2026-03-09T09:30:00+08:00"
    assert shanghai.open_at(opening)
    assert not shanghai.open_at(opening - timedelta(minutes=1))


def test_a_time_that_the_clocks_leave_out_opens_after_the_gap() -> None:
    berlin = hours("{from: 02:30, until: 04:00, zone: Europe/Berlin}")
    opening = berlin.next_opening(at("2026-03-28 20:00"))  # at 02:00 it becomes 03:00
    assert opening is not None
    assert opening.isoformat() == "2026-03-29T03:30:00+02:00"
    assert berlin.open_at(opening)


def test_no_days_never_open() -> None:
    never = hours("{days: []}")
    assert not never.ever
    assert never.next_opening(at("2026-03-02")) is None
    assert not never.open_at(at("2026-03-02"))


def test_open_now_is_the_next_opening() -> None:
    now = at("2026-03-02 10:00")
    assert hours("{from: 08:00, until: 18:00}").next_opening(now) == now


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{from: '8'}", "hours.from: expected a time of the day such as 08:00."),
        ("{from: '08:60'}", "hours.from: expected a time of the day such as 08:00."),
        ("{from: 25:00}", "hours.from: should be less than or equal to 1440."),
        ("{from: '24:00', until: 3:00}", "hours: from: a day begins at 00:00."),
        ("{from: 8:00, until: 8:00}", "hours: from and until are the same time"),
        ("{days: [monday]}", "hours.days[0]: expected mon, tue"),
        ("{zone: Mars/Base}", "hours.zone: Mars/Base is no time zone that is known here"),
        ("{zone: ../../etc/passwd}", "is no time zone that is known here"),
        ("{till: 3}", "hours: unknown key till; did you mean until?"),
    ],
)
def test_what_is_no_time_is_told(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as fault:
        hours(text)
    assert sentence in str(fault.value)


def test_sentences_for_people() -> None:
    assert Hours().sentence() == "00:00 to 24:00 UTC"
    assert hours("{days: [sat], from: 8:00}").sentence() == "sat 08:00 to 24:00 UTC"
    assert hours("{days: []}").sentence() == "never"
