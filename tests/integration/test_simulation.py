"""The same apps on Flower's own simulation engine; where Ray is installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from support import tables

from aggregator.app import GridTransport
from federation.config import load_project
from federation.engine import local_grid
from federation.engine.simulation import SimulationGrid
from federation.engine.worker import LocalNode
from federation.evidence import home_bundle
from federation.home import Home
from federation.launch import LaunchOptions, launch_local
from privacy.errors import InputError, TacitError
from privacy.identity import Identity
from privacy.messages import Invite, Refused
from privacy.randomness import system_bytes
from privacy.verify import verify_bundle

with_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed; it is in the extra `simulation`"
)
# Ray leaves its own files and processes to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROUNDS = {"rounds": 1, "local_epochs": 1, "batch_rows": 64, "learning_rate": 0.01}


@pytest.fixture
def nodes(tmp_path: Path) -> list[LocalNode]:
    where = tables.write(tmp_path / "data")
    out = []
    for member in tables.MEMBERS:
        home = tmp_path / member
        home.mkdir()
        Identity.create(system_bytes).save(home / "identity.pem")
        out.append(
            LocalNode(
                member=member,
                home=home,
                federation=tmp_path,
                contract=where.contract,
                data_root=where.root,
                launcher=bytes(32),
                known={},
                device="cpu",
            )
        )
    return out


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_says_what_to_install(nodes: list[LocalNode]) -> None:
    with pytest.raises(InputError, match=r"install tacit-fl\[simulation\]"):
        SimulationGrid(nodes)


@with_ray
def test_nodes_answer_for_themselves(nodes: list[LocalNode]) -> None:
    invite = Invite(manifest=b"{}", signature=bytes(64))
    with SimulationGrid(nodes, workers=2) as grid:
        grid.ready()
        transport = GridTransport(grid)
        addresses = transport.nodes()
        answers = transport.exchange(
            dict.fromkeys(addresses, (invite, b"")),
            kind="query",
            deadline_s=60,
            needed=addresses,
            grace_s=0,
        )
        assert len(addresses) == len(tables.MEMBERS)
        assert all(isinstance(reply, Refused) for reply, _ in answers.values())
        assert {reply.member for reply, _ in answers.values()} == set(tables.MEMBERS)
        # what is no message of ours comes back as a refusal too
        asked = [
            Message(RecordDict({"message": ConfigRecord({"bytes": b"x"})}), addresses[0], "query")
        ]
        (reply,) = grid.send_and_receive(asked, timeout=60)
        assert not reply.has_error()


@with_ray
def test_a_node_that_cannot_start_says_why(nodes: list[LocalNode]) -> None:
    (nodes[0].home / "identity.pem").unlink()
    with (
        SimulationGrid(nodes, workers=1) as grid,
        pytest.raises(TacitError, match=r"identity\.pem"),
    ):
        grid.ready()


@with_ray
def test_a_launch_leaves_what_a_verifier_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_grid, "LocalGrid", SimulationGrid)
    where = tables.write(tmp_path / "data", config_changes={"training": ROUNDS})
    home = Home(tmp_path / "home")
    outcome = launch_local(
        load_project(where.config), home, LaunchOptions(data_root=where.root, workers=2)
    )
    assert outcome["absences"] == {}
    assert verify_bundle(home_bundle(home)).runs == 1
