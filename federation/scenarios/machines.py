"""Twelve invented manufacturers' machines: how they run, wear, show it, and fail.

Every formula here stands in docs/generated-data.md under the same name. Leases and policies take
their machine indicators from `operating_point`, the closed form of the same wear model, so that
what a bank or an insurer sees follows from how machines age and from nothing else.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

STEP_H = 8.0
"""One row a shift."""
STEPS = 1080
"""Length of the history: 360 days."""
STEPS_PER_DAY = 3
DAYS_PER_WEEK = 7
WORKDAYS = 5

MODES = ("bearing", "cooling", "drive", "seal", "winding")
"""What can wear out; each mode has its own hidden wear, 0 when new and about 1 at failure."""
LOAD_EXPONENT = np.array([3.0, 1.5, 2.0, 1.0, 2.0])
"""Bearing life falls with the cube of the load (ISO 281, ball bearings); the others are milder."""
ACTIVATION_EV = np.array([0.12, 0.25, 0.20, 0.35, 0.45])
"""Arrhenius activation energies: lubricant film, deposits, gear oil, elastomer, insulation."""
BOLTZMANN_EV_K = 8.617e-5
REFERENCE_LOAD = 0.6
REFERENCE_TEMP_K = 323.15

HAZARD_SHAPE = 18.0
"""Hazard grows with wear to this power: Weibull with shape 19 at a constant wear rate."""
HAZARD_PER_H = 0.006
"""Failures per running hour of one mode at wear 1."""
SUDDEN_PER_H = 1.0e-6
"""Failures per running hour that no wear announces."""
REPAIR_STEPS = (2, 9)
"""A repair takes from 2 to 9 shifts, each equally likely."""
RESIDUE = 0.15
"""A repair renews every mode: it leaves wear drawn evenly between 0 and this."""
WEAR_NOISE_SHAPE = 1.5
"""Wear grows by gamma increments with this shape and mean 1."""

IDLE_LOAD = 0.05
"""Below this share of rated load a machine is switched off."""

RESONANCE_LOAD = 0.55
RESONANCE_WIDTH = 0.1
RESONANCE_HEIGHT = 0.5
"""Near this load the frame swings with the shaft, whatever its bearings are like."""


@dataclass(frozen=True)
class MachineKind:
    """What one manufacturer builds, where it stands and how it is driven.

    `mode_speed` is how fast each of `MODES` wears against the nominal `life_h`; `sensor_gain` and
    `sensor_bias` are those of bearing temperature, vibration and current as this maker mounts them.
    """

    name: str
    prefix: str
    fleet: int
    rated_power_kw: float
    rated_current_a: float
    temp_rise_k: float
    thermal_time_h: float
    vibration_mm_s: float
    site_temp_c: float
    season_k: float
    shift_load: tuple[float, float, float]
    weekend_factor: float
    life_h: float
    mode_speed: tuple[float, float, float, float, float]
    sensor_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sensor_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


KINDS: tuple[MachineKind, ...] = (
    MachineKind("aldermoor-excavators", "exc", 18, 110, 100, 40, 9, 2.16, 14, 9,
                (0.80, 0.55, 0.25), 0.40, 3620, (0.80, 1.19, 1.02, 1.20, 0.86),
                (1.01, 1.02, 1.00), (1.0, 0.10, 0.0)),
    MachineKind("brightmere-pumps", "pmp", 18, 75, 97, 38, 6, 2.04, 15, 7,
                (0.66, 0.64, 0.60), 0.95, 8540, (0.73, 1.10, 1.00, 1.29, 0.97),
                (0.99, 0.98, 1.01), (0.0, 0.05, 1.0)),
    MachineKind("calderay-compressors", "cmp", 18, 90, 100, 40, 7, 2.16, 18, 6,
                (0.78, 0.66, 0.40), 0.60, 6280, (0.82, 1.22, 1.13, 1.15, 0.77),
                (1.00, 1.00, 0.99), (-1.0, 0.0, 0.0)),
    MachineKind("dunsel-cnc", "cnc", 24, 60, 96, 38, 4, 2.04, 20, 4,
                (0.72, 0.62, 0.30), 0.30, 5470, (0.86, 1.10, 1.03, 1.13, 0.91),
                (1.01, 0.98, 1.00), (0.5, 0.0, -1.0)),
    MachineKind("eastfold-presses", "prs", 16, 100, 101, 40, 10, 2.22, 18, 4,
                (0.78, 0.66, 0.30), 0.35, 4980, (0.74, 1.15, 1.08, 1.29, 0.84),
                (0.99, 1.03, 1.01), (0.0, 0.0, 2.0)),
    MachineKind("fennick-forklifts", "flt", 20, 66, 95, 38, 5, 2.1, 15, 8,
                (0.70, 0.58, 0.35), 0.40, 4550, (0.76, 1.09, 1.08, 1.12, 1.00),
                (1.00, 1.01, 0.98), (1.5, 0.0, 0.0)),
    MachineKind("gransby-generators", "gen", 18, 104, 102, 41, 8, 2.16, 14, 10,
                (0.60, 0.55, 0.45), 0.80, 6170, (0.86, 1.14, 1.03, 1.02, 0.97),
                (1.02, 1.00, 1.00), (0.0, -0.1, 0.0)),
    MachineKind("hollinger-conveyors", "cnv", 18, 70, 97, 37, 5, 2.1, 16, 6,
                (0.74, 0.70, 0.50), 0.55, 5980, (0.79, 1.12, 0.99, 1.28, 0.89),
                (0.98, 1.00, 1.02), (0.0, 0.10, 0.0)),
    MachineKind("ironbeck-crushers", "crs", 16, 106, 100, 40, 9, 2.16, 15, 8,
                (0.80, 0.58, 0.28), 0.40, 3960, (0.81, 1.13, 1.08, 1.18, 0.85),
                (1.00, 1.03, 1.00), (-0.5, 0.0, 1.5)),
    MachineKind("kestrow-looms", "lom", 18, 62, 94, 36, 4, 1.98, 21, 3,
                (0.68, 0.66, 0.62), 0.70, 8030, (0.78, 1.19, 1.10, 1.14, 0.87),
                (1.00, 0.99, 0.99), (0.0, 0.0, 0.0)),
    MachineKind("larkmoor-robots", "rob", 18, 64, 96, 37, 4, 2.04, 21, 3,
                (0.70, 0.68, 0.55), 0.50, 7270, (0.86, 1.11, 1.01, 1.13, 0.92),
                (1.01, 1.00, 1.02), (1.0, 0.05, 0.0)),
    MachineKind("marrowby-mixers", "mix", 18, 80, 98, 38, 7, 2.16, 17, 7,
                (0.76, 0.62, 0.25), 0.35, 4830, (0.74, 1.22, 1.01, 1.28, 0.86),
                (0.99, 1.01, 1.00), (0.0, 0.0, -1.0)),
)  # fmt: skip


@dataclass(frozen=True)
class Fleet:
    """A simulated fleet: what its sensors wrote, and the truth that no file holds.

    `telemetry` has one row a machine and step, machine by machine in order of time. `wear` has
    the shape (modes, machines, steps) and is the state at the end of each step.
    """

    kind: MachineKind
    telemetry: pd.DataFrame
    wear: Floats


DECIMALS = {
    "hours_run_h": 1,
    "load_share": 3,
    "ambient_temp_c": 1,
    "bearing_temp_c": 1,
    "vibration_mm_s": 3,
    "current_a": 1,
    "oil_pressure_bar": 2,
    "imbalance_percent": 2,
    "energy_kwh": 1,
}
"""Digits after the point in the file."""


def wear_rate(load: Floats, temp_c: Floats) -> Floats:
    """Return wear per nominal life of running hours for each mode, first axis `MODES`.

    Holds: 1 at the reference load (0.6) and temperature (50 C); grows with either.
    """
    inverse_k = 1.0 / REFERENCE_TEMP_K - 1.0 / (np.asarray(temp_c) + 273.15)
    shape = (len(MODES),) + (1,) * np.ndim(load)
    stress = (np.asarray(load) / REFERENCE_LOAD) ** LOAD_EXPONENT.reshape(shape)
    rate: Floats = stress * np.exp(ACTIVATION_EV.reshape(shape) / BOLTZMANN_EV_K * inverse_k)
    return rate


def hazard_per_h(wear: Floats) -> Floats:
    """Return failures per running hour and mode at this wear, sudden ones not counted."""
    hazard: Floats = HAZARD_PER_H * wear**HAZARD_SHAPE
    return hazard


def hours_in_step(load: Floats) -> Floats:
    """Return the running hours within one step: none when stopped, all from 0.7 of rated load."""
    hours: Floats = STEP_H * np.where(load > 0, np.clip(0.3 + load, 0.0, 1.0), 0.0)
    return hours


def settled_temp_c(kind: MachineKind, load: Floats, ambient_c: Floats, wear: Floats) -> Floats:
    """Return the bearing temperature to which a constant load leads, in degrees Celsius."""
    swelling = 1.0 + 0.10 * wear[0] ** 3 + 0.50 * wear[1] ** 3 + 0.05 * wear[2] ** 3
    temp: Floats = ambient_c + kind.temp_rise_k * (0.1 + load * swelling) * (load > 0)
    return temp


def true_vibration_mm_s(kind: MachineKind, load: Floats, wear: Floats) -> Floats:
    """Return the vibration velocity (RMS) that a perfect sensor would read."""
    resonance = RESONANCE_HEIGHT * np.exp(-(((load - RESONANCE_LOAD) / RESONANCE_WIDTH) ** 2))
    running = 0.05 + (0.5 + 0.6 * load + resonance) * (load > 0)
    vibration: Floats = kind.vibration_mm_s * running * (1.0 + (0.4 + load) * wear[0] ** 3)
    return vibration


def true_current_a(kind: MachineKind, load: Floats, wear: Floats) -> Floats:
    """Return the mean motor current that a perfect sensor would read."""
    running = (0.28 + 0.72 * load) * (load > 0)
    current: Floats = kind.rated_current_a * running * (1.0 + 0.45 * load * wear[2] ** 3)
    return current


def true_oil_pressure_bar(load: Floats, wear: Floats) -> Floats:
    """Return the oil pressure that a perfect sensor would read; a worn seal loses it at load."""
    pressure: Floats = (2.0 + 2.0 * load) * (1.0 - 0.35 * load * wear[3] ** 3) * (load > 0)
    return pressure


def true_imbalance_percent(load: Floats, wear: Floats) -> Floats:
    """Return the imbalance of the phase currents that a perfect sensor would read."""
    imbalance: Floats = (1.2 - 0.5 * load + 2.5 * load**2 * wear[4] ** 3) * (load > 0)
    return imbalance


def power_kw(kind: MachineKind, load: Floats, wear: Floats) -> Floats:
    """Return the mean power drawn while running."""
    losses = 1.0 + 0.04 * wear[0] ** 3 + 0.03 * wear[1] ** 3 + 0.12 * wear[2] ** 3
    power: Floats = kind.rated_power_kw * (0.2 + 0.8 * load) * losses
    return power


def simulate_fleet(
    kind: MachineKind, *, machines: int, rng: np.random.Generator, steps: int = STEPS
) -> Fleet:
    """Let a fleet run for `steps` shifts.

    Holds: the same generator state gives the same fleet; hours never fall; a machine under repair
    does not run; `failed` is 1 exactly in the step in which the machine broke down.
    """
    shape = (steps, machines)
    spread = _machine_spread(machines, rng)
    asked = _load(kind, shape, rng)
    ambient = _ambient_c(kind, shape, rng)
    state = _run(kind, asked, ambient, spread["ageing"], rng)
    load, temp, failed = state.load, state.temp_c, state.failed
    hours = hours_in_step(load)
    wear = state.wear
    vibration = true_vibration_mm_s(kind, load, wear) * spread["vibration"]
    current = true_current_a(kind, load, wear) * spread["current"]
    gain, bias = kind.sensor_gain, kind.sensor_bias
    starts = rng.poisson((load > 0) * (0.8 + 1.5 * (load < REFERENCE_LOAD) + wear[2] ** 3))
    columns = {
        "hours_run_h": spread["hours_before"] + np.cumsum(hours, axis=0),
        "load_share": load,
        "ambient_temp_c": ambient + rng.normal(0.0, 0.5, shape),
        "bearing_temp_c": gain[0] * temp + bias[0] + spread["temp_k"] + rng.normal(0.0, 1.5, shape),
        "vibration_mm_s": gain[1] * vibration * np.exp(rng.normal(0.0, 0.08, shape)) + bias[1],
        "current_a": gain[2] * current * np.exp(rng.normal(0.0, 0.04, shape)) + bias[2],
        "oil_pressure_bar": true_oil_pressure_bar(load, wear) * spread["pressure"]
        + rng.normal(0.0, 0.08, shape),
        "imbalance_percent": true_imbalance_percent(load, wear) + rng.normal(0.0, 0.25, shape),
        "starts": starts,
        "energy_kwh": power_kw(kind, load, wear) * hours * np.exp(rng.normal(0.0, 0.05, shape)),
    }
    names = [f"{kind.prefix}-{number:03d}" for number in range(1, machines + 1)]
    frame = pd.DataFrame(
        {"machine": np.repeat(names, steps), "step": np.tile(np.arange(steps), machines)}
    )
    for name, values in columns.items():
        flat = values.T.ravel()
        decimals = DECIMALS.get(name)
        if decimals is not None:
            flat = np.round(np.maximum(flat, _floor(name)), decimals)
        frame[name] = flat
    frame["failed"] = failed.T.ravel().astype(np.int64)
    return Fleet(kind=kind, telemetry=frame, wear=wear.transpose(0, 2, 1))


@dataclass(frozen=True)
class OperatingPoint:
    """What a machine run steadily at one load comes to; all arrays have the load's shape."""

    hours_per_month: Floats
    bearing_temp_c: Floats
    failures_per_year: Floats
    downtime_share: Floats
    energy_kwh_per_h: Floats


