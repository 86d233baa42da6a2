"""Where reviews of this machine's nodes are kept, and how a node's ledger is opened for them.

<home>/node/review/<data set>/                       of the deployed node
<home>/nodes/<data set>/<member>/review/<data set>/  of an embedded one
place.json                                       where its contract and rows were last
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from clients.durable_file import make_folder
from clients.gate import Device, Watched
from clients.ledger_files import LEDGER
from clients.policy import highest_class
from clients.review_store import FOLDER, Looked, Remembered, Reviews
from clients.vault_folder import (
    SEALED_CLASSES,
    ensure_vault,
    folder_vault,
    known_vault,
    vault_lock,
)
from federation.home import Home, read_json, write_json
from federation.kept_identity import kept_identity
from privacy.errors import InputError
from privacy.identity import Identity
from privacy.ledger.beginning import begin_ledger
from privacy.ledger.sqlite import SqliteLedger
from privacy.randomness import system_bytes

if TYPE_CHECKING:
    from clients.contract import DataContract
    from clients.judgement import Look

PLACE: Final = "place.json"
_LEAST_OF_DIGEST: Final = 8


@dataclass(frozen=True, slots=True)
class ReviewPlace:
    """The reviews of one member and one contract on this machine.

    Attributes:
        member: Whose.
        dataset: The contract's name.
        folder: The node's.
        identity: The file of the node's identity.
    """

    member: str
    dataset: str
    folder: Path
    identity: Path

    def open(self, contract: "DataContract | None" = None, *, begin: bool = True) -> Reviews:
        """Open the reviews; a node that never ran gets its identity and its ledger now.

        Args:
            contract: What the rows mean: its highest class is part of what files are sealed for.
                None: of whichever class files were sealed for.
            begin: Whether a ledger is begun where there is none.

        Raises:
            InputError: The folder cannot be written.
            RefusedError: The ledger is another's.
        """
        ledger = SqliteLedger(self.folder / LEDGER)
        if begin:
            try:
                make_folder(self.folder, mode=0o700)
            except OSError as failure:
                raise InputError(
                    f"{self.folder}: cannot be made ({failure.strerror}); give it to this user."
                ) from None
            # an embedded node's own; a participant's was made when it joined
            own = self.identity.parent == self.folder
            identity = (
                kept_identity(self.identity, system_bytes) if own else Identity.load(self.identity)
            )
            begin_ledger(ledger, identity, owner=self.member, role="node", time_ms=_now_ms())
        participants = begin and self.identity.parent != self.folder
        if participants and contract is not None and highest_class(contract) in SEALED_CLASSES:
            # who looks before this node ever started leaves nothing open either
            with vault_lock(self.folder):
                ensure_vault(self.folder, system_bytes)
        return Reviews(
            home=self.folder,
            ledger=ledger,
            dataset=self.dataset,
            entropy=system_bytes,
            now_ms=_now_ms,
            vault=known_vault(self.folder, system_bytes)
            if contract is None
            else folder_vault(self.folder, highest_class(contract), system_bytes),
        )

    def looks(self, contract: "DataContract") -> "Look":
        """A look that puts nothing on record, also where no node ever ran.

        Raises:
            TacitError: As `clients.review_store.Reviews.look`, when it looks.
        """

        def look(seen: Mapping[Device, Watched]) -> Looked:
            if (self.folder / LEDGER).exists():
                return self.open(contract, begin=False).look(seen, record=False)
            due = [device for device, one in seen.items() if one.puts_under_review()]
            return Looked(standings={}, new=tuple(sorted(due)))

        return look

    def remember(self, contract: Path, data: Path) -> None:
        """Remember where contract and rows are, for whoever shows a device later.

        Raises:
            InputError: The folder cannot be written.
        """
        folder = self.folder / FOLDER / self.dataset
        value = {"contract": str(contract.absolute()), "data": str(data.absolute())}
        path = folder / PLACE
        if not path.exists() or read_json(path) != value:
            make_folder(folder, mode=0o700)
            write_json(path, value)

    def remembered(self) -> tuple[Path, Path] | None:
        """Where contract and rows were last; None where nobody looked with `tacit data`."""
        path = self.folder / FOLDER / self.dataset / PLACE
        if not path.exists():
            return None
        value = read_json(path)
        return Path(str(value.get("contract"))), Path(str(value.get("data")))


def place_of(home: Home, contract: "DataContract", member: str) -> ReviewPlace:
    """Where the reviews of a member and a contract are: the deployed node's, if it is that."""
    own = _deployed(home)
    if own is not None and own[0] == member and contract.name in own[1]:
        return _own_place(home, member, contract.name)
    return embedded_place(home, contract, member)


def embedded_place(home: Home, contract: "DataContract", member: str) -> ReviewPlace:
    """Where the reviews of a node are that launches on this machine run."""
    folder = home.node(contract.name, member)
    return ReviewPlace(member, contract.name, folder, folder / "identity.pem")


def own_member(home: Home, contract: "DataContract") -> str | None:
    """The member whose deployed node this machine is, if it has rows of that contract."""
    own = _deployed(home)
    return own[0] if own is not None and contract.name in own[1] else None


def known_places(home: Home) -> tuple[ReviewPlace, ...]:
    """All places on this machine where there ever was a review."""
    found = []
    own = _deployed(home)
    if own is not None and (home.own_node / FOLDER).is_dir():
        found += [
            _own_place(home, own[0], path.name)
            for path in sorted((home.own_node / FOLDER).iterdir())
            if path.is_dir()
        ]
    for path in sorted((home.root / "nodes").glob(f"*/*/{FOLDER}/*")):
        folder = path.parent.parent
        if path.is_dir() and (folder / LEDGER).exists():
            member = unquote(folder.name)
            found.append(ReviewPlace(member, path.name, folder, folder / "identity.pem"))
    return tuple(found)


def chosen_places(
    home: Home, *, member: str | None, dataset: str | None
) -> tuple[ReviewPlace, ...]:
    """The known places of a member, of a data set, or all."""
    return tuple(
        place
        for place in known_places(home)
        if member in {None, place.member} and dataset in {None, place.dataset}
    )


def find_device(
    places: tuple[ReviewPlace, ...], named: str
) -> tuple[ReviewPlace, Reviews, Remembered]:
    """The one device that ever was under review and that is named: its name, or its digest.

    Raises:
        InputError: None is, or several are.
    """
    found = []
    for place in places:
        reviews = place.open(begin=False)
        for one in reviews.remembered():
            by_digest = len(named) >= _LEAST_OF_DIGEST and one.digest.startswith(named)
            if named == one.name or by_digest:
                found.append((place, reviews, one))
    if not found:
        raise InputError(
            f"{named} names no device that ever was under review here; see tacit data review list."
        )
    if len(found) > 1:
        whose = ", ".join(f"{place.member} ({place.dataset})" for place, _, _ in found)
        raise InputError(f"{named} is a device of {whose}; name one with --member or --dataset.")
    return found[0]


def _own_place(home: Home, member: str, dataset: str) -> ReviewPlace:
    return ReviewPlace(member, dataset, home.own_node, home.participant / "identity.pem")


def _deployed(home: Home) -> tuple[str, frozenset[str]] | None:
    """The name of this machine's own node, and the contracts that it remembers."""
    if not (home.participant / "federation.json").exists():
        return None
    from federation.node_data import NodeData
    from federation.participant import load_participant

    return load_participant(home).name, frozenset(NodeData.read(home.own_node).places)


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000
