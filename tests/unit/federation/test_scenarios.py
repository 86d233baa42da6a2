"""Generated data: the same bytes from the same seed, physics that hold, contracts that fit."""

import gzip
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients.contract import load_contract
from clients.members import read_members
from federation.compliance import load_rules, plan_findings
from federation.config import load_project
from federation.scenarios import generate as module
from federation.scenarios import leases as lease_facts
from federation.scenarios import policies as policy_facts
from federation.scenarios.generate import (
    MARK,
    SCENARIOS,
    Scenario,
    contract_path,
    generate,
)
from federation.scenarios.leases import BANKS, SECTORS, default_probability, draw_leases
from federation.scenarios.machines import (
    HAZARD_PER_H,
    HAZARD_SHAPE,
    KINDS,
    MODES,
    Fleet,
    hours_in_step,
    operating_point,
    power_kw,
    settled_temp_c,
    simulate_fleet,
    true_current_a,
    true_imbalance_percent,
    true_oil_pressure_bar,
    true_vibration_mm_s,
    wear_rate,
)
from federation.scenarios.policies import INSURERS, claim_rate, draw_policies
from privacy.errors import InputError

SMALL = 0.25


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> module.GeneratedData:
    return generate(tmp_path_factory.mktemp("data"), seed=3, size=SMALL)


@pytest.fixture(scope="module")
def fleets() -> list[Fleet]:
    return [
        simulate_fleet(kind, machines=8, rng=_generator(place)) for place, kind in enumerate(KINDS)
    ]


def test_the_same_seed_gives_the_same_bytes(data: module.GeneratedData, tmp_path: Path) -> None:
    generate(tmp_path / "again", seed=3, size=SMALL)
    assert _digests(tmp_path / "again") == _digests(data.root)


def test_another_seed_gives_other_bytes_in_every_file(
    data: module.GeneratedData, tmp_path: Path
) -> None:
    generate(tmp_path / "other", seed=4, size=SMALL)
    one, other = _digests(data.root), _digests(tmp_path / "other")
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_alone_has_the_bytes_it_has_among_all(
    data: module.GeneratedData, tmp_path: Path, scenario: Scenario
) -> None:
    alone = generate(tmp_path, seed=3, scenario=scenario, size=SMALL)
    whole = _digests(data.root)
    assert alone.files
    assert {one.scenario for one in alone.files} == {scenario}
    for name, digest in _digests(tmp_path).items():
        assert whole[name] == digest


def test_members_do_not_share_their_draws(data: module.GeneratedData) -> None:
    columns = [pd.read_csv(one.path)["load_share"].to_numpy() for one in data.of("failure")[:2]]
    count = min(map(len, columns))
    assert abs(np.corrcoef(columns[0][:count], columns[1][:count])[0, 1]) < 0.9
    bytes_of = {one.path.read_bytes() for one in data.files}
    assert len(bytes_of) == len(data.files)


def test_files_carry_no_time_and_no_name(data: module.GeneratedData) -> None:
    for one in data.files:
        head = one.path.read_bytes()[:10]
        assert head[3] == 0  # no flags: neither name nor comment
        assert head[4:8] == b"\0\0\0\0"  # no time


def test_counts_are_those_of_the_files(data: module.GeneratedData) -> None:
    assert [len(data.of(scenario)) for scenario in SCENARIOS] == [12, 4, 3]
    facts: dict[str, tuple[str, str]] = {
        "failure": ("machine", "failed"),
        "claims": ("policy", "claims"),
        "credit": ("lease", "default"),
    }
    for one in data.files:
        table = pd.read_csv(one.path)
        unit, event = facts[one.scenario]
        assert one.path.parent.name == one.member
        assert one.rows == len(table)
        assert one.units == table[unit].nunique()
        assert one.events == table[event].sum() > 0


def test_units_are_named_apart_across_members(data: module.GeneratedData) -> None:
    for scenario, unit in (("failure", "machine"), ("claims", "policy"), ("credit", "lease")):
        names = [set(pd.read_csv(one.path)[unit]) for one in data.files if one.scenario == scenario]
        assert len(set.union(*names)) == sum(map(len, names))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_contracts_read_every_member_and_hold_every_value(
    data: module.GeneratedData, scenario: Scenario
) -> None:
    contract = load_contract(contract_path(scenario))
    members = read_members(contract, data.root)
    assert set(members) == {one.member for one in data.of(scenario)}
    for one in data.of(scenario):
        table = pd.read_csv(one.path)
        assert list(table.columns) == [column.file_name for column in contract.columns]
        for column in contract.columns:
            if column.range is not None:
                assert table[column.name].min() >= column.range[0]
                assert table[column.name].max() <= column.range[1]
            if column.levels is not None:
                assert set(table[column.name]) <= set(column.levels)


