"""What runs inside a worker process of the embedded engine: some nodes, each with its own state.

The parent process is the coordinator. It never holds a node: it passes bytes in and gets bytes out,
the same bytes that Flower would put on the wire. Rows are read here and stay here; where several
members' rows lie in one file, the file is read once and each node is given its own.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from federation.open_files import allow_files

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp

    from clients.members import MemberRows
    from clients.node import Node
    from privacy.manifest import Protection


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """What a worker needs to start one node; it holds no secret.

    Attributes:
        member: Its name.
        home: Its own folder, with its identity and perhaps its policy.
        federation: The home, whose policy stands for nodes without their own.
        contract: The contract's file.
        data_root: Where the contract's paths begin.
        launcher: Public key of who may start runs.
        known: Member -> public key of all members.
        device: `auto`, `cpu` or `cuda`.
        allowed: Ways to protect sums that it permits besides those of the usual policy.
    """

    member: str
    home: Path
    federation: Path
    contract: Path
    data_root: Path
    launcher: bytes
    known: Mapping[str, bytes]
    device: str = "auto"
    allowed: tuple["Protection", ...] = ()


# A node's ledger is a file, its log and its index.
_FILES_EACH = 4
_FILES_BESIDE = 256
# What a node is shown of each member and verifies: votes and acceptances, of two steps at most.
_SIGNATURES_EACH = 8

_NODES: dict[int, "Node"] = {}
_APPS: dict[int, "ClientApp"] = {}
_HELD: dict[int, LocalNode] = {}


def start(nodes: dict[int, LocalNode], threads: int, coordinator: Connection) -> None:
    """Make this process the home of some nodes. Runs once, in the worker.

    Args:
        nodes: Address -> node.
        threads: For torch.
        coordinator: A pipe that closes when the coordinator's process is gone, however it went.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides how a run ends
    threading.Thread(target=_end_with, args=(coordinator,), daemon=True).start()
    hold(nodes, threads)


def hold(nodes: dict[int, LocalNode], threads: int) -> None:
    """Keep some nodes in this process, whatever it was started by; `join` starts them.

    Args:
        nodes: Address -> node.
        threads: For torch.
    """
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    import torch

    from privacy.signature import remember

    torch.set_num_threads(threads)
    allow_files(_FILES_EACH * len(nodes) + _FILES_BESIDE)
    # every node verifies what all members signed, and here the same ones for many nodes
    remember(_SIGNATURES_EACH * max((len(node.known) for node in nodes.values()), default=0))
    _HELD.update(nodes)


def _end_with(coordinator: Connection) -> None:
    """Leave when the coordinator was killed: nobody else would end its workers then."""
    with suppress(EOFError, OSError):
        coordinator.recv_bytes()
    os._exit(1)


def join() -> tuple[str, ...]:
    """Start the nodes; returns their members. An error here is the first thing a user sees."""
    from clients.app import client_app
    from clients.contract import load_contract
    from clients.node import Node
    from clients.node_settings import NodeSettings
    from federation.node_policy import read_policy
    from privacy.identity import Identity

    members = frozenset(node.member for node in _HELD.values())
    for address, local in _HELD.items():
        _log_to(local.home, local.member)
        policy = read_policy(local.federation, local.home)
        settings = NodeSettings(
            member=local.member,
            identity=Identity.load(local.home / "identity.pem"),
            launcher=local.launcher,
            known=local.known,
            tells_data_errors=True,  # the coordinator is this machine's own user
            own_machine=True,
            contract=load_contract(local.contract),
            rows=_reader(local, members),
            policy=policy.model_copy(update={"sums": (*policy.sums, *local.allowed)}),
            home=local.home,
            device=local.device,
        )
        _NODES[address] = Node(settings)
        _APPS[address] = client_app(_NODES[address])
    return tuple(sorted(members))


def handle(address: int, run_id: int, wire: bytes) -> bytes:
    """Give one Flower message to a node's app; both are Flower's own encoding."""
    from flwr.app import Context, Error, Message, RecordDict
    from flwr.common.constant import ErrorCode
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as WireMessage

    message = message_from_proto(WireMessage.FromString(wire))
    context = Context(
        run_id=run_id, node_id=address, node_config={}, state=RecordDict(), run_config={}
    )
    try:
        reply = _APPS[address](message, context)
    except Exception:
        logging.getLogger(f"tacit.node.{_HELD[address].member}").exception("the app failed")
        reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, ""), reply_to=message)
    return bytes(message_to_proto(reply).SerializeToString())


def _reader(local: LocalNode, members: frozenset[str]) -> Callable[[int | None], "MemberRows"]:
    def read(fold: int | None) -> "MemberRows":
        return _rows(local.contract, local.data_root, members, fold)[local.member]

    return read


@lru_cache(maxsize=1)
def _rows(
    contract: Path, data_root: Path, members: frozenset[str], fold: int | None
) -> dict[str, "MemberRows"]:
    from clients.contract import load_contract
    from clients.members import read_members

    return read_members(load_contract(contract), data_root, only=members, fold=fold)


def _log_to(home: Path, member: str) -> None:
    logger = logging.getLogger(f"tacit.node.{member}")
    if not logger.handlers:
        logging.raiseExceptions = False  # a full disk takes lines of a log, and tells nobody else
        handler = logging.FileHandler(home / "node.log", encoding="utf-8", delay=True)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO)
