"""What a device said, held within bounds; numbers without end are told, not scored."""

import pytest
from support import bundles

from clients.scoring import history
from clients.scoring.history import Histories
from clients.scoring.rows import RowReader
from privacy.errors import DataError, RefusedError

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


def test_the_more_indicators_the_fewer_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_INDICATORS", 7)
    plan = bundles.readings_bundle("load_share@1", "utilisation@1").readings
    assert plan is not None
    one = Histories(plan)
    for device in "abc":
        one.add(device, 0.0, SAID, at="here")
    with pytest.raises(RefusedError, match="More than 3 devices"):
        one.add("d", 0.0, SAID, at="here")


@pytest.mark.parametrize("line", [b'{"id": "\\ud800"}\n', b"\xff\xfe\n"])
def test_what_is_no_text_is_told_with_its_line(line: bytes) -> None:
    reader = RowReader("rows", "jsonl")
    with pytest.raises(DataError, match=r"rows, line 1"):
        list(reader.rows(line))