def test_classes_are_those_of_the_data() -> None:
    telemetry = load_contract(contract_path("failure"))
    assert {column.data_class for column in telemetry.columns} == {"L3"}
    for scenario in ("claims", "credit"):
        contract = load_contract(contract_path(scenario))
        label = contract.label_column
        assert label is not None
        assert label.data_class == "L3"
        assert {column.data_class for column in contract.features} == {"L2"}


def test_each_manufacturer_has_machines_to_learn_and_to_test() -> None:
    contract = load_contract(contract_path("failure"))
    split = contract.split
    assert split is not None
    assert split.kind == "units"
    for kind in KINDS:
        names = [f"{kind.prefix}-{number:03d}" for number in range(1, kind.fleet + 1)]
        aside = sum(
            int.from_bytes(hashlib.sha256(f"{split.seed}|{name}".encode()).digest())
            < split.test_share * 2.0**256
            for name in names
        )
        assert 6 <= kind.fleet - aside <= 14
        assert aside >= 8


def test_an_interrupted_generation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    generate(root, seed=1, scenario="credit", size=0.05)
    before = _digests(root)
    calls: list[Path] = []
    write = module._write_csv

    def failing(path: Path, table: pd.DataFrame) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(path, table)

    monkeypatch.setattr(module, "_write_csv", failing)
    with pytest.raises(KeyboardInterrupt):
        generate(root, seed=2, scenario="credit", size=0.05)
    assert len(calls) == 3
    assert _digests(root) == before
    assert [path.name for path in root.iterdir()] == ["banks"]


def test_generating_again_replaces_what_was_generated(tmp_path: Path) -> None:
    generate(tmp_path, seed=1, scenario="credit", size=0.05)
    before = _digests(tmp_path)
    (tmp_path / "banks" / "corvane-bank" / "stale.csv").write_text("left over\n")
    generate(tmp_path, seed=2, scenario="credit", size=0.05)
    after = _digests(tmp_path)
    assert after.keys() == before.keys()
    assert after != before


def test_folders_that_were_not_generated_are_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "banks" / "own-bank" / "leases.csv"
    own.parent.mkdir(parents=True)
    own.write_text("lease\n")
    with pytest.raises(InputError, match="not generated"):
        generate(tmp_path, seed=1, size=0.05)
    assert own.read_text() == "lease\n"
    assert not (tmp_path / "manufacturers").exists()
    assert not (tmp_path / "banks" / MARK).exists()


@pytest.mark.parametrize(
    ("seed", "size"), [(-1, 1.0), (0, 0.0), (0, -1.0), (0, float("nan")), (0, 1e9)]
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, seed: int, size: float) -> None:
    with pytest.raises(InputError):
        generate(tmp_path / "root", seed=seed, size=size)
    assert not (tmp_path / "root").exists()


def test_wear_rate_is_one_at_the_reference_and_grows_with_load_and_heat() -> None:
    load = np.linspace(0.1, 1.1, 21)
    assert wear_rate(np.array([0.6]), np.array([50.0])) == pytest.approx(np.ones((len(MODES), 1)))
    assert (np.diff(wear_rate(load, np.full(21, 60.0)), axis=1) > 0).all()
    assert (np.diff(wear_rate(np.full(21, 0.6), 100 * load), axis=1) > 0).all()
    doubled = wear_rate(np.array([0.8]), np.array([50.0])) / wear_rate(
        np.array([0.4]), np.array([50.0])
    )
    assert doubled[0] == pytest.approx(8.0)  # bearings: the cube of the load


