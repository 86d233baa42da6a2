"""The test bed itself: machines that reach each other, a line that is cut, nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.network import Network, Switch, network, require_network, sweep

SWITCHES: list[Switch] = ["bridge", "wire"]


@contextmanager
def talking(lan: Network) -> Iterator[socket.socket]:
    """A connection from ash to an echo at birch."""
    birch = lan["birch"]
    server = birch.call(lambda: socket.create_server((birch.address, 7)))

    def echo() -> None:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(1024):
                connection.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    line = lan["ash"].call(lambda: socket.create_connection((birch.address, 7), timeout=60))
    try:
        yield line
    finally:
        line.close()
        thread.join()
        server.close()


def trip_s(line: socket.socket) -> float:
    begun = time.monotonic()
    line.sendall(b"?")
    assert line.recv(16) == b"?"
    return time.monotonic() - begun


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_line_that_is_cut_loses_what_is_sent_and_says_nothing(switch: Switch) -> None:
    with network(["ash", "birch"], switch=switch) as lan, talking(lan) as line:
        trip_s(line)
        lan.cut("birch")
        line.settimeout(0.5)
        line.sendall(b"!")
        with pytest.raises(TimeoutError):
            line.recv(16)
        lan.heal("birch")
        line.settimeout(240)  # what was lost is sent again
        assert line.recv(16) == b"!"


def test_the_wire_delays() -> None:
    with network(["ash", "birch"], switch="wire") as lan, talking(lan) as line:
        lan.shape("ash", delay_ms=60)
        assert trip_s(line) > 0.12
        lan.shape("ash")
        assert any(trip_s(line) < 0.12 for _ in range(200))


def test_machines_see_each_other_and_not_this_one() -> None:
    here = socket.create_server(("127.0.0.1", 0))
    port = here.getsockname()[1]
    with here, network(["ash", "birch"]) as lan:
        for host in ("127.0.0.1", lan["birch"].address):
            with pytest.raises(OSError, match=r"refused|timed out"):
                lan["ash"].call(lambda h=host: socket.create_connection((h, port), timeout=2))  # type: ignore[misc]
        told = subprocess.run(
            lan["ash"].command("hostname", "-I"), capture_output=True, text=True, check=False
        )
        if told.returncode == 0:
            assert told.stdout.split() == [lan["ash"].address]


def test_what_a_killed_test_left_behind_goes_with_the_next(tmp_path: Path) -> None:
    require_network()
    script = tmp_path / "killed.py"
    script.write_text(
        "import subprocess, time\n"
        "from support.network import network\n"
        "with network(['ash']) as lan:\n"
        "    subprocess.Popen(lan['ash'].command('sleep', '1000'))\n"
        "    print('up', flush=True)\n"
        "    time.sleep(1000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGKILL)
    process.stdout.close()  # its child holds the other end
    # it has ended; until that is heard its number is in use, and no other test sweeps
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    folder = Path("/run/netns")
    left = [one for one in folder.iterdir() if one.name.startswith(f"tacit{process.pid}-")]
    assert len(left) == 2
    process.wait()
    sweep()
    assert not any(one.exists() for one in left)
