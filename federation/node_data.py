"""What a node remembers of its data: which contracts its rows keep, and where the rows are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Self

from pydantic import Field

from clients.contract import DataContract, load_contract
from clients.durable_file import make_folder
from clients.frozen import Frozen, parse_settings
from federation.home import read_json, write_json
from privacy.errors import InputError

if TYPE_CHECKING:
    from clients.members import MemberRows

FILE: Final = "node.json"
Device = Literal["auto", "cpu", "cuda"]


class _Place(Frozen):
    contract: str
    data: str


class _File(Frozen):
    format: Literal[1]
    device: Device
    contracts: Mapping[str, _Place] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataPlace:
    """One contract's.

    Attributes:
        contract: The contract's file, absolute.
        data: Where its sources begin, absolute.
    """

    contract: Path
    data: Path


@dataclass(frozen=True, slots=True)
class NodeData:
    """See the module.

    Attributes:
        places: The contract's name -> where it is.
        device: What the node trains on.
    """

    places: Mapping[str, DataPlace] = field(default_factory=lambda: MappingProxyType({}))
    device: Device = "auto"

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what is remembered in a node's folder; nothing yet where there is no file.

        Raises:
            InputError: The file is none.
        """
        path = folder / FILE
        if not path.exists():
            return cls()
        kept = parse_settings(_File, read_json(path), str(path))
        places = {
            name: DataPlace(Path(place.contract), Path(place.data))
            for name, place in kept.contracts.items()
        }
        return cls(MappingProxyType(places), kept.device)

    def keep(self, folder: Path) -> None:
        """Remember this.

        Raises:
            InputError: The folder cannot be written.
        """
        contracts = {
            name: {"contract": str(place.contract), "data": str(place.data)}
            for name, place in sorted(self.places.items())
        }
        make_folder(folder, mode=0o700)
        write_json(folder / FILE, {"format": 1, "device": self.device, "contracts": contracts})

    def add(self, contract: Path, data: Path) -> Self:
        """Return this with one contract more; one of the same name is taken over.

        Raises:
            InputError: The contract cannot be read, or there is no such folder.
        """
        name = load_contract(contract).name
        if not data.exists():
            raise InputError(f"--data {data}: no such folder; give where the rows are.")
        place = DataPlace(contract.absolute(), data.absolute())
        return replace(self, places=MappingProxyType({**self.places, name: place}))

    def forget(self, name: str) -> Self:
        """Return this without a contract; its rows stay where they are.

        Raises:
            InputError: There is none of that name.
        """
        if name not in self.places:
            known = ", ".join(sorted(self.places)) or "none"
            raise InputError(f"--forget {name}: this node has no such contract; it has {known}.")
        kept = {key: place for key, place in self.places.items() if key != name}
        return replace(self, places=MappingProxyType(kept))

    def contracts(self) -> dict[str, DataContract]:
        """Read all contracts, by name.

        Raises:
            InputError: One cannot be read any more, or has another name now.
        """
        found: dict[str, DataContract] = {}
        for name, place in sorted(self.places.items()):
            contract = load_contract(place.contract)
            if contract.name != name:
                raise InputError(
                    f"{place.contract}: is about {contract.name} now and was about {name}; run "
                    f"tacit node start --forget {name}, and give it with --contract again."
                )
            found[name] = contract
        return found


def reader(contract: DataContract, data: Path, member: str) -> "Callable[[int | None], MemberRows]":
    """Return what reads a member's rows; its argument is the fold that is kept for testing.

    Of a contract that names members, only this member's rows are kept as they are read; of one
    that names none, all rows are this member's.
    """

    def read(fold: int | None) -> "MemberRows":
        from clients.members import read_members

        only = None if contract.members is None else frozenset({member})
        return read_members(contract, data, only=only, fold=fold, sole_member=member)[member]

    return read


def paired(contracts: list[Path], data: list[Path]) -> list[tuple[Path, Path]]:
    """Pair what was given as --contract and --data; one --data may stand for all.

    Raises:
        InputError: They cannot be paired.
    """
    if len(data) == 1:
        return [(contract, data[0]) for contract in contracts] or _unpaired()
    if len(data) != len(contracts):
        return _unpaired()
    return list(zip(contracts, data, strict=True))


def _unpaired() -> list[tuple[Path, Path]]:
    raise InputError(
        "Give a --data for each --contract, in the same order, or one --data for all of them."
    )
