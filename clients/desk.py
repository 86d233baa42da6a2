"""One member with several data contracts: one identity, one ledger, a node for each contract."""

from collections.abc import Mapping, Sequence

from clients.node import Node
from privacy.errors import InputError, ProtocolError, RefusedError
from privacy.manifest import Manifest
from privacy.messages import CountersignRequest, Invite, Reply, Request, StateNotice, StopNotice


class Desk:
    """Gives each request to the node whose contract it is about; to its callers it is a node."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Serve the nodes of one member.

        Raises:
            InputError: They are of several members or folders, or two keep the same contract.
        """
        if not nodes:
            raise InputError("this node keeps no data contract; name one first")
        homes = {node.home.resolve() for node in nodes}
        if len(homes) != 1 or len({(node.member, node.public) for node in nodes}) != 1:
            raise InputError("the contracts of one node share its name, its key and its folder")
        self._nodes = {node.contract.digest: node for node in nodes}
        # budgets go by a contract's name; two under one name would be counted as one
        if len(self._nodes) != len(nodes) or len({n.contract.name for n in nodes}) != len(nodes):
            raise InputError("two of this node's contracts have one name; keep one of them")

    @property
    def member(self) -> str:
        """The member's name in the federation."""
        return self._any.member

    @property
    def tells_data_errors(self) -> bool:
        """See `NodeSettings`; only where all of its nodes do."""
        return all(node.tells_data_errors for node in self._nodes.values())

    @property
    def contracts(self) -> tuple[str, ...]:
        """The names of the contracts that are held, sorted."""
        return tuple(sorted(node.contract.name for node in self._nodes.values()))

    @property
    def runs(self) -> Mapping[str, str]:
        """Digest (hex) -> name of every run that the member is in now."""
        return {run: name for node in self._nodes.values() for run, name in node.runs.items()}

    def handle(self, request: Request, payload: bytes = b"") -> tuple[Reply, bytes]:
        """Answer one request of the coordinator; see `Node.handle`.

        Raises:
            RefusedError: No contract here is the run's, or its node will not.
        """
        return self._for(request).handle(request, payload)

    def restore(self) -> tuple[str, ...]:
        """Go on with the runs that were under way; see `Node.restore`."""
        return tuple(name for node in self._nodes.values() for name in node.restore())

    def leave(self, run: bytes, why: str) -> str:
        """Leave a run now; see `Node.leave`."""
        return next((name for node in self._nodes.values() if (name := node.leave(run, why))), "")

    def forget(self, before_ms: int) -> tuple[str, ...]:
        """Leave runs that nothing was heard of; see `Node.forget`."""
        return tuple(name for node in self._nodes.values() for name in node.forget(before_ms))

    @property
    def _any(self) -> Node:
        return next(iter(self._nodes.values()))

    def _for(self, request: Request) -> Node:
        if isinstance(request, StateNotice):
            return self._any
        if isinstance(request, Invite | CountersignRequest):
            # unsigned as yet, so this only chooses who looks at it
            node = self._nodes.get(Manifest.from_bytes(request.manifest).contract)
            if node is None:
                raise RefusedError(
                    "The run was planned for a data contract that is not held here; this node "
                    f"holds {', '.join(self.contracts)}: agree on one of them and plan again."
                )
            return node
        for node in self._nodes.values():
            if request.run.hex() in node.runs:
                return node
        for node in self._nodes.values():
            if node.knows(request.run):
                return node
        if isinstance(request, StopNotice):
            return self._any  # there is nothing of it to forget
        raise ProtocolError("This node has not joined that run; it must be invited first.")
