"""Write generated data for the demonstration: machines, policies and leases of invented members.

Every file follows from the seed alone, byte for byte, whatever else is written beside it.
"""

import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from federation.scenarios.leases import BANKS, Bank, draw_leases
from federation.scenarios.machines import KINDS, MachineKind, simulate_fleet
from federation.scenarios.policies import INSURERS, Insurer, draw_policies
from privacy.errors import InputError

Scenario: TypeAlias = Literal["failure", "claims", "credit"]
SCENARIOS: Final[tuple[Scenario, ...]] = ("failure", "claims", "credit")

MARK: Final = ".generated.json"
"""A folder with this file was made here, so it may be made again; others are never touched."""
GZIP_LEVEL: Final = 4
LARGEST_SIZE: Final = 100.0
LEAST_MACHINES: Final = 6
"""A smaller fleet might have all its machines in one part of the contract's split."""
LEAST_ROWS: Final = 200


@dataclass(frozen=True, slots=True)
class GeneratedFile:
    """One member's file.

    Attributes:
        scenario: Which task it is for.
        member: The member's name, which is the name of its folder.
        path: Where it lies.
        rows: Rows below the header.
        units: Machines, policies or leases in it.
        events: Failures, claims or defaults in it.
    """

    scenario: Scenario
    member: str
    path: Path
    rows: int
    units: int
    events: int


@dataclass(frozen=True, slots=True)
class GeneratedData:
    """What was written.

    Attributes:
        root: The data root: contracts' paths begin here.
        seed: As given.
        size: As given.
        files: One a member, in the order of scenarios and members.
    """

    root: Path
    seed: int
    size: float
    files: tuple[GeneratedFile, ...]

    def of(self, scenario: Scenario) -> tuple[GeneratedFile, ...]:
        """The files of one scenario."""
        return tuple(one for one in self.files if one.scenario == scenario)


@dataclass(frozen=True, slots=True)
class _Part:
    """How one scenario's files are called and made."""

    folder: str
    file: str
    unit: str
    event: str
    contract: str
    members: tuple[tuple[str, Callable[[np.random.Generator, float], pd.DataFrame]], ...]


def generate(
    root: Path, *, seed: int, scenario: Scenario | Literal["all"] = "all", size: float = 1.0
) -> GeneratedData:
    """Write the files of one scenario, or of all, below `root`.

    Holds: equal arguments give equal bytes; a scenario's bytes do not depend on whether the others
    are written too; `root/<folder>` holds either what it held before or all members' whole files.

    Args:
        root: Made if it is not there.
        seed: From 0.
        scenario: What to write.
        size: Scales fleets and books; 1 is the size that docs/generated-data.md describes.

    Raises:
        InputError: An argument is out of range, or a folder to write holds something else.
    """
    if scenario not in (*SCENARIOS, "all"):
        raise InputError(f"scenario: expected one of all, {', '.join(SCENARIOS)}.")
    if seed < 0:
        raise InputError("seed: expected a whole number from 0.")
    if not 0 < size <= LARGEST_SIZE:
        raise InputError(f"size: expected a number above 0, at most {LARGEST_SIZE:g}.")
    wanted: tuple[Scenario, ...] = SCENARIOS if scenario == "all" else (scenario,)
    for one in wanted:
        _check_ours(root / _PARTS[one].folder)
    root.mkdir(parents=True, exist_ok=True)
    files: list[GeneratedFile] = []
    # within the root, so that the move stays on one disk; hidden, so that nobody reads it
    with tempfile.TemporaryDirectory(prefix=".generating-", dir=root) as name:
        work = Path(name)
        for one in wanted:
            files += _write_part(work, root, one, seed=seed, size=size)
        for one in wanted:
            folder = _PARTS[one].folder
            if (root / folder).exists():
                (root / folder).rename(work / f"{folder}.old")
            (work / folder).rename(root / folder)
    return GeneratedData(root=root, seed=seed, size=size, files=tuple(files))


def contract_path(scenario: Scenario) -> Path:
    """Where the data contract of a scenario's files lies."""
    return Path(__file__).parent / "contracts" / _PARTS[scenario].contract


def _write_part(
    work: Path, root: Path, scenario: Scenario, *, seed: int, size: float
) -> Iterator[GeneratedFile]:
    part = _PARTS[scenario]
    # one stream a scenario and member, so that no file depends on what else is written
    streams = np.random.SeedSequence([seed, SCENARIOS.index(scenario)]).spawn(len(part.members))
    for (member, draw), stream in zip(part.members, streams, strict=True):
        table = draw(np.random.Generator(np.random.PCG64(stream)), size)
        path = work / part.folder / member / part.file
        path.parent.mkdir(parents=True)
        _write_csv(path, table)
        yield GeneratedFile(
            scenario=scenario,
            member=member,
            path=root / part.folder / member / part.file,
            rows=len(table),
            units=int(table[part.unit].nunique()),
            events=int(table[part.event].sum()),
        )
    facts = {"scenario": scenario, "seed": seed, "size": size}
    (work / part.folder / MARK).write_text(json.dumps(facts, sort_keys=True) + "\n")


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    text = table.to_csv(index=False, lineterminator="\n").encode()
    # neither the time nor the name of the file may stand in the bytes
    path.write_bytes(gzip.compress(text, compresslevel=GZIP_LEVEL, mtime=0))


def _check_ours(folder: Path) -> None:
    if folder.exists() and not (folder / MARK).is_file():
        raise InputError(
            f"{folder}: is there already and was not generated; choose another data folder."
        )


def _scaled(count: int, size: float, *, least: int) -> int:
    return max(least, round(count * size))


def _fleet(kind: MachineKind, rng: np.random.Generator, size: float) -> pd.DataFrame:
    machines = _scaled(kind.fleet, size, least=LEAST_MACHINES)
    return simulate_fleet(kind, machines=machines, rng=rng).telemetry


def _policies(insurer: Insurer, rng: np.random.Generator, size: float) -> pd.DataFrame:
    count = _scaled(insurer.policies, size, least=LEAST_ROWS)
    return draw_policies(insurer, count=count, rng=rng).policies


def _leases(bank: Bank, rng: np.random.Generator, size: float) -> pd.DataFrame:
    count = _scaled(bank.leases, size, least=LEAST_ROWS)
    return draw_leases(bank, count=count, rng=rng).leases


_PARTS: Final[dict[Scenario, _Part]] = {
    "failure": _Part(
        folder="manufacturers",
        file="telemetry.csv.gz",
        unit="machine",
        event="failed",
        contract="machines.yaml",
        members=tuple((kind.name, partial(_fleet, kind)) for kind in KINDS),
    ),
    "claims": _Part(
        folder="insurers",
        file="policies.csv.gz",
        unit="policy",
        event="claims",
        contract="policies.yaml",
        members=tuple((insurer.name, partial(_policies, insurer)) for insurer in INSURERS),
    ),
    "credit": _Part(
        folder="banks",
        file="leases.csv.gz",
        unit="lease",
        event="default",
        contract="leases.yaml",
        members=tuple((bank.name, partial(_leases, bank)) for bank in BANKS),
    ),
}
