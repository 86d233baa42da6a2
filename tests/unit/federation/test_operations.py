"""The operations port, its figures' text, and health."""

import json
import math
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from federation.operations.endpoint import CONNECTIONS_MAX, operations
from federation.operations.health import Health, certificate_look, connection_look, examined
from federation.operations.metric import (
    CONTENT_TYPE,
    Metric,
    Sample,
    counter,
    exposition,
    gauge,
    labelled,
)
from federation.operations.process import process_metrics, resident_bytes
from privacy.errors import InputError, NotVerifiedError

# the grammar of the format, as far as we write it
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
LINE = re.compile(
    rf"# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_:][a-z_:0-9]*(\{{{_LABEL}(,{_LABEL})*\}})? "
    r"[-+]?([0-9.]+(e[-+]?[0-9]+)?|Inf)"
)


def ask(
    address: str, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, str, dict[str, str]]:
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - http
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


@contextmanager
def port(
    health: Health | None = None, metrics: tuple[Metric, ...] = (), listen: str = "127.0.0.1:0"
) -> Iterator[str]:
    found = health or examined(5, {"ledger": lambda: ""})
    with operations(listen, health=lambda: found, metrics=lambda: metrics) as at:
        yield at.address


def test_health_is_200_where_all_holds_and_503_where_one_does_not() -> None:
    with port() as at:
        status, body, headers = ask(at, "/health")
        assert status == 200
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body) == {"status": "ok", "since_ms": 5, "checks": {"ledger": "ok"}}
    failing = examined(5, {"ledger": lambda: "", "certificate": certificate_look(lambda: -1.0)})
    with port(failing) as at:
        status, body, _ = ask(at, "/health")
        assert status == 503
        facts = json.loads(body)
        assert facts["status"] == "failing"
        assert "renewed" in facts["checks"]["certificate"]


def test_metrics_are_prometheus_text() -> None:
    told = (
        gauge("tacit_a", "A thing.", 1.5),
        counter("tacit_b_total", "Back\\slash\nand line.", 7),
        labelled("tacit_c", "Labels.", "gauge", "name", {'say "hi"\\\n': math.inf, "b": -2}),
        Metric("tacit_d", "None yet.", "gauge", ()),
    )
    with port(metrics=told) as at:
        status, body, headers = ask(at, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == CONTENT_TYPE
    assert body.endswith("\n")
    assert all(LINE.fullmatch(line) for line in body.splitlines()), body
    assert body.splitlines() == [
        "# HELP tacit_a A thing.",
        "# TYPE tacit_a gauge",
        "tacit_a 1.5",
        "# HELP tacit_b_total Back\\\\slash\\nand line.",
        "# TYPE tacit_b_total counter",
        "tacit_b_total 7",
        "# HELP tacit_c Labels.",
        "# TYPE tacit_c gauge",
        'tacit_c{name="say \\"hi\\"\\\\\\n"} +Inf',
        'tacit_c{name="b"} -2',
        "# HELP tacit_d None yet.",
        "# TYPE tacit_d gauge",
    ]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sample(math.nan),
        lambda: Sample(1, {'a"b': "x"}),
        lambda: gauge("other_a", "Not ours.", 1),
        lambda: gauge("tacit_a_total", "A gauge that is called a counter.", 1),
        lambda: counter("tacit_a", "A counter that is not called one.", 1),
        lambda: Metric("tacit_a", "Twice.", "gauge", (Sample(1), Sample(2))),
        lambda: exposition([gauge("tacit_a", "A.", 1), gauge("tacit_a", "A.", 1)]),
    ],
)
def test_what_prometheus_would_misread_cannot_be_made(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"."):
        make()


def test_nothing_else_is_answered() -> None:
    with port() as at:
        assert ask(at, "/")[0] == 404
        assert ask(at, "/health?x=1")[0] == 404
        assert ask(at, "/metrics/../health")[0] == 404
        assert ask(at, "/health", method="POST")[0] == 501
        assert ask(at, "/health", method="DELETE")[0] == 501
        status, body, headers = ask(at, "/health", method="HEAD")
        assert (status, body) == (200, "")
        assert "Python" not in headers["Server"]


def test_a_page_that_gave_the_loopback_a_name_of_its_own_reads_nothing() -> None:
    with port() as at:
        number = at.rpartition(":")[2]
        for host in ("evil.example", f"evil.example:{number}", "127.0.0.1.evil.example"):
            assert ask(at, "/metrics", host=host)[0] == 400
        for host in (f"localhost:{number}", "127.0.0.1", f"[::1]:{number}", "LOCALHOST"):
            assert ask(at, "/metrics", host=host)[0] == 200


def test_a_figure_that_fails_shows_no_reason() -> None:
    def broken() -> tuple[Metric, ...]:
        raise ValueError("row 17 holds 4711")

    with operations("127.0.0.1:0", health=lambda: Health(0, ()), metrics=broken) as at:
        status, body, _ = ask(at.address, "/metrics")
        assert status == 500
        assert "4711" not in body
        assert ask(at.address, "/health")[0] == 200


def test_callers_that_say_nothing_do_not_lock_others_out_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("federation.operations.endpoint._Handler.timeout", 0.3)
    with port() as at:
        host, number = at.split(":")
        quiet = [
            socket.create_connection((host, int(number)), timeout=60)
            for _ in range(2 * CONNECTIONS_MAX)
        ]
        for one in quiet:
            # all are let go: those above the number at once, the others when their time is over
            assert one.recv(100) == b""
            one.close()
        assert ask(at, "/health")[0] == 200


def test_a_port_that_is_taken_is_told_in_one_sentence() -> None:
    with port() as at, pytest.raises(InputError, match="choose a free port"), port(listen=at):
        pass
    with pytest.raises(InputError, match="host:port"), port(listen="nowhere"):
        pass


def test_the_thread_ends_with_the_block() -> None:
    with port():
        assert any(one.name == "operations" for one in threading.enumerate())
    assert not any(one.name == "operations" for one in threading.enumerate())


def test_what_a_check_choked_on_is_not_told() -> None:
    def ours() -> str:
        raise NotVerifiedError("the ledger was cut; restore it")

    def foreign() -> str:
        raise KeyError("4711")

    health = examined(0, {"ours": ours, "foreign": foreign})
    facts = health.facts()["checks"]
    assert facts["ours"] == "the ledger was cut; restore it"
    assert "KeyError" in facts["foreign"]
    assert "4711" not in facts["foreign"]
    assert health.status == "failing"


def test_a_connection_that_was_quiet_too_long_does_not_hold() -> None:
    assert examined(0, {"c": connection_look(lambda: 3, most_s=30)}).status == "ok"
    assert examined(0, {"c": connection_look(lambda: 31, most_s=30)}).status == "failing"
    assert examined(0, {"c": connection_look(lambda: math.inf, most_s=30)}).status == "failing"


def test_the_process_shows_its_own_memory() -> None:
    before = resident_bytes()
    kept = bytearray(b"x" * (64 << 20))
    assert resident_bytes() - before > len(kept) // 2
    text = exposition(process_metrics(role="node", version="0.1.0", since_ms=1500))
    assert 'tacit_info{role="node",version="0.1.0"} 1' in text
    assert "tacit_process_start_seconds 1.5" in text
