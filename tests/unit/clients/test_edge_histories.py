"""What a device said, held within bounds; numbers without end are told, not scored."""

import pytest
from support import bundles

from clients.scoring.history import Histories
from clients.scoring.rows import RowReader
from privacy.errors import DataError

SAID = {"running": 1.0, "load_share": 0.5}


def histories(**more: int) -> Histories:
    plan = bundles.readings_bundle("load_share@1").readings
    assert plan is not None
    return Histories(plan, **more)


def test_a_device_whose_readings_were_counted_early_is_scored_as_any_other() -> None:
    held, free = histories(readings=4), histories()
    for one in (held, free):
        for device in ("a", "b"):
            for hour in range(3):
                one.add(device, float(hour), SAID, at=f"{device}, {hour}")
    assert held.now("a") == free.now("a")
    assert held.now("b") == free.now("b")


def test_a_time_or_a_reading_without_end_is_one_sentence() -> None:
    one = histories()
    one.add("a", 0.0, SAID, at="line 1")
    with pytest.raises(DataError, match="too large"):
        one.add("a", float("inf"), SAID, at="line 2")


@pytest.mark.parametrize("line", [b'{"id": "\\ud800"}\n', b"\xff\xfe\n"])
def test_what_is_no_text_is_told_with_its_line(line: bytes) -> None:
    reader = RowReader("rows", "jsonl")
    with pytest.raises(DataError, match=r"rows, line 1"):
        list(reader.rows(line))
