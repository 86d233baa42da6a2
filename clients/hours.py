"""When a node lets runs start: days and times of the day, in one time zone."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator

from clients.frozen import Frozen

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTES: Final = 24 * 60
_CLOCK: Final = re.compile(r"([0-9]{1,2}):([0-5][0-9])")


def _minutes(value: object) -> object:
    """Minutes since midnight; YAML reads an unquoted 18:00 as the number 1080 by itself."""
    if isinstance(value, str):
        found = _CLOCK.fullmatch(value)
        if found is None:
            raise ValueError("expected a time of the day such as 08:00")
        return 60 * int(found[1]) + int(found[2])
    return value


Minute = Annotated[int, BeforeValidator(_minutes), Field(ge=0, le=_MINUTES)]


class Hours(Frozen):
    """When runs may start; a span that ends before it begins goes on past midnight.

    Attributes:
        days: Days on which a span begins; empty: never.
        start: Minutes since midnight (`from: 08:00`).
        until: Minutes since midnight; 24:00 is the end of the day.
        zone: Time zone, such as `Asia/Shanghai`; daylight saving follows from it.
        pause_outside: Whether runs under way also wait outside of these hours: no new vector is
            made, while what was begun is brought to its end.
    """

    days: tuple[Day, ...] = WEEK
    start: Minute = Field(default=0, alias="from")
    until: Minute = _MINUTES
    zone: str = "UTC"
    pause_outside: bool = False

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        _zone(zone)
        return zone

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.start == self.until:
            raise ValueError("from and until are the same time; leave both out for the whole day")
        if self.start == _MINUTES:
            raise ValueError("from: a day begins at 00:00")
        return self

    @property
    def ever(self) -> bool:
        """Whether there is any time at all."""
        return bool(self.days)

    def open_at(self, now: datetime) -> bool:
        """Whether a run may start at `now` (with a time zone)."""
        local = now.astimezone(_zone(self.zone))
        minute = 60 * local.hour + local.minute
        today = WEEK[local.weekday()] in self.days
        if self.start < self.until:
            return today and self.start <= minute < self.until
        yesterday = WEEK[(local.weekday() - 1) % 7] in self.days
        return (today and minute >= self.start) or (yesterday and minute < self.until)

    def next_opening(self, now: datetime) -> datetime | None:
        """When runs may start next, in this zone; `now` itself while they may, None for never."""
        local = now.astimezone(_zone(self.zone))
        if self.open_at(now):
            return local
        return next((start for start in self._starts(local.date()) if start > now), None)

    def _starts(self, today: date) -> Iterator[datetime]:
        zone = _zone(self.zone)
        for ahead in range(9):
            day = today + timedelta(days=ahead)
            if WEEK[day.weekday()] in self.days:
                at = datetime.combine(day, time(self.start // 60, self.start % 60), tzinfo=zone)
                # a time that the clocks leave out that day is told as the one that they show then
                yield at.astimezone(UTC).astimezone(zone)

    def sentence(self) -> str:
        """For people."""
        if not self.days:
            return "never"
        span = f"{_clock(self.start)} to {_clock(self.until)} {self.zone}"
        return span if self.days == WEEK else f"{', '.join(self.days)} {span}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # known also where no time zones are installed
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name} is no time zone that is known here; write one such as Europe/Berlin"
        ) from None
