"""What one installation knows of itself, and whom it knows."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from clients.consent import Consent
from clients.contract import DataContract
from clients.members import MemberRows
from clients.policy import NodePolicy
from privacy.errors import RefusedError
from privacy.identity import Identity
from privacy.manifest import Manifest


@runtime_checkable
class Reasoning(Protocol):
    """Who decides, and can say why it has not yet."""

    def reason(self, manifest: Manifest) -> str:
        """Why a run waits, as one sentence for its launcher; may be empty."""
        ...


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What an installation knows of itself.

    Attributes:
        member: The name under which it is in the federation.
        identity: Its long-lived signing key, which never leaves it.
        launcher: Public key of who may start runs here, pinned; empty where `launchers` says it.
        launchers: Name -> public key of who may start runs here, as it is now; None: `launcher`.
        known: Member -> public key of everybody whom this node was told of at enrolment, itself
            included, or what says so as it is now. A run with anybody else in it is refused:
            members that a launcher made up would add vectors that it knows, and the rest of the
            sum would be one member's.
        recognised: Of those, whom its terms recognise now; None, or where it says None: everybody.
        left: Of these public keys, those whose holders take part in the federation no more, as it
            was seen last; asked before each step of a run under way. None: nobody leaves.
        seen: Digest of the first so many acts of membership, as this node sees them; empty: they
            are not so many. None: its runs are of no federation.
        suite: The federation's suite of algorithms, as its founder signed it; None: its runs are of
            no federation.
        contract: The contract that its rows keep.
        rows: Reads its rows; the argument is the fold that is kept for testing.
        policy: Its terms, or what says them as they are now.
        home: Its own folder.
        device: `auto`, `cpu` or `cuda`.
        tells_data_errors: Whether a refusal says what is wrong with the rows (counts, line
            numbers, file names); only for a coordinator on the same machine.
        own_machine: Whether all nodes of its runs are of this machine's own user, as embedded; see
            `clients.class_floor`.
        countersigned: Whether a member besides the launcher must have signed a run.
        consent: Asked about a run that fits everything else, with its launcher's name; None: yes.
        sessions: Whether runs are kept on disk, so that this node goes on with them after a
            restart (`clients.session_file`).
    """

    member: str
    identity: Identity
    launcher: bytes = b""
    launchers: Callable[[], Mapping[str, bytes]] | None = None
    known: Mapping[str, bytes] | Callable[[], Mapping[str, bytes]]
    recognised: Callable[[], Collection[str] | None] | None = None
    left: Callable[[Collection[bytes]], Collection[bytes]] | None = None
    seen: Callable[[int], str] | None = None
    suite: Callable[[], str] | None = None
    contract: DataContract
    rows: Callable[[int | None], MemberRows]
    policy: NodePolicy | Callable[[], NodePolicy]
    home: Path
    device: str = "auto"
    tells_data_errors: bool = False
    own_machine: bool = False
    countersigned: bool = False
    consent: Callable[[Manifest, str], Consent] | None = None
    sessions: bool = False

    def terms(self) -> NodePolicy:
        """The node's terms as they are now."""
        return self.policy() if callable(self.policy) else self.policy

    def members(self) -> Mapping[str, bytes]:
        """Member -> public key of everybody whom this node knows now."""
        return self.known() if callable(self.known) else self.known

    def strangers(self, names: Collection[str]) -> frozenset[str]:
        """Who of `names` is not recognised here; this node itself always is."""
        recognised = None if self.recognised is None else self.recognised()
        if recognised is None:
            return frozenset()
        return frozenset(names) - frozenset(recognised) - {self.member}

    def gone(self, directory: Mapping[str, bytes]) -> frozenset[str]:
        """Who of these takes part in the federation no more; by name, with the keys of a run."""
        if self.left is None:
            return frozenset()
        keys = frozenset(self.left(frozenset(directory.values())))
        return frozenset(name for name, key in directory.items() if key in keys)

    def initiator(self, key: bytes) -> tuple[str, bytes]:
        """Name and public key of who signed a run, if it may start runs here.

        Args:
            key: As the coordinator says it; empty for the one that is pinned.

        Raises:
            RefusedError: It may not.
        """
        if self.launchers is not None:
            allowed = self.launchers()
        else:
            names = [name for name, public in self.members().items() if public == self.launcher]
            allowed = {next(iter(names), "the launcher"): self.launcher}
        public = key or self.launcher
        for name, one in allowed.items():
            if public and one == public:
                return name, public
        raise RefusedError(
            "This run was started by somebody who may start none here; "
            "a bank or an insurer of this federation may."
        )
