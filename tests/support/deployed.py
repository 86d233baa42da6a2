"""A federation of real processes: each participant a home of its own, `tacit` as a user types it.

On this machine's loopback, or each on a machine of its own (`support.network`). A process that is
killed is killed with SIGKILL, as a power cut would; what it had said is in its log.
"""

import hashlib
import http.client
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import tables
from support.cli import begin, environment, run
from support.network import Host, Network
from support.ports import free_ports

from clients.model_file import opened_model, parse_model
from clients.vault_folder import folder_vault
from privacy.randomness import system_bytes

COMMAND_S = 300.0
READY_S = 180.0
END_S = 60.0
OPERATOR = "operator"
LOOPBACK = "127.0.0.1"
DOOR, REGISTRY, FLEET, OPERATIONS = 9441, 9443, 9444, 9440


@dataclass
class Process:
    """One that was started and goes on.

    Attributes:
        name: For sentences.
        popen: The process.
        log: What it wrote to standard error; `out` holds its standard output.
        out: See `log`.
    """

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path
    out: Path

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def said(self) -> str:
        """All it wrote so far to standard error."""
        return self.log.read_text("utf-8", "replace")

    def kill(self) -> None:
        """End it as a power cut would."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(END_S)

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.alive:
            self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(END_S)

    def pause(self) -> None:
        """Let it hang, its connections open."""
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.popen.send_signal(signal.SIGCONT)

    def end(self, timeout_s: float) -> int:
        """Wait for it to end by itself, and return its exit code."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} did not end in {timeout_s:g} s:\n{self.said()[-4000:]}"
            ) from None

    def result(self, timeout_s: float, *, code: int = 0) -> dict[str, Any]:
        """Wait for it to end with this code, and return the object that it printed."""
        found = self.end(timeout_s)
        assert found == code, f"{self.name} ended with {found}:\n{self.said()[-4000:]}"
        value = json.loads(self.out.read_text("utf-8"))
        assert isinstance(value, dict)
        return value


