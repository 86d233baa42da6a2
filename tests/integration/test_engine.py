"""What is relied on in Flower, and the embedded grid's promises."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from support import tables

from aggregator.app import GridTransport
from federation.config import load_project
from federation.engine.local_grid import FIRST_ADDRESS, LocalGrid
from federation.engine.worker import LocalNode
from federation.evidence import home_bundle
from federation.home import Home
from federation.launch import LaunchOptions, Silent, launch_local
from privacy.errors import TacitError
from privacy.identity import Identity
from privacy.messages import Invite, Refused
from privacy.randomness import system_bytes
from privacy.verify import verify_bundle


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


def test_flower_still_has_what_the_adapter_relies_on() -> None:
    TaskIdentity.task_id = 1
    TaskIdentity.run_id = 5
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    abstract = {
        "set_run", "run", "create_message", "get_node_ids", "push_messages", "pull_messages",
        "send_and_receive",
    }  # fmt: skip
    assert set(Grid.__abstractmethods__) == abstract
    message = Message(RecordDict({"message": ConfigRecord({"bytes": b"x"})}), 7, "query")
    message.metadata.__dict__["_message_id"] = "abc"
    wire = message_to_proto(message).SerializeToString()
    again = message_from_proto(WireMessage.FromString(wire))
    assert again.metadata.message_id == "abc"
    assert again.metadata.dst_node_id == 7
    assert again.content.config_records["message"]["bytes"] == b"x"


def test_messages_reach_every_node_and_refusals_come_back_as_sentences(
    nodes: list[LocalNode],
) -> None:
    with LocalGrid(nodes, workers=2) as grid:
        grid.ready()
        assert list(grid.get_node_ids()) == [FIRST_ADDRESS + i for i in range(3)]
        assert {node.name for node in grid.get_nodes()} == set(tables.MEMBERS)
        transport = GridTransport(grid)
        asked = {
            node: (Invite(manifest=b"no", signature=bytes(64)), b"") for node in transport.nodes()
        }
        answers = transport.exchange(
            asked, kind="query", deadline_s=60, needed=list(asked), grace_s=0
        )
        assert set(answers) == set(asked)
        replies = [reply for reply, _ in answers.values()]
        assert all(isinstance(reply, Refused) for reply in replies)
        assert {reply.member for reply in replies} == set(tables.MEMBERS)


def test_a_late_node_is_left_out_when_the_time_is_up(nodes: list[LocalNode]) -> None:
    with LocalGrid(nodes, workers=1) as grid:
        grid.ready()
        transport = GridTransport(grid)
        asked = {
            node: (Invite(manifest=b"no", signature=bytes(64)), b"") for node in transport.nodes()
        }
        # the nodes' one process stands still, so that late is late however slow this machine is
        (process,) = grid._home[FIRST_ADDRESS]._processes
        os.kill(process, signal.SIGSTOP)
        try:
            found = transport.exchange(
                asked, kind="query", deadline_s=0.2, needed=list(asked), grace_s=0
            )
            assert found == {}
            # nor is a node waited for that is not needed
            started = time.monotonic()
            found = transport.exchange(asked, kind="query", deadline_s=600, needed=[], grace_s=0)
            assert found == {}
            assert time.monotonic() - started < 60
        finally:
            os.kill(process, signal.SIGCONT)
        # and who goes on is heard again
        found = transport.exchange(
            asked, kind="query", deadline_s=60, needed=list(asked), grace_s=0
        )
        assert set(found) == set(asked)


def test_a_node_that_cannot_start_says_why(nodes: list[LocalNode]) -> None:
    (nodes[1].home / "identity.pem").write_text("nonsense")
    (nodes[1].home / "identity.pem").chmod(0o600)
    with (
        LocalGrid(nodes, workers=1) as grid,
        pytest.raises(TacitError, match="no private key"),
    ):
        grid.ready()


def test_leaving_the_grid_ends_its_workers(nodes: list[LocalNode]) -> None:
    with LocalGrid(nodes, workers=2) as grid:
        grid.ready()
        workers = [p for one in grid._workers for p in one._processes]
    end = time.monotonic() + 60
    while time.monotonic() < end and any(_runs(pid) for pid in workers):
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone, perhaps while it was looked at
        return False


def test_a_run_goes_on_when_a_members_process_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tables.table("binary")
    rows["member"] = [f"m{i % 5}" for i in range(len(rows))]
    changes = {"training": {"rounds": 4, "batch_rows": 32, "learning_rate": 0.02}}
    where = tables.write(tmp_path / "data", rows=rows, config_changes=changes)
    grids: list[LocalGrid] = []
    ready = LocalGrid.ready

    def remembered(grid: LocalGrid) -> None:
        grids.append(grid)
        ready(grid)

    monkeypatch.setattr(LocalGrid, "ready", remembered)

    class Killer(Silent):
        def round(
            self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
        ) -> None:
            del of, metrics, facts
            if index == 2:
                # five workers, so that one process is one member
                (pid,) = grids[0]._home[FIRST_ADDRESS]._processes
                os.kill(pid, signal.SIGKILL)

    options = LaunchOptions(data_root=where.root, workers=5, device="cpu")
    home = Home(tmp_path / "home")
    result = launch_local(load_project(where.config), home, options, Killer())
    assert set(result["absences"]) == {"m0"}
    assert result["absences"]["m0"] >= 3  # two rounds and the test
    assert result["metrics"]["auc"] > 0.7
    assert result["by_member"]["m1"]["auc"] > 0.5
    verdict = verify_bundle(home_bundle(home))
    assert (verdict.rounds, verdict.unfinished, verdict.missing) == (4, (), ())


def test_the_demo_configs_name_their_contracts() -> None:
    from federation.scenarios import story

    for name in ("failure", "claims", "credit"):
        assert load_project(story.FOLDER / f"{name}.yaml").config.task == name
