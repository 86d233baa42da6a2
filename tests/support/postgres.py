"""A private PostgreSQL server for tests: in a folder of its own, with fsync, gone after them.

Where its programs are not installed, tests that need it are skipped; where CI=true or
TACIT_NEED_POSTGRES=1, they fail instead.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

import psycopg
import pytest
from support.ports import free_ports

PASSWORD = "s3cr?t/p@ss:w%rd#"  # noqa: S105 - of a server that lives as long as one test
_HOW = "run .ci/postgres as root, or install PostgreSQL and put initdb into PATH"
_SECONDS = 240
Cut: TypeAlias = Literal["before the server", "after the server"]
_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "log_min_messages": "fatal",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "max_wal_size": "128MB",
    "listen_addresses": "'127.0.0.1'",
}


class Server:
    """A server that runs."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None

    def empty_database(self) -> str:
        """The name of a database without ledgers; there is one, and nobody else is in it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("DROP SCHEMA IF EXISTS tacit CASCADE")
        return "postgres"

    def url(self, database: str) -> str:
        """An address without a password, over a socket that only this machine has."""
        return (
            f"postgresql:///{database}?host={quote(str(self.folder))}&port={self.port}&user=tacit"
        )

    def url_with_password(self, database: str, password: str = PASSWORD) -> str:
        """An address over the loopback, where the server asks for a password."""
        return f"postgresql://tacit:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Make its files."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = subprocess.run(
            self._command(
                "initdb",
                "--username=tacit",
                f"--pwfile={secret}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": f"'{self.folder}'",
        }
        if int((self.folder / "data" / "PG_VERSION").read_text()) >= 14:
            # a start after a crash would sync each of a thousand files by itself
            settings["recovery_init_sync_method"] = "syncfs"
        with (self.folder / "data" / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres"),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it; `immediate` is a crash, and the next start recovers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self._process.wait(timeout=_SECONDS)
            self._process = None

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), "-D", str(self.folder / "data"), *arguments]
        if shutil.which("setpriv"):
            user = _unprivileged()
            become = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
            # it ends with the tests, however they end
            return ["setpriv", *become, "--pdeathsig=QUIT", *command]
        return command


@contextmanager
def postgres_server() -> Iterator[Server]:
    """A server, for as long as the context."""
    programs = _programs()
    if programs is None:
        if os.environ.get("CI") == "true" or os.environ.get("TACIT_NEED_POSTGRES") == "1":
            pytest.fail(f"there is no PostgreSQL server; {_HOW}", pytrace=False)
        pytest.skip(f"there is no PostgreSQL server; {_HOW}")
    folder = Path(tempfile.mkdtemp(prefix="tacit-pg-"))  # a socket's path must be short
    user = _unprivileged()
    if user:
        shutil.chown(folder, user)
    server = Server(programs, folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    def version(folder: Path) -> int:
        digits = folder.parent.name.split(".")[0]
        return int(digits) if digits.isdigit() else 0

    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    in_path = shutil.which("initdb")
    for folder in [*packaged, *([Path(in_path).resolve().parent] if in_path else [])]:
        if all((folder / program).exists() for program in ("initdb", "postgres")):
            return folder
    return None


def _unprivileged() -> str:
    """Whom the server runs as; it refuses root. Nothing where we are not root."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.fail("PostgreSQL does not run as root, and there is no user postgres or nobody")


class CuttingProxy:
    """Stands between a client and the server until a word passes, and then cuts them off.

    The word is cut off `before the server` gets it, or `after the server` carried it out and before
    the client hears of it. It happens once, to the first that says the word while it is armed.
    """

    def __init__(self, server: Server, word: bytes, cut: Cut) -> None:
        self.armed = False
        self._server = server
        self._word = word
        self._cut = cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        """An address of the database that leads through here."""
        port = self._listener.getsockname()[1]
        secret = quote(PASSWORD, safe="")
        return f"postgresql://tacit:{secret}@127.0.0.1:{port}/{database}?sslmode=disable"

    def close(self) -> None:
        """Take nobody any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server.port))
                stop = threading.Event()
                threading.Thread(target=self._ask, args=(client, server, stop), daemon=True).start()
                threading.Thread(
                    target=self._answer, args=(client, server, stop), daemon=True
                ).start()

    def _ask(self, client: socket.socket, server: socket.socket, stop: threading.Event) -> None:
        with client, server, suppress(OSError):
            while data := client.recv(65536):
                if self.armed and self._word in data:
                    self.armed = False
                    stop.set()
                    if self._cut == "before the server":
                        server.shutdown(socket.SHUT_RDWR)
                        return
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket, stop: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if stop.is_set():
                    break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(server: Server, word: bytes, cut: Cut) -> Iterator[CuttingProxy]:
    """A proxy, for as long as the context."""
    proxy = CuttingProxy(server, word, cut)
    try:
        yield proxy
    finally:
        proxy.close()