@pytest.mark.parametrize(
    ("mode", "sensor"),
    [("bearing", "vibration"), ("cooling", "temperature"), ("drive", "current"),
     ("seal", "pressure"), ("winding", "imbalance")],
)  # fmt: skip
def test_each_kind_of_wear_shows_at_its_own_sensor_and_more_at_load(mode: str, sensor: str) -> None:
    kind = KINDS[0]
    ambient = np.array([15.0, 15.0])
    load = np.array([0.3, 0.9])

    def read(wear: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        worn = np.zeros((len(MODES), 2))
        worn[MODES.index(mode)] = wear
        return {
            "vibration": true_vibration_mm_s(kind, load, worn),
            "temperature": settled_temp_c(kind, load, ambient, worn),
            "current": true_current_a(kind, load, worn),
            "pressure": -true_oil_pressure_bar(load, worn),
            "imbalance": true_imbalance_percent(load, worn),
        }[sensor]

    grown = read(1.0) - read(0.0)
    assert (grown > 0).all()
    assert grown[1] > grown[0]


def test_worn_machines_shake_more_and_run_hotter(fleets: list[Fleet]) -> None:
    for fleet in fleets:
        table = fleet.telemetry
        load = table["load_share"].to_numpy()
        bearing, cooling = (fleet.wear[place].ravel() for place in (0, 1))
        others = fleet.wear.max(axis=0).ravel()
        band = (load > 0.6) & (load < 0.8)
        rise = (table["bearing_temp_c"] - table["ambient_temp_c"]).to_numpy()
        fresh = band & (others < 0.4)
        vibration = table["vibration_mm_s"].to_numpy()
        assert vibration[band & (bearing > 0.8)].mean() > 1.2 * vibration[fresh].mean()
        assert rise[band & (cooling > 0.8)].mean() > rise[fresh].mean() + 2.0


def test_time_goes_forward_and_failures_happen(fleets: list[Fleet]) -> None:
    for fleet in fleets:
        table = fleet.telemetry
        machines = table.groupby("machine", sort=False)
        assert (machines["hours_run_h"].diff().dropna() >= 0).all()
        assert (machines["step"].diff().dropna() == 1).all()
        assert set(table["failed"]) == {0, 1}
        days = len(table) / 3
        assert 0.5 < table["failed"].sum() / days * 365 < 6.0  # a machine and year


def test_a_machine_stands_still_after_a_failure_and_comes_back_like_new(
    fleets: list[Fleet],
) -> None:
    renewed = 0
    for fleet in fleets:
        _, machines, steps = fleet.wear.shape
        failed = fleet.telemetry["failed"].to_numpy().reshape(machines, steps)
        load = fleet.telemetry["load_share"].to_numpy().reshape(machines, steps)
        for machine, step in zip(*np.nonzero(failed[:, :-1]), strict=True):
            assert load[machine, step] > 0
            assert load[machine, step + 1] == 0
            if fleet.wear[:, machine, step].max() > 0.6:
                assert fleet.wear[:, machine, step + 1].max() <= 0.15
                renewed += 1
    assert renewed > 50


def test_wear_precedes_failure(fleets: list[Fleet]) -> None:
    worst = [fleet.wear.max(axis=0).ravel()[fleet.telemetry["failed"] == 1] for fleet in fleets]
    assert np.median(np.concatenate(worst)) > 0.8


def test_the_closed_form_agrees_with_a_simulation_at_constant_load() -> None:
    kind = KINDS[3]
    rng = _generator(0)
    load, ambient = np.array([0.7]), np.array([20.0])
    point = operating_point(
        kind, load=load, ambient_c=ambient, on_share=np.array([1.0]), ageing=np.array([1.0])
    )
    speed = np.array(kind.mode_speed)[:, None] / kind.life_h
    rate = wear_rate(load, point.bearing_temp_c) * speed
    # a life by inverting its cumulated hazard, without the closed form of its mean
    hours = np.linspace(0.0, 40_000.0, 400_001)
    hazard = HAZARD_PER_H * ((rate * hours) ** HAZARD_SHAPE).sum(axis=0)
    cumulated = np.concatenate([[0.0], np.cumsum((hazard[1:] + hazard[:-1]) / 2) * hours[1]])
    lives = np.interp(rng.exponential(size=20_000), cumulated, hours)
    per_year = point.failures_per_year[0]
    assert per_year == pytest.approx(8760.0 / lives.mean(), rel=0.03)
    assert 0 < point.downtime_share[0] < 0.2
    worn = np.full((len(MODES), 1), 0.5)
    assert point.energy_kwh_per_h == pytest.approx(power_kw(kind, load, worn))


def test_hours_in_a_step() -> None:
    hours = hours_in_step(np.array([0.0, 0.1, 0.7, 1.1]))
    assert hours == pytest.approx([0.0, 3.2, 8.0, 8.0])


def test_defaults_follow_the_documented_log_odds() -> None:
    book = draw_leases(BANKS[0], count=4000, rng=_generator(5))
    rows = book.complete
    sector = {one.name: one for one in SECTORS}
    expected = np.empty(len(rows))
    for place, row in enumerate(rows.to_dict("records")):
        trade = sector[row["sector"]]
        idle = max(0.0, trade.break_even - row["utilisation"])
        lent = 1.0 - row["down_payment_share"]
        expected[place] = (
            lease_facts.INTERCEPT
            + trade.effect
            + lease_facts.REGION_EFFECT[lease_facts.REGIONS.index(row["region"])]
            + lease_facts.MAKER_EFFECT[lease_facts.MAKERS.index(row["maker"])]
            + 2 * idle
            + 5 * idle * lent
            + 1.6 * (lent - 0.8)
            + 0.45 * np.log(max(row["downtime_share"], 1e-4) / 0.008)
            + 2.2 * row["failure_risk"] * min(row["machine_age_years"], 12) / 12
            + 0.28 * (row["interest_percent"] - 5)
            + 0.10 * max(0.0, row["machine_age_years"] - 8)
            + 0.9 * np.exp(-row["company_age_years"] / 4)
            + 0.45 * min(row["arrears_12m"], 3)
            + 0.20 * np.log(row["amount_eur"] / row["machines"] / 35_000) ** 2
            + 0.012 * max(0, row["term_months"] - 48)
        )
    assert book.probability == pytest.approx(1 / (1 + np.exp(-expected)))
    assert default_probability(rows) == pytest.approx(book.probability)
    spread = np.sqrt((book.probability * (1 - book.probability)).sum())
    assert abs(rows["default"].sum() - book.probability.sum()) < 4 * spread


def test_claims_follow_the_documented_log_rate() -> None:
    book = draw_policies(INSURERS[0], count=4000, rng=_generator(6))
    rows = book.policies
    expected = np.empty(len(rows))
    hidden = zip(book.failures_per_year, book.bearing_temp_c, strict=True)
    for place, (row, (failures, temp)) in enumerate(
        zip(rows.to_dict("records"), hidden, strict=True)
    ):
        expected[place] = np.exp(
            policy_facts.INTERCEPT
            + 0.5 * np.log(failures)
            + policy_facts.REGION_EFFECT[lease_facts.REGIONS.index(row["region"])]
            + policy_facts.MAKER_EFFECT[lease_facts.MAKERS.index(row["maker"])]
            + policy_facts.USE_EFFECT[policy_facts.USES.index(row["use"])]
            + 0.4 * np.exp(-row["machine_age_years"])
            + 0.07 * min(max(row["machine_age_years"] - 6, 0), 10)
            + 0.6 * np.exp(-row["operator_years"] / 3) * (2 if row["load_share"] > 0.7 else 1)
            + 0.04 * max(0.0, temp - 48)
            - 0.2 * np.log(row["deductible_eur"] / 1000)
        )
    assert book.claims_per_year == pytest.approx(expected)
    again = claim_rate(
        rows, failures_per_year=book.failures_per_year, bearing_temp_c=book.bearing_temp_c
    )
    assert again == pytest.approx(expected)
    mean = (expected * rows["exposure_years"]).sum()
    assert abs(rows["claims"].sum() - mean) < 4 * np.sqrt(mean)


@pytest.mark.parametrize("scenario", ["claims", "credit"])
def test_a_score_of_generated_data_is_lawful_at_a_financial_institution(
    scenario: module.Scenario,
) -> None:
    """Every input is an indicator or stated; no reading of a machine is among them."""
    folder = Path(module.__file__).parent
    rules = load_rules("finance_cn")
    project = load_project(folder / f"{scenario}.yaml")
    broken = {one.rule for one in plan_findings(project, rules, at=datetime.now(UTC))}
    assert not broken & {"indicators-stated", "score-reads-indicators"}
    assert project.contract.accepts == "indicators"


def test_rates_are_those_of_the_trade(data: module.GeneratedData) -> None:
    leases = pd.concat([pd.read_csv(one.path) for one in data.of("credit")])
    assert 0.08 < leases["default"].mean() < 0.14
    assert 0.0 < leases["failure_risk"].isna().mean() < 0.1
    policies = pd.concat([pd.read_csv(one.path) for one in data.of("claims")])
    assert 0.1 < policies["claims"].sum() / policies["exposure_years"].sum() < 0.3
    assert (policies["exposure_years"] > 0).all()


def test_each_bank_and_insurer_sees_mainly_its_own_part(data: module.GeneratedData) -> None:
    sectors = [pd.read_csv(one.path)["sector"] for one in data.of("credit")]
    for bank, seen in zip(BANKS, sectors, strict=True):
        home = seen.isin([SECTORS[place].name for place in bank.home_sectors]).mean()
        assert home == pytest.approx(bank.home_share, abs=0.06)
        assert seen.nunique() == len(SECTORS)


def test_files_are_plain_gzipped_csv(data: module.GeneratedData) -> None:
    text = gzip.decompress(data.files[0].path.read_bytes()).decode("ascii")
    assert text.startswith("machine,step,hours_run_h,load_share,")
    assert "\r" not in text
