"""Indicators hold for any readings: equal to a plain computation, to any chunking, in bounds."""

import hashlib
import math
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.telemetry import CHOICES, REFERENCE, computed, held, random_rows

from clients.indicators.compute import IndicatorTable
from clients.indicators.indicator import Indicator
from clients.indicators.lineage import lineage_path, read_lineage, trace
from clients.indicators.registry import INDICATORS
from clients.indicators.table_file import write_table
from privacy.errors import TacitError

SEEDS = st.integers(0, 2**32 - 1)
HOLD_H = 1.0


def of(frame: pd.DataFrame, chunk_rows: int = 50_000, **wish: Any) -> IndicatorTable:  # noqa: ANN401 - of computed
    with TemporaryDirectory() as folder:
        return computed(frame, Path(folder), chunk_rows=chunk_rows, **wish)


@cache
def written_lineage() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        table = of(random_rows(np.random.default_rng(0), rows=5, devices=1))
        written = write_table(table, path)
        facts = written.lineage.table.model_copy(
            update={"digest": hashlib.sha256(b"device,utilisation\nd00,0.5\n").hexdigest()}
        )
        return written.lineage.model_copy(update={"table": facts}).bytes


def same(left: IndicatorTable, right: IndicatorTable) -> bool:
    """Bit by bit."""
    return left.devices == right.devices and all(
        left.columns[key].tobytes() == right.columns[key].tobytes() for key in left.columns
    )


def test_every_indicator_has_a_reference() -> None:
    assert set(REFERENCE) == set(INDICATORS)
    assert {name for one in INDICATORS.values() for name in one.inputs} == set(CHOICES)


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(1, 40), st.sampled_from([0.0, 0.1, 0.6]))
def test_what_is_streamed_is_what_a_plain_reading_gives(
    seed: int, rows: int, missing: float
) -> None:
    frame = random_rows(np.random.default_rng(seed), rows=rows, missing=missing)
    table = of(frame)
    assert set(table.columns) == set(INDICATORS)
    for place, device in enumerate(table.devices):
        own = frame[frame["device"] == device]
        for key, reference in REFERENCE.items():
            steps = held(own, INDICATORS[key].inputs, HOLD_H)
            wanted = reference(steps) if steps else math.nan
            got = float(table.columns[key][place])
            tolerance = 5e-3 if key == "night_share@1" else 1e-9
            assert got == pytest.approx(wanted, rel=tolerance, abs=tolerance, nan_ok=True), key


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 40), st.booleans())
def test_where_chunks_end_changes_no_bit(
    seed: int, rows: int, chunk_rows: int, windowed: bool
) -> None:
    frame = random_rows(np.random.default_rng(seed), rows=rows)
    wish: dict[str, Any] = {"window": "5h"} if windowed else {}
    whole, cut = of(frame, **wish), of(frame, chunk_rows=chunk_rows, **wish)
    assert same(whole, cut)
    assert whole.rows == cut.rows  # digests of rows too


@settings(max_examples=12, deadline=None)
@given(SEEDS, st.integers(1, 30), st.integers(1, 12))
def test_neither_order_within_a_moment_nor_repeats_change_a_bit(
    seed: int, rows: int, chunk_rows: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = random_rows(rng, rows=rows)
    again = pd.concat([frame, frame.sample(frac=0.3, random_state=seed % 1000)])
    shuffled = again.sample(frac=1, random_state=seed % 1000)
    other = shuffled.sort_values(["time"], kind="stable").reset_index(drop=True)
    assert same(of(frame), of(other, chunk_rows))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_lineage_of_any_bytes_is_read_or_refused_in_a_sentence(data: st.DataObject) -> None:
    raw = written_lineage()
    place = data.draw(st.integers(0, len(raw) - 1))
    what = data.draw(st.sampled_from([b"", b"0", b'"', b"}", b"-1", b"null", b"\xff", b"1e999"]))
    with TemporaryDirectory() as folder:
        table = Path(folder) / "t.csv"
        table.write_bytes(b"device,utilisation\nd00,0.5\n")
        lineage_path(table).write_bytes(raw[:place] + what + raw[place + 1 :])
        with suppress(TacitError):
            assert read_lineage(table).table.digest
            trace(table, "d00")


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(1, 40))
def test_values_stay_within_the_bounds_that_are_declared(seed: int, rows: int) -> None:
    table = of(random_rows(np.random.default_rng(seed), rows=rows))
    for key, values in table.columns.items():
        one, seen = INDICATORS[key], values[~np.isnan(values)]
        assert np.isfinite(seen).all()
        assert (seen >= one.low).all(), key
        assert one.high is None or (seen <= one.high).all(), key


@cache
def many_devices() -> pd.DataFrame:
    """Short records of many devices, one row a moment."""
    frame = random_rows(np.random.default_rng(2), rows=8, devices=50)
    return frame.drop_duplicates(["device", "time"], ignore_index=True)


CLAIMS = [
    (one, name, sign)
    for one in INDICATORS.values()
    for names, sign in ((one.rises_with, 1), (one.falls_with, -1))
    for name in names
]


@pytest.mark.parametrize(
    ("one", "name", "sign"), CLAIMS, ids=[f"{one.name}-{name}-{sign}" for one, name, sign in CLAIMS]
)
def test_a_growing_input_moves_an_indicator_as_it_declares(
    one: Indicator, name: str, sign: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    frame = many_devices()
    moved = 0
    for _ in range(2):
        grown = frame.copy()
        bigger = rng.choice(np.array(CHOICES[name]), len(frame))
        grown[name] = np.fmax(frame[name], bigger).where(frame[name].notna())
        before = computed(frame, tmp_path, one.name).columns[one.key]
        after = computed(grown, tmp_path, one.name).columns[one.key]
        both = ~np.isnan(before) & ~np.isnan(after)
        step = sign * (after - before)[both]
        assert (step >= -1e-9 * np.abs(before[both])).all()
        moved += int((step > 0).sum())
    assert moved > 0  # else the claim was never put to a test


def test_the_claims_test_would_see_a_false_claim(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = random_rows(rng, rows=30).drop_duplicates(["device", "time"], ignore_index=True)
    grown = frame.assign(load_share=frame["load_share"] + 0.2)
    before = computed(frame, tmp_path, "idle_ratio").columns["idle_ratio@1"]
    after = computed(grown, tmp_path, "idle_ratio").columns["idle_ratio@1"]
    assert (after < before).any()