def operating_point(
    kind: MachineKind, *, load: Floats, ambient_c: Floats, on_share: Floats, ageing: Floats
) -> OperatingPoint:
    """Return the closed form of the wear model for machines that run at a constant load.

    With a constant wear rate r_j per hour the hazard of one life is HAZARD_PER_H * sum (r_j t)^k,
    so a life is Weibull with shape k + 1 and mean
    Gamma(1 + 1/(k+1)) * ((k+1) / (HAZARD_PER_H * sum r_j^k))^(1/(k+1)). What a repair leaves,
    and that it takes time, is not counted in it.

    Args:
        kind: What the machines are.
        load: Share of rated load while on.
        ambient_c: Mean ambient temperature in degrees Celsius.
        on_share: Share of all hours in which the machine is on.
        ageing: The machine's own ageing factor, 1 for an average one.
    """
    half_worn = np.full((len(MODES), *np.shape(load)), 0.5)
    temp_c = settled_temp_c(kind, load, ambient_c, half_worn)
    shape = (len(MODES),) + (1,) * np.ndim(load)
    speed = np.array(kind.mode_speed).reshape(shape) * ageing / kind.life_h
    rate_per_h = wear_rate(load, temp_c) * speed
    k = HAZARD_SHAPE
    scale_h = ((k + 1) / (HAZARD_PER_H * (rate_per_h**k).sum(axis=0))) ** (1 / (k + 1))
    life_h = math.gamma(1 + 1 / (k + 1)) * scale_h
    hours_per_month = 730.0 * on_share
    failures_per_year = 12.0 * hours_per_month * (1.0 / life_h + SUDDEN_PER_H)
    repair_h = STEP_H * (REPAIR_STEPS[0] + REPAIR_STEPS[1]) / 2
    return OperatingPoint(
        hours_per_month=hours_per_month,
        bearing_temp_c=temp_c,
        failures_per_year=failures_per_year,
        downtime_share=failures_per_year * repair_h / (8760.0 + failures_per_year * repair_h),
        energy_kwh_per_h=power_kw(kind, load, half_worn),
    )


