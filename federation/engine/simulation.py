"""Flower's simulation engine (Ray) behind Flower's own `Grid`: one machine, or several.

The same apps as in the embedded engine. Flower's engine keeps no state with a node and gives a
message to any idle actor of its pool; a node's keys and masks have to stay in one process. So the
nodes live in hosts, Ray actors that stay, and the pool's app passes the bytes of a message to the
host of its node. Where Ray runs on several machines, hosts are spread over them; the home and the
data must then be on a file system that all of them see, and tacit be installed on each.

Ray hands its own objects from process to process as it likes; what passes between coordinator and
nodes is Flower's encoding here too.

Relied on in flwr 1.41: `start_vce`, `InMemoryGrid`, the partition's number in a context's
`node_config`. Relied on in ray 2.55: actors, `SPREAD`.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import PARTITION_ID_KEY, SUPERLINK_NODE_ID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as WireMessage
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import InMemoryGrid

from federation.engine import worker
from federation.engine.worker import LocalNode
from privacy.errors import InputError, RefusedError, TacitError

if TYPE_CHECKING:
    from types import ModuleType

    from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState

_NAMESPACE = "tacit"
_STOP_S = 10.0
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray warns of what it will do otherwise some day
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def require_ray() -> None:
    """Return if Ray is installed.

    Raises:
        InputError: It is not.
    """
    if find_spec("ray") is None:
        raise InputError(
            "Ray is not installed; install tacit-fl[simulation], or launch without --engine ray."
        )


class _Host:
    """Some nodes, for as long as the grid is open; becomes a Ray actor."""

    def __init__(self, nodes: dict[int, LocalNode], threads: int) -> None:
        worker.hold(nodes, threads)

    def join(self) -> tuple[str, ...]:
        """See `worker.join`."""
        return worker.join()

    def handle(self, address: int, run_id: int, wire: bytes) -> bytes:
        """See `worker.handle`."""
        return worker.handle(address, run_id, wire)


def relay_app(session: str, hosts: int) -> ClientApp:
    """The app that Flower's pool runs: a message goes to the host of its node, the answer back.

    Args:
        session: Whose hosts.
        hosts: How many.
    """
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        import ray

        place = int(context.node_config[PARTITION_ID_KEY])
        host = ray.get_actor(_host_name(session, place % hosts), namespace=_NAMESPACE)
        wire = message_to_proto(message).SerializeToString()
        reply = ray.get(host.handle.remote(place, context.run_id, wire))
        return message_from_proto(WireMessage.FromString(reply))

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app


class SimulationGrid(InMemoryGrid):
    """See the module. Use it as a context; leaving it ends every host."""

    def __init__(
        self,
        nodes: Sequence[LocalNode],
        *,
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        """Start hosts and engine.

        Args:
            nodes: The members' nodes.
            workers: Processes that hold nodes; None: one a core of all machines.
            address: Of a Ray that runs already ("auto": the one that this machine belongs to);
                None: Ray is started here, and ended with the grid.

        Raises:
            InputError: Ray is not installed, or there is none at the address.
        """
        if not nodes:
            raise ValueError("a grid needs a node")
        require_ray()
        os.environ.update(_QUIET)
        import ray
        from flwr.server.superlink.linkstate import LinkStateFactory
        from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
        from flwr.supercore.object_store import ObjectStoreFactory
        from flwr.superlink.federation import NoOpFederationManager

        self._ray: ModuleType = ray
        self._session = os.urandom(8).hex()
        # Ray leaves a folder of logs for every session; its sockets need a short path
        self._folder = None if address else Path(tempfile.mkdtemp(prefix="tacit-ray-"))
        self._connect(address)
        try:
            cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
            count = min(workers or cores, len(nodes))
            self._hosts = [
                self._host(index, {i: nodes[i] for i in range(index, len(nodes), count)})
                for index in range(count)
            ]
            self._joining = [host.join.remote() for host in self._hosts]
            run = Run.create_empty(run_id=int.from_bytes(os.urandom(8), "big") >> 1)
            run.primary_task_id, run.federation_id = 1, NOOP_FEDERATION_ID
            TaskIdentity.task_id, TaskIdentity.run_id = 1, run.run_id
            TaskIdentity.node_id = SUPERLINK_NODE_ID
            factory = LinkStateFactory(
                FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
            )
            super().__init__(factory)
            _register(cast("InMemoryLinkState", self.state), run)
            self.set_run(run)
            self._stop = threading.Event()
            self._fault: BaseException | None = None
            self._engine = threading.Thread(
                target=self._serve, args=(factory, run, len(nodes), cores / count), daemon=True
            )
            self._engine.start()
            self._wait_for(len(nodes))
        except BaseException:
            self._disconnect()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ready(self) -> None:
        """Wait until every node has started.

        Raises:
            TacitError: A node could not start; its own sentence.
        """
        try:
            self._ray.get(self._joining)
        except self._ray.exceptions.RayTaskError as failure:
            cause = failure.cause
            if isinstance(cause, TacitError):
                raise cause from None
            raise
        except self._ray.exceptions.RayActorError:
            raise RefusedError(
                "A node's process ended by itself, perhaps for want of memory; see its node.log."
            ) from None

    def close(self) -> None:
        """End engine and hosts; what was under way is lost."""
        self._stop.set()
        self._engine.join(_STOP_S)
        self._disconnect()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there.

        Raises:
            RefusedError: The engine has ended, so that none will come any more.
        """
        if not self._engine.is_alive():
            raise RefusedError(
                f"Flower's simulation engine ended by itself ({self._fault or 'no reason given'})."
            )
        return super().pull_messages(message_ids)

    def _connect(self, address: str | None) -> None:
        if self._ray.is_initialized():
            raise RefusedError("This process uses Ray already; launch in a process of its own.")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        try:
            if address is None:
                # hosts find what this process was started with
                paths = os.pathsep.join(path for path in sys.path if path)
                environment = {**_QUIET, "PYTHONPATH": paths}
                self._ray.init(
                    address="local",
                    include_dashboard=False,
                    namespace=_NAMESPACE,
                    _temp_dir=str(self._folder),
                    runtime_env={"env_vars": environment},
                    **quiet,
                )
            else:
                self._ray.init(
                    address=address,
                    namespace=_NAMESPACE,
                    runtime_env={"env_vars": _QUIET},
                    **quiet,
                )
        except ConnectionError:
            self._disconnect()
            raise InputError(
                f"There is no Ray at {address}; start one with `ray start --head`."
            ) from None

    def _host(self, index: int, nodes: dict[int, LocalNode]) -> Any:  # noqa: ANN401 - Ray's own
        # a pool's actor waits for a host while that works, so the two share a core
        options = {
            "name": _host_name(self._session, index),
            "namespace": _NAMESPACE,
            "num_cpus": 0,
            "scheduling_strategy": "SPREAD",
        }
        return self._ray.remote(_Host).options(**options).remote(nodes, 1)

    def _serve(self, factory: Any, run: Run, nodes: int, cores_each: float) -> None:  # noqa: ANN401
        """Flower's engine; ends when `_stop` is set."""
        import json

        from flwr.server.superlink.fleet.vce.metrics import VceMetrics
        from flwr.server.superlink.fleet.vce.vce_api import start_vce

        settings = {
            "client_resources": {"num_cpus": max(1, int(cores_each)), "num_gpus": 0.0},
            "init_args": {},
        }
        try:
            start_vce(
                backend_name="ray",
                backend_config_json_stream=json.dumps(settings),
                app_dir="",
                is_app=False,
                f_stop=self._stop,
                run=run,
                metrics=VceMetrics(),
                client_app=relay_app(self._session, len(self._hosts)),
                num_supernodes=nodes,
                state_factory=factory,
            )
        except BaseException as fault:  # noqa: BLE001 - told where replies are asked for
            self._fault = fault

    def _wait_for(self, count: int) -> None:
        """Return when the engine knows all nodes.

        Raises:
            RefusedError: It ended before.
        """
        while len(list(self.get_node_ids())) < count:
            if not self._engine.is_alive():
                raise RefusedError(f"Flower's simulation engine did not start ({self._fault}).")
            time.sleep(0.05)

    def _disconnect(self) -> None:
        self._ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _host_name(session: str, index: int) -> str:
    return f"tacit-{session}-{index}"


def _register(state: "InMemoryLinkState", run: Run) -> None:
    """Let Flower's state know a run, as its own `run_simulation` does."""
    from flwr.proto.task_pb2 import Task
    from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord

    state.run_ids[run.run_id] = RunRecord(run=run)
    state.task_store[1] = Task(task_id=1, run_id=run.run_id)
