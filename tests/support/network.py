"""Machines of a test: network namespaces with an address each, joined by one switch.

    with network(["coordinator", "ash", "birch"]) as lan:
        subprocess.run(lan["ash"].command("ping", "-c1", lan["coordinator"].address))
        lan.cut("ash")      # what ash sends is lost, and so is what is sent to it; nobody is told
        lan.heal("ash")
        lan.shape("ash", delay_ms=40, loss=0.01)

Two kinds of switch. `bridge`: the kernel's, over veth pairs, as quick as the machine. `wire`: a
process that carries packets between TUN devices, and delays and loses what it is told to, on
kernels without netem too; it is slower.

The switch has a namespace of its own, so nothing of the machine's own network is touched. All goes
with the context; what a test that was killed left behind goes with the next one. Where the tests
do not run as root, or there is no iproute2, they are skipped; with TACIT_NEED_NETWORK=1 they fail.
"""

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import pytest
from support.network_wire import enter

Switch = Literal["bridge", "wire"]
PREFIX = "tacit"
SUBNET = "10.77.0"
MASK = 24
_FIRST = 10
# a port outside the bridge has its carrier still: nobody at either end is told
_PORT = {"cut": ("nomaster",), "heal": ("master", "br0")}
_NAMED = re.compile(rf"{PREFIX}(\d+)-\w+")
_FOLDER = Path("/run/netns")
_COUNT = itertools.count()  # of the networks of this process
_HUB = Path(__file__).with_name("network_wire.py")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Host:
    """One machine.

    Attributes:
        name: How the test calls it.
        namespace: Of its network.
        address: IPv4.
    """

    name: str
    namespace: str
    address: str

    def command(self, *words: str) -> list[str]:
        """`words`, run on this machine; the process is the command's own, so signals reach it."""
        return ["ip", "netns", "exec", self.namespace, *words]

    def call(self, function: Callable[[], _T]) -> _T:
        """Return what `function` returns when its sockets are of this machine."""
        found: list[_T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                enter(self.namespace)
                found.append(function())
            except BaseException as error:  # noqa: BLE001 - raised again by the caller
                failed.append(error)

        thread = threading.Thread(target=run)  # a namespace is a thread's, and goes with it
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


@dataclass
class Network:
    """The machines, and what is between them."""

    hosts: dict[str, Host]
    switch: Switch
    hub: str
    ports: dict[str, str]
    wire: "subprocess.Popen[str] | None" = None
    away: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def cut(self, name: str) -> None:
        """From here on nothing reaches this machine, and nothing of it arrives."""
        self._tell("cut", name)
        self.away.add(name)

    def heal(self, name: str) -> None:
        """It is back."""
        self._tell("heal", name)
        self.away.discard(name)

    def shape(
        self, name: str, *, delay_ms: float = 0, jitter_ms: float = 0, loss: float = 0
    ) -> None:
        """Delay what this machine sends and gets, each way, and lose a share of it.

        On a bridge the kernel's netem does it; a kernel without it has the test skipped.
        """
        if self.switch == "wire":
            self._say(f"shape {name} {delay_ms} {jitter_ms} {loss}")
            return
        words = ["delay", f"{delay_ms}ms", f"{jitter_ms}ms", "loss", f"{100 * loss}%"]
        for namespace, device in ((self.hub, self.ports[name]), (self[name].namespace, "eth0")):
            made = _try(
                "tc", "-n", namespace, "qdisc", "replace", "dev", device, "root", "netem", *words
            )
            if made:
                pytest.skip(f"this kernel has no netem ({made}); use the wire")

    def _tell(self, what: Literal["cut", "heal"], name: str) -> None:
        if self.switch == "wire":
            self._say(f"{what} {name}")
            return
        _must("ip", "-n", self.hub, "link", "set", "dev", self.ports[name], *_PORT[what])

    def _say(self, line: str) -> None:
        assert self.wire is not None
        assert self.wire.stdin is not None
        assert self.wire.stdout is not None
        self.wire.stdin.write(f"{line}\n")
        self.wire.stdin.flush()
        assert self.wire.stdout.readline() == "ok\n"


@contextmanager
def network(names: Sequence[str], *, switch: Switch = "bridge") -> Iterator[Network]:
    """Machines of these names, for as long as the context."""
    require_network()
    sweep()
    own = f"{PREFIX}{os.getpid()}-{next(_COUNT)}"
    hub = f"{own}hub"
    hosts = {
        name: Host(name, f"{own}n{number}", f"{SUBNET}.{_FIRST + number}")
        for number, name in enumerate(names)
    }
    lan = Network(hosts, switch, hub, {name: f"p{n}" for n, name in enumerate(names)})
    try:
        for namespace in (hub, *(host.namespace for host in hosts.values())):
            _must("ip", "netns", "add", namespace)
            _must("ip", "-n", namespace, "link", "set", "lo", "up")
        if switch == "bridge":
            _bridge(lan)
        else:
            _wire(lan)
        yield lan
    finally:
        if lan.wire is not None:
            lan.wire.kill()
            lan.wire.communicate()
        for namespace in (hub, *(host.namespace for host in hosts.values())):
            _remove(namespace)


def _bridge(lan: Network) -> None:
    hub = lan.hub
    _must(
        "ip",
        "-n",
        hub,
        "link",
        "add",
        "br0",
        "type",
        "bridge",
        "stp_state",
        "0",
        "forward_delay",
        "0",
    )
    _must("ip", "-n", hub, "link", "set", "br0", "up")
    for name, host in lan.hosts.items():
        port = lan.ports[name]
        _must(
            "ip",
            "-n",
            hub,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            host.namespace,
        )
        _must("ip", "-n", hub, "link", "set", port, "master", "br0", "up")
        _must("ip", "-n", host.namespace, "address", "add", f"{host.address}/{MASK}", "dev", "eth0")
        _must("ip", "-n", host.namespace, "link", "set", "eth0", "up")


def _wire(lan: Network) -> None:
    words = [f"{name}={host.namespace}={host.address}" for name, host in lan.hosts.items()]
    lan.wire = subprocess.Popen(
        [sys.executable, str(_HUB), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lan.wire.stdout is not None
    if lan.wire.stdout.readline() != "ready\n":
        pytest.fail("the wire between the machines did not start")
    for host in lan.hosts.values():
        _must("ip", "-n", host.namespace, "address", "add", f"{host.address}/{MASK}", "dev", "tun0")
        _must("ip", "-n", host.namespace, "link", "set", "tun0", "mtu", "1500", "up")


def require_network() -> None:
    """Skip, or fail where that is asked for, if there can be no namespaces here."""
    why = ""
    if sys.platform != "linux" or os.geteuid() != 0:
        why = "network namespaces need root on Linux"
    elif shutil.which("ip") is None:
        why = "there is no iproute2; install it"
    else:
        why = _try("ip", "netns", "add", f"{PREFIX}{os.getpid()}-try")
        _remove(f"{PREFIX}{os.getpid()}-try")
    if why and os.environ.get("TACIT_NEED_NETWORK") == "1":
        pytest.fail(why, pytrace=False)
    if why:
        pytest.skip(why)


def sweep() -> None:
    """Remove what tests left whose process is gone."""
    if not _FOLDER.is_dir():
        return
    for path in _FOLDER.iterdir():
        named = _NAMED.fullmatch(path.name)
        if named is not None and not Path(f"/proc/{named[1]}").exists():
            _remove(path.name)


def _remove(namespace: str) -> None:
    """Remove it, and end what still runs in it: it would keep the network alive."""
    if not (_FOLDER / namespace).exists():
        return
    listed = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
    )
    for number in listed.stdout.split():
        if int(number) != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(int(number), 9)
    _try("ip", "netns", "delete", namespace)


def _try(*words: str) -> str:
    """Run it; returns nothing, or what went wrong."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or "it failed")


def _must(*words: str) -> None:
    fault = _try(*words)
    if fault:
        raise RuntimeError(f"{' '.join(words)}: {fault}")
