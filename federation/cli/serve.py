"""`tacit audit serve`: the regulator's page, on this machine unless it asks who comes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import progress_console
from privacy.errors import InputError

if TYPE_CHECKING:
    from federation.audit import Audit
    from federation.audit_page.access import Access
    from federation.audit_page.server import Certificate
    from federation.audit_page.verification import Verification
    from federation.evidence import Evidence
    from privacy.ledger.bundle import Bundle

_CHUNK_BYTES = 1 << 16


class PageLanguage(StrEnum):
    """In which languages there is a page."""

    EN = "en"
    ZH = "zh"


@dataclass(frozen=True)
class Sources:
    """Where the page has what it shows.

    Attributes:
        evidence: The ledgers.
        verify: Verifies them; raises NotVerifiedError where they do not hold.
        export: Yields the bytes of a bundle of them.
    """

    evidence: "Evidence"
    verify: "Callable[[], Verification]"
    export: Callable[[], Iterator[bytes]]


def serve(
    bundle: Annotated[
        Path | None, typer.Argument(help="A bundle; without it, this home's own ledgers.")
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8787,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further name under which browsers reach the page."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that every request must hold.")
    ] = None,
    cert: Annotated[Path | None, typer.Option(help="The page's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Admit only who has a certificate of this authority.")
    ] = None,
    lang: Annotated[
        PageLanguage | None, typer.Option(help="Of the page; else the browser says.")
    ] = None,
) -> None:
    """Show ledgers, budgets, refusals and alerts as a read-only page in a browser."""
    from federation.audit_page.page import make_app
    from federation.audit_page.server import address_of, listen, run

    certificate = _certificate(cert, key, client_ca)
    access = _access(host, names or [], token_file, certificate)
    found = sources(bundle)
    say = progress_console().print
    with listen(host, port) as listening:
        say("Reading the ledgers ...", highlight=False)
        app = make_app(
            found.evidence,
            verify=found.verify,
            export=found.export,
            now_ms=_now_ms,
            access=access,
            language=None if lang is None else lang.value,
        )
        address = address_of(listening, host, secure=certificate is not None)
        say(f"The page is at {address}; Ctrl-C ends it.", highlight=False, soft_wrap=True)
        if token_file is not None and certificate is None and not access.local:
            say("Without --cert and --key the token can be read on its way here.", highlight=False)
        try:
            run(app, listening, certificate=certificate)
        except KeyboardInterrupt:
            say("Ended.", highlight=False)


def sources(bundle: Path | None) -> Sources:
    """Return what the page shows: of a bundle, or of this home.

    Raises:
        InputError: there is none, or it cannot be read.
        NotVerifiedError: it is no bundle, or no ledger.
    """
    from federation.audit import verify_file, verify_home
    from federation.evidence import bundled_evidence, home_bundle, home_evidence
    from federation.home import open_home
    from privacy.ledger.bundle import read_bundle

    if bundle is not None:
        try:
            data = bundle.read_bytes()
        except OSError as failure:
            raise InputError(f"{bundle}: cannot be read ({failure.strerror}).") from None
        return Sources(
            bundled_evidence(read_bundle(data)),
            lambda: _verification(lambda: verify_file(bundle)),
            lambda: _chunks(data),
        )
    home = open_home()
    return Sources(
        home_evidence(home),
        lambda: _verification(lambda: verify_home(home)),
        lambda: _written(home_bundle(home)),
    )


def _verification(audit: "Callable[[], Audit]") -> "Verification":
    from federation.audit_page.verification import Verification
    from privacy.verify import STEPS

    begun = time.monotonic()
    found = audit()
    steps = zip(STEPS.values(), found.verdict.steps, strict=True)
    return Verification(
        holds=True,
        steps=(*steps, ("summary", found.sentence())),
        failure=None,
        at_ms=_now_ms(),
        seconds=time.monotonic() - begun,
    )


def _written(bundle: "Bundle") -> Iterator[bytes]:
    from io import BytesIO

    from privacy.ledger.bundle import write_bundle

    file = BytesIO()
    write_bundle(bundle, file)
    return _chunks(file.getvalue())


def _chunks(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES))


def _certificate(
    cert: Path | None, key: Path | None, client_ca: Path | None
) -> "Certificate | None":
    from federation.audit_page.server import Certificate

    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise InputError("--cert, --key and --client-ca go together: give --cert and --key")
    return Certificate(cert, key, client_ca)


def _access(
    host: str, names: list[str], token_file: Path | None, certificate: "Certificate | None"
) -> "Access":
    from federation.audit_page.access import access_for, read_token

    return access_for(
        host,
        names=[*names, *(() if certificate is None else certificate.names())],
        token=None if token_file is None else read_token(token_file),
        certificates=certificate is not None and certificate.authority is not None,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
