"""How long does one score take on a device, indicators and all? Milliseconds, one core.

Each figure is over readings of one device that come one by one; each of them is taken in, the
indicators are brought up to date, and the device is scored with its reasons. `logged` adds the
signed line and its two files on disk, for batches of one. `cpu` is the process's own time: on a
machine that does other things at once it is what the work takes, and wall time is what it waits.

python experiments/edge/run.py
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from clients.indicators.quantity import QUANTITIES
from clients.indicators.registry import INDICATORS
from clients.scoring.additive import AdditiveScorer, NumberCurve
from clients.scoring.bundle import Bundle, ContractName, ShortCard
from clients.scoring.bundle_file import bundle_bytes, open_bundle
from clients.scoring.column import InputColumn
from clients.scoring.device import DeviceFolder, open_log, pseudonym
from clients.scoring.edge import Edge, edge_score_facts, logged
from clients.scoring.readings_plan import QuantityColumn, ReadingsPlan, UnitColumn
from clients.scoring.trust import key_fingerprint
from clients.scoring.words import ColumnWords
from privacy.identity import Identity
from privacy.randomness import system_bytes
from privacy.suites import SUITES

FEW = ("yield@1", "load_share@1", "output_rate@1", "running_hours@1")
SOME = (
    *FEW,
    "utilisation@1",
    "downtime_share@1",
    "overload_share@1",
    "energy_per_hour@1",
    "failure_frequency@1",
    "alarm_frequency@1",
    "vibration_rms@1",
    "temperature_rise@1",
)
WARM, READINGS = 50, 1000


def bundle(keys: tuple[str, ...], window_h: float | None) -> Bundle:
    """Curves of 24 knots, and every third one with the 1,024 steps of a rank."""
    rng = np.random.default_rng(0)
    indicators = tuple(INDICATORS[key] for key in keys)
    inputs = tuple(
        InputColumn(
            name=one.name,
            header=one.name,
            kind="number",
            bounds=(one.low, one.high or 1000.0),
            transform="standard",
            levels=(),
            hash_levels=0,
            indicator=one.key,
            declared=False,
            words=ColumnWords(
                name=one.name, unit=one.unit, says={"en": one.sentence, "zh": one.sentence_zh}
            ),
        )
        for one in indicators
    )
    knots = np.linspace(0, 1, 24)
    curves = tuple(
        NumberCurve(
            knots=knots,
            values=rng.normal(0, 0.3, 24),
            steps=rng.normal(0, 0.1, 1024) if place % 3 == 0 else np.zeros(0),
            missing=0.0,
        )
        for place in range(len(inputs))
    )
    needed = {name for one in indicators for name in one.inputs}
    return Bundle(
        task="credit",
        made_s=0,
        expires_s=None,
        contract=ContractName(name="bench", digest="0" * 64, unit="device", title=""),
        units=(UnitColumn(header="device", type="text"),),
        missing=("",),
        inputs=inputs,
        scorer=AdditiveScorer(
            inputs=inputs, curves=curves, base=-1.0, link="binary", scale=1.0, reference="average"
        ),
        readings=ReadingsPlan(
            contract="1" * 64,
            name="bench",
            time="time_h",
            units=(UnitColumn(header="device", type="text"),),
            quantities=tuple(
                QuantityColumn(
                    quantity=name, header=name, unit=one.unit, bounds=None, threshold=None
                )
                for name, one in QUANTITIES.items()
                if name in needed
            ),
            indicators=indicators,
            missing=("",),
            step_h=1.0,
            hold_h=1.0,
            window_h=window_h,
            zone_h=0.0,
        ),
        thresholds={"review": 0.5},
        card=ShortCard(
            run="bench", manifest="2" * 64, weights="3" * 64, members=0, metrics={}, privacy=()
        ),
    )


def measured(keys: tuple[str, ...], window_h: float | None, folder: Path) -> dict[str, Any]:
    """Milliseconds of one reading, scored; at first the window is filled."""
    signer = Identity.create(system_bytes)
    trusted = frozenset({key_fingerprint("intl", signer.public)})
    data = bundle_bytes(bundle(keys, window_h), signer, SUITES["intl"])
    began = time.perf_counter()
    opened = open_bundle(data, trusted)
    open_ms = (time.perf_counter() - began) * 1e3
    device = DeviceFolder(folder)
    log = open_log(device, device.identity(system_bytes), "0" * 64, lambda: int(time.time()))
    unit_key = device.unit_key(system_bytes)
    edge, rng = Edge(opened, {}), np.random.default_rng(1)
    names = [one.header for one in opened.bundle.readings.quantities]
    filled = WARM if window_h is None else int(window_h)
    scored: list[float] = []
    cpu: list[float] = []
    with_log: list[float] = []
    for hour in range(filled + READINGS):
        row = {"device": "m-1", "time_h": float(hour)}
        row |= dict(zip(names, rng.uniform(0, 1, len(names)).tolist(), strict=True))
        began, began_cpu = time.perf_counter(), time.process_time()
        edge.take(row, "bench")
        if hour < filled:
            continue
        score = edge.score("m-1")
        edge_score_facts(opened, score)
        scored.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        name = pseudonym(unit_key, "0" * 64, "m-1")
        log.add([logged(opened, score, unit=name, now_s=log.now_s())])
        with_log.append(time.perf_counter() - began)
    return {
        "indicators": len(keys),
        "window_h": window_h,
        "bytes": len(data),
        "open_ms": round(open_ms, 2),
        "cpu_ms": quantiles(cpu),
        "score_ms": quantiles(scored),
        "logged_ms": quantiles(with_log),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile, largest; in milliseconds."""
    told = np.quantile(np.array(seconds) * 1e3, [0.5, 0.99, 1.0])
    return dict(zip(("p50", "p99", "max"), np.round(told, 3).tolist(), strict=True))


def main() -> None:
    """Print a line a case; with --out write them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    told = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for keys in (FEW, SOME, tuple(INDICATORS)):
            for window_h in (None, 720.0):
                place = Path(folder) / f"{len(found)}"
                found.append(measured(keys, window_h, place))
                print(json.dumps(found[-1]), flush=True)
    if told.out:
        told.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