@dataclass(frozen=True)
class _State:
    load: Floats
    temp_c: Floats
    failed: NDArray[np.bool_]
    wear: Floats


def _run(
    kind: MachineKind, asked: Floats, ambient: Floats, ageing: Floats, rng: np.random.Generator
) -> _State:
    """Step through time: what wears depends on what is warm, and what is warm on what is worn."""
    steps, machines = asked.shape
    growth = rng.gamma(WEAR_NOISE_SHAPE, 1 / WEAR_NOISE_SHAPE, (steps, len(MODES), machines))
    chance = rng.random(asked.shape)
    announced = rng.random(asked.shape)
    repair = rng.integers(REPAIR_STEPS[0], REPAIR_STEPS[1], asked.shape, endpoint=True)
    residue = rng.uniform(0.0, RESIDUE, (steps, len(MODES), machines))
    follow = 1.0 - math.exp(-STEP_H / kind.thermal_time_h)
    speed = np.array(kind.mode_speed)[:, None] * ageing / kind.life_h
    wear = rng.uniform(0.0, 0.8, (len(MODES), machines))
    temp = ambient[0].copy()
    down = np.zeros(machines, dtype=np.int64)
    load = np.empty_like(asked)
    temps = np.empty_like(asked)
    failed = np.zeros(asked.shape, dtype=np.bool_)
    wears = np.empty((len(MODES), steps, machines))
    for step in range(steps):
        now = np.where(down > 0, 0.0, asked[step])
        hours = hours_in_step(now)
        temp += follow * (settled_temp_c(kind, now, ambient[step], wear) - temp)
        wear += wear_rate(now, temp) * speed * growth[step] * hours
        load[step], temps[step], wears[:, step] = now, temp, wear
        by_mode = hazard_per_h(wear) * hours
        total = by_mode.sum(axis=0) + SUDDEN_PER_H * hours
        broke = chance[step] < -np.expm1(-total)
        down = np.maximum(down - 1, 0)
        worn_out = broke & (announced[step] < by_mode.sum(axis=0) / np.maximum(total, 1e-300))
        failed[step] = broke
        down[broke] = repair[step, broke]
        wear = np.where(worn_out, residue[step], wear)
    return _State(load=load, temp_c=temps, failed=failed, wear=wears)


