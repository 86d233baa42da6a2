"""The regulator's page in a real browser and over a real socket, with nothing but this machine."""

import base64
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID
from fastapi import FastAPI, Response
from support.evidence import MEMBERS, Story

from federation.audit_page.access import Access, access_for
from federation.audit_page.guard import Guard
from federation.audit_page.page import make_app
from federation.audit_page.server import Certificate, config_of, listen
from federation.audit_page.verification import Verification
from federation.audit_page.words import WORDS
from privacy.ledger.bundle import write_bundle

CHROMIUM = "chromium"
NEEDED = "true" in {os.environ.get("CI"), "true" * (os.environ.get("TACIT_NEED_CHROMIUM") == "1")}
RUN = "20261006-090000-leases-19cd"
LONG_S = 120  # the client's own five seconds may pass on a machine that does other work beside
HUNG_UP = (httpx.NetworkError, httpx.RemoteProtocolError)  # and not: nothing came in time
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
_PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which(CHROMIUM)
    if found is None and NEEDED:
        pytest.fail("there is no chromium: run .ci/chromium as root (apt-get install chromium)")
    if found is None:
        pytest.skip("there is no chromium; .ci/chromium installs it")
    return found


@pytest.fixture(scope="module")
def story() -> Story:
    told = Story(cap=0.6)
    told.whole_run("20260921-101500-leases-a1b2", 8)
    told.start(RUN, declined={MEMBERS[3]: "<script>alert(1)</script> its budget is spent"})
    for number in range(1, 5):
        told.round(RUN, number, without=MEMBERS[1:2])
    told.checkpoint(MEMBERS[:3])
    return told


@contextmanager
def served(app: FastAPI, *, certificate: Certificate | None = None) -> Iterator[int]:
    """A server in a thread; its port."""
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(config_of(app, certificate))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 120
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(120)


def page_of(story: Story, *, access: Access | None = None) -> FastAPI:
    holds = Verification(
        holds=True, steps=(("tree", "it holds"),), failure=None, at_ms=story.now_ms, seconds=0.1
    )
    return make_app(
        story.evidence(),
        verify=lambda: holds,
        export=lambda: iter([b"bundle\n"]),
        now_ms=lambda: story.now_ms,
        access=access or Access(),
    )


@pytest.fixture(scope="module")
def port(story: Story) -> Iterator[int]:
    with served(page_of(story)) as number:
        yield number