@dataclass
class Machine:
    """Where one participant's commands run.

    Attributes:
        name: The participant's.
        folder: Its own; `home` is below it.
        host: Its network; None: the loopback of this machine.
        running: What was started last, by what it is.
        count: Of what was started.
        besides: What its processes' environments hold beside the usual.
    """

    name: str
    folder: Path
    host: Host | None = None
    running: dict[str, Process] = field(default_factory=dict)
    count: int = 0
    besides: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.home) | self.besides

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def address(self) -> str:
        return LOOPBACK if self.host is None else self.host.address

    @property
    def before(self) -> list[str]:
        """What stands before a command line that is for this machine."""
        return [] if self.host is None else self.host.command()

    def tacit(
        self, *words: str, code: int = 0, timeout_s: float = COMMAND_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end; it must end with `code`."""
        done = run(words, env=self.environment, timeout_s=timeout_s, on=self.before)
        assert done.returncode == code, (
            f"{self.name}: tacit {' '.join(words)} ended with {done.returncode}:\n"
            f"{done.stderr[-4000:]}"
        )
        return done

    def json(self, *words: str, code: int = 0, timeout_s: float = COMMAND_S) -> dict[str, Any]:
        """As `tacit`; returns the one object that `--json` prints."""
        value = json.loads(self.tacit(*words, "--json", code=code, timeout_s=timeout_s).stdout)
        assert isinstance(value, dict)
        return value

    def start(self, what: str, *words: str) -> Process:
        """Start it in the background, under the name `what`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        log = self.folder / f"{self.count:02d}-{what}.log"
        out = log.with_suffix(".out")
        with log.open("wb") as errors, out.open("wb") as output:
            popen = begin(
                words,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                on=self.before,
            )
        process = Process(f"{self.name}'s {what}", popen, log, out)
        self.running[what] = process
        return process

    def answers(self, port: int) -> bool:
        """Whether something listens at this port of this machine."""

        def connect() -> bool:
            try:
                socket.create_connection((self.address, port), timeout=2).close()
            except OSError:
                return False
            return True

        return connect() if self.host is None else self.host.call(connect)

    def call_operations(self, path: str, port: int) -> str:
        """What the operations port of this machine's loopback says, whatever its status."""

        def get() -> str:
            line = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
            try:
                line.request("GET", path)
                return line.getresponse().read().decode()
            except OSError:
                return ""  # it is not there now
            finally:
                line.close()

        return get() if self.host is None else self.host.call(get)

    def end_all(self) -> None:
        """Kill what still runs."""
        for process in self.running.values():
            if process.alive:
                process.kill()


def wait_for(
    done: Callable[[], bool],
    why: str,
    *,
    timeout_s: float = READY_S,
    of: Sequence[Process] = (),
    every_s: float = 0.1,
) -> None:
    """Return as soon as `done`; fail where it takes too long, or a process that is needed ended."""
    until_s = time.monotonic() + timeout_s
    while not done():
        ended = [one for one in of if not one.alive]
        if ended or time.monotonic() > until_s:
            told = "\n".join(f"--- {one.name}\n{one.said()[-3000:]}" for one in of)
            what = f"{ended[0].name} ended" if ended else f"it took more than {timeout_s:g} s"
            raise AssertionError(f"{why}: {what}\n{told}")
        time.sleep(every_s)


@dataclass
class Deployed:
    """A federation's machines.

    Attributes:
        coordinator: The operator's.
        members: By name; their roles stand in `roles`.
        ports: Of the coordinator: door, registry, fleet, operations.
        roles: Member -> role.
        network: What is between them; None on the loopback.
        count: Of the bundles that were exported.
        tokens: Member -> the invitation that it was sent.
    """

    coordinator: Machine
    members: dict[str, Machine]
    roles: Mapping[str, str]
    ports: tuple[int, int, int, int]
    network: Network | None = None
    count: int = 0
    tokens: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Machine:
        return self.members[name]

    @property
    def lan(self) -> Network:
        """What is between the machines; there is nothing on the loopback."""
        assert self.network is not None
        return self.network

    # the operator ---------------------------------------------------------------------------

    def found(self, name: str = "demo", *, approvals: int = 2, suite: str = "intl") -> None:
        """Begin the federation."""
        door, registry, fleet, _ = self.ports
        self.coordinator.tacit(
            "federation", "init", "--name", name, "--host", self.coordinator.address,
            "--approvals", str(approvals), "--door-port", str(door),
            "--registry-port", str(registry), "--fleet-port", str(fleet), "--suite", suite,
        )  # fmt: skip

    def start_coordinator(self) -> Process:
        """Start it, and wait until it answers."""
        door, registry, fleet, operations = self.ports
        process = self.coordinator.start(
            "coordinator", "coordinator", "start",
            "--listen", self.coordinator.address, "--operations", f"{LOOPBACK}:{operations}",
        )  # fmt: skip
        for port in (door, registry, fleet):
            wait_for(
                lambda port=port: self.coordinator.answers(port),  # type: ignore[misc]
                "the coordinator does not answer",
                of=[process],
            )
        return process

    # members --------------------------------------------------------------------------------

    def invite(self, name: str) -> str:
        """Return a token for a member."""
        found = self.coordinator.json(
            "federation", "invite", "--role", self.roles[name], "--name", name
        )
        self.tokens[name] = str(found["token"])
        return self.tokens[name]

    def ask(self, name: str, token: str) -> Process:
        """Ask to be let in with a token, and wait for it in the background."""
        return self.members[name].start("join", "node", "join", token, "--json")

    def approve(self, name: str, asking: Process, *, approvers: Sequence[str] = ()) -> None:
        """Let the operator, and these members where they are needed, approve who asks."""
        wait_for(lambda: "must approve" in asking.said(), f"{name} does not ask", of=[asking])
        for approver in (self.coordinator, *(self.members[one] for one in approvers)):
            if approver.json("federation", "approve", name, "--yes")["admitted"]:
                break
        told = asking.result(READY_S)
        assert told["joined"] is True, told

    def join(self, name: str, *, approvers: Sequence[str] = ()) -> None:
        """Invite, ask, approve, and be in."""
        self.approve(name, self.ask(name, self.invite(name)), approvers=approvers)

    def standing(self, state: str) -> set[str]:
        """Who stands so in the operator's listing: active, waiting, invited, revoked."""
        found = self.coordinator.json("federation", "members")
        return {str(one["name"]) for one in found["members"] if one["state"] == state}

    def join_all(self, joined: Callable[[str], object] = lambda _: None) -> None:
        """All members join, each approved by the operator and by one who is in already.

        Args:
            joined: Called with each as soon as it is in.
        """
        asking = {name: self.ask(name, self.invite(name)) for name in self.members}
        before: list[str] = []
        for name, process in asking.items():
            self.approve(name, process, approvers=before[-1:])
            before.append(name)
            joined(name)

    def start_node(self, name: str) -> Process:
        """Start a member's node over its own rows."""
        machine = self.members[name]
        data = machine.folder / "data"
        if not (machine.home / "node" / "policy.yaml").exists():
            allow(machine, {})
        return machine.start(
            "node", "node", "start", "--contract", str(data / "contract.yaml"), "--data", str(data)
        )

    def start_nodes(self) -> None:
        """Start all nodes."""
        for name in self.members:
            self.start_node(name)

    def connected(self, *names: str) -> None:
        """Wait until these nodes, or all, say that they are connected."""
        for name in names or self.members:
            node = self.members[name].running["node"]
            wait_for(
                lambda n=node: "connected to" in n.said(),  # type: ignore[misc]
                f"{name} is not online",
                timeout_s=2 * READY_S,
                of=[node],
            )

    def audited(self) -> dict[str, Any]:
        """What `tacit audit verify` says of all ledgers, which each machine exported by itself."""
        machines = (self.coordinator, *self.members.values())
        self.count += 1
        paths = [one.folder / f"{self.count}.bundle" for one in machines]
        for machine, path in zip(machines, paths, strict=True):
            machine.json("audit", "export", str(path))
        whole = self.coordinator.folder / f"{self.count}.whole.bundle"
        self.coordinator.json("audit", "merge", str(whole), *map(str, paths))
        return self.coordinator.json("audit", "verify", str(whole))

    def launch(self, name: str, config: Path, *words: str) -> Process:
        """A member launches a run, and goes on watching it."""
        return self.members[name].start("launch", "run", "launch", str(config), *words, "--json")

    def logs(self) -> dict[str, str]:
        """Everything that every process wrote, by file."""
        machines = (self.coordinator, *self.members.values())
        return {
            f"{machine.name}/{path.name}": path.read_text("utf-8", "replace")
            for machine in machines
            for path in sorted(machine.folder.glob("*-*.*"))
            if path.suffix in {".log", ".out"}
        }


@contextmanager
def deployed(
    folder: Path, roles: Mapping[str, str], *, network: Network | None = None
) -> Iterator[Deployed]:
    """Machines of a coordinator and of these members; nothing runs yet."""

    def machine(name: str) -> Machine:
        host = None if network is None else network[name]
        made = Machine(name, folder / name, host)
        made.folder.mkdir(parents=True, exist_ok=True)
        return made

    ports = tuple(free_ports(4)) if network is None else (DOOR, REGISTRY, FLEET, OPERATIONS)
    assert len(ports) == 4
    found = Deployed(
        machine(OPERATOR), {name: machine(name) for name in roles}, roles, ports, network
    )
    try:
        yield found
    finally:
        for one in (found.coordinator, *found.members.values()):
            one.end_all()


def give_rows(
    federation: Deployed,
    kind: str = "binary",
    *,
    rows: int = 300,
    config_changes: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Give each member rows of its own, and nobody else's; return each one's run config."""
    contract = tables.contract(kind)
    del contract["members"]
    contract["columns"] = [one for one in contract["columns"] if one["name"] != "member"]
    configs: dict[str, Path] = {}
    for seed, (name, machine) in enumerate(federation.members.items(), start=1):
        data = machine.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        own = tables.table(kind, rows=rows, seed=seed).drop(columns="member")
        own["id"] += 1_000_000 * seed  # no two members have a unit in common
        own.to_csv(data / "table.csv", index=False)
        (data / "contract.yaml").write_text(json.dumps(contract))
        configs[name] = data / "config.yaml"
        changes = dict(config_changes or {})
        configs[name].write_text(json.dumps(tables.config(kind, **changes)))
    return configs


def allow(machine: Machine, policy: Mapping[str, Any]) -> None:
    """Write a node's terms; runs without noise are let in, as most here are, unless they say."""
    terms = {"minimum_protection": {"noise_from": "none"}, **policy}
    folder = machine.home / "node"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_text(folder / "policy.yaml", json.dumps(terms))


def replace_text(path: Path, text: str) -> None:
    """Write a file that a process may read meanwhile: it finds the old words or the new ones."""
    made = path.with_name(f"{path.name}.new")
    made.write_text(text)
    made.replace(path)


def rounds_seen(launch: Process) -> int:
    """How many rounds a launch has told of."""
    return launch.said().count("round ")


def sessions(machine: Machine) -> list[Path]:
    """What a node keeps of runs that go on: all of its key material of a run is in there."""
    return sorted((machine.home / "node" / "sessions").glob("[0-9a-f]*"))


def models(federation: Deployed, run: str) -> dict[str, str]:
    """The hash of what each member's copy of a run's model holds, where it has one.

    Not of the file: the order of what its header says is not the same at all.
    """
    found: dict[str, str] = {}
    for name, machine in federation.members.items():
        path = machine.home / "node" / "runs" / run / "model.safetensors"
        if path.exists():
            vault = folder_vault(machine.home / "node", "L3", system_bytes)
            held, about = parse_model(opened_model(path, run, vault), name)
            kept = json.dumps(about, sort_keys=True).encode()
            parts = (key.encode() + value.tobytes() for key, value in sorted(held.items()))
            found[name] = hashlib.sha256(b"".join([kept, *parts])).hexdigest()
    return found


def row_values(federation: Deployed) -> set[str]:
    """Texts that stand in members' rows and are long enough not to be met by chance."""
    found: set[str] = set()
    for machine in federation.members.values():
        table = (machine.folder / "data" / "table.csv").read_text("utf-8")
        cells = (cell for line in table.splitlines()[1:] for cell in line.split(","))
        found |= {cell for cell in cells if len(cell) >= 7 and cell[0].isdigit() and "." in cell}
    return found


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below a folder, and what it holds."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()