def _machine_spread(machines: int, rng: np.random.Generator) -> dict[str, Floats]:
    """How single machines differ from their kind."""
    return {
        "ageing": np.exp(rng.normal(0.0, 0.25, machines)),
        "vibration": np.exp(rng.normal(0.0, 0.05, machines)),
        "current": np.exp(rng.normal(0.0, 0.015, machines)),
        "temp_k": rng.normal(0.0, 0.6, machines),
        "pressure": np.exp(rng.normal(0.0, 0.015, machines)),
        "hours_before": rng.uniform(500.0, 9000.0, machines),
    }


def _load(kind: MachineKind, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Asked load: the shift's usual load, weekends, slow order books and noise."""
    steps, machines = shape
    step = np.arange(steps)
    usual = np.array(kind.shift_load)[step % STEPS_PER_DAY]
    weekend = (step // STEPS_PER_DAY) % DAYS_PER_WEEK >= WORKDAYS
    usual = np.where(weekend, usual * kind.weekend_factor, usual)
    orders = _slow_noise(shape, rng, memory_steps=45.0)
    load = usual[:, None] * (1.0 + 0.30 * orders) + rng.normal(0.0, 0.06, (steps, machines))
    held = np.where(load < IDLE_LOAD, 0.0, np.clip(load, 0.0, 1.1))
    return np.asarray(np.round(held, 3), dtype=np.float64)


def _ambient_c(kind: MachineKind, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Ambient temperature: site, season (coldest on day 20), time of day, weather."""
    step = np.arange(shape[0])
    day = step / STEPS_PER_DAY
    season = -np.cos(2 * np.pi * (day - 20.0) / 365.0)
    shift = np.array([2.0, 0.5, -2.5])[step % STEPS_PER_DAY] * kind.season_k / 10.0
    weather = _slow_noise((shape[0], 1), rng, memory_steps=12.0) * 0.25 * kind.season_k
    site = rng.normal(0.0, 1.0, shape[1])
    seasonal = kind.site_temp_c + kind.season_k * season + shift
    ambient: Floats = np.asarray(seasonal[:, None] + weather + site, dtype=np.float64)
    return ambient


def _slow_noise(shape: tuple[int, int], rng: np.random.Generator, *, memory_steps: float) -> Floats:
    """First-order autoregressive noise with standard deviation 1."""
    keep = math.exp(-1.0 / memory_steps)
    noise = rng.normal(0.0, 1.0, shape)
    noise[1:] *= math.sqrt(1.0 - keep * keep)
    for step in range(1, shape[0]):
        noise[step] += keep * noise[step - 1]
    return noise


def _floor(column: str) -> float:
    """Below this a sensor reads no further."""
    return -60.0 if column == "ambient_temp_c" else 0.0