def browse(
    chromium: str, folder: Path, address: str, *, size: str = "1280,1600", shot: bool = False
) -> tuple[str, str, bytes]:
    """What the browser made of a page, what it complained of, and what it looked like."""
    picture = folder / "page.png"
    outcome = subprocess.run(
        [
            chromium,
            *FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={size}",
            f"--screenshot={picture}" if shot else "--dump-dom",
            address,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    complaints = [
        line for line in outcome.stderr.splitlines() if "CONSOLE" in line or "violates" in line
    ]
    return outcome.stdout, "\n".join(complaints), picture.read_bytes() if shot else b""


PAGES = (
    "/",
    f"/runs/{RUN}",
    "/budgets/1",
    "/entries/coordinator/5",
    "/entries",
    "/refusals",
    "/verify",
    "/nothing",
)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_shown_without_complaints(
    chromium: str, port: int, tmp_path: Path, path: str, language: str
) -> None:
    address = f"http://127.0.0.1:{port}{path}?lang={language}"
    shown, complaints, _ = browse(chromium, tmp_path, address)
    # that a page is not there is said on the console, too
    expected = 1 if path == "/nothing" else 0
    assert len(complaints.splitlines()) <= expected, complaints
    assert "violates" not in complaints
    assert '<main id="main" class="wide"' in shown
    assert "<script" not in shown
    assert WORDS[language]["page.product"] in shown  # type: ignore[index]


@pytest.mark.parametrize("size", ["1280,1600", "390,844"])
def test_a_page_looks_like_something(chromium: str, port: int, tmp_path: Path, size: str) -> None:
    _, complaints, picture = browse(
        chromium, tmp_path, f"http://127.0.0.1:{port}/budgets/1", size=size, shot=True
    )
    assert complaints == ""
    assert picture.startswith(_PNG)
    assert len(picture) > 20_000


def test_a_complaint_would_be_seen(chromium: str, tmp_path: Path) -> None:
    """The twin of the tests above: the same headers over a page that they forbid."""
    app = FastAPI()

    @app.get("/")
    def forbidden() -> Response:
        return Response('<p style="color: red">x</p><script>1</script>', media_type="text/html")

    def refuse(*_: object) -> Response:
        return Response(status_code=500)

    app.add_middleware(Guard, access=Access(), refuse=refuse)
    with served(app) as number:
        _, complaints, _ = browse(chromium, tmp_path, f"http://127.0.0.1:{number}/")
    assert "Content Security Policy" in complaints


# -- over a socket, without a browser --


def test_what_the_server_says_of_itself(port: int) -> None:
    address = f"http://127.0.0.1:{port}/"
    answer = httpx.get(address, timeout=LONG_S)
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert httpx.head(address, timeout=LONG_S).content == b""
    assert httpx.get(f"{address}export", timeout=LONG_S).content == b"bundle\n"
    rebound = httpx.get(address, headers={"host": "evil.example"}, timeout=LONG_S)
    assert rebound.status_code == 400
    done = httpx.post(f"{address}verify", follow_redirects=True, timeout=LONG_S)
    assert "it holds" in done.text
    try:
        long = httpx.get(address, headers={"x": "y" * 400_000}, timeout=LONG_S).status_code
    except httpx.HTTPError:
        long = 400  # it hung up while the rest was still being sent
    assert long == 400


def certificate_of(
    folder: Path, name: str, issuer: tuple[x509.Name, Ed25519PrivateKey] | None = None
) -> tuple[x509.Name, Ed25519PrivateKey]:
    """Write `name`.pem and `name`.key; return what can issue others."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    by, signing = issuer or (subject, key)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("audit.example")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
        .sign(signing, None)
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return subject, key


def test_with_certificates_only_who_has_one_comes_in(story: Story, tmp_path: Path) -> None:
    root = certificate_of(tmp_path, "root")
    certificate_of(tmp_path, "server", root)
    certificate_of(tmp_path, "regulator", root)
    certificate_of(tmp_path, "stranger")
    certificate = Certificate(
        tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "root.pem"
    )
    assert certificate.names() == ("audit.example", "127.0.0.1")
    access = access_for(
        "0.0.0.0",  # noqa: S104 - what is tested
        names=certificate.names(),
        token=None,
        certificates=True,
    )

    def context(*, own: str | None) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=tmp_path / "root.pem")
        if own is not None:
            made.load_cert_chain(tmp_path / f"{own}.pem", tmp_path / f"{own}.key")
        return made

    with served(page_of(story, access=access), certificate=certificate) as number:
        address = f"https://127.0.0.1:{number}/"
        with httpx.Client(verify=context(own="regulator"), timeout=LONG_S) as client:
            answer = client.get(address)
        assert answer.status_code == 200
        for own in (None, "stranger"):
            with (
                httpx.Client(verify=context(own=own), timeout=LONG_S) as client,
                pytest.raises(HUNG_UP),
            ):
                client.get(address)
        old = context(own="regulator")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with (
            httpx.Client(verify=old, timeout=LONG_S) as client,
            pytest.raises(HUNG_UP),
        ):
            client.get(address)


# -- the verb --


@pytest.fixture
def bundle(story: Story, tmp_path: Path) -> Path:
    path = tmp_path / "evidence.jsonl"
    with path.open("wb") as file:
        write_bundle(story.bundle(), file)
    return path


Verb = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def verb() -> Iterator[Verb]:
    started: list[subprocess.Popen[str]] = []

    def start(*options: object) -> "subprocess.Popen[str]":
        program = "import typer; from federation.cli.serve import serve; typer.run(serve)"
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def address_in(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"https?://\S+:\d+/", line)
        if found:
            return found[0]
    pytest.fail("no address was printed")


def test_the_verb_serves_a_bundle_until_it_is_stopped(verb: Verb, bundle: Path) -> None:
    process = verb(bundle, "--port", 0, "--lang", "zh")
    address = address_in(process)
    assert address.startswith("http://127.0.0.1:")
    with httpx.Client(base_url=address, follow_redirects=True, timeout=LONG_S) as client:
        assert WORDS["zh"]["page.product"] in client.get("/").text
        assert client.get("/export").content == bundle.read_bytes()
        # members' signatures in it are made up, which the true verifier finds
        assert WORDS["zh"]["verify.fails"] in client.post("/verify").text
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "")


def test_the_verb_asks_for_its_token(verb: Verb, bundle: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-some-length")
    token.chmod(0o600)
    address = address_in(verb(bundle, "--port", 0, "--token-file", token))
    assert httpx.get(address, timeout=LONG_S).status_code == 401
    basic = "Basic " + base64.b64encode(b"regulator:a-token-of-some-length").decode()
    found = httpx.get(address, headers={"authorization": basic}, timeout=LONG_S)
    assert found.status_code == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "give --token-file"),  # noqa: S104 - what is refused
        (["--cert", "x.pem"], "go together"),
        (["--client-ca", "x.pem"], "go together"),
        (["--token-file", "no-such-file"], "cannot read the token"),
    ],
)
def test_what_the_verb_refuses(verb: Verb, bundle: Path, options: list[str], said: str) -> None:
    process = verb(bundle, "--port", 0, *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said in " ".join(err.split())


def test_what_is_no_bundle_is_refused(verb: Verb, tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    path.write_text("{}\n")
    process = verb(path, "--port", 0)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "bundle" in err
