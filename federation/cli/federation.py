"""`tacit federation`: begin one, invite, approve, see who takes part, revoke, rotate keys."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.output import AsJson, print_json, print_rich
from privacy.errors import InputError, RefusedError

if TYPE_CHECKING:
    from federation.listing import Line
    from federation.registry.access import Role

app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Of a participant or candidate.")]
Fingerprint = Annotated[
    str | None,
    typer.Option(help="The key's, as its owner read it to you; another one is refused."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask whether the key was compared.")]


@app.command()
def init(
    name: Annotated[str, typer.Option(help="Of the federation.")],
    host: Annotated[
        list[str],
        typer.Option(help="Name or IP address of the coordinator; the first is told to members."),
    ],
    approvals: Annotated[
        int, typer.Option(help="How many must approve whoever asks, where so many can.", min=1)
    ] = 2,
    operator: Annotated[str, typer.Option(help="Name of the first operator, you.")] = "operator",
    door_port: Annotated[int, typer.Option(help="For joining.", min=1, max=65535)] = 9441,
    registry_port: Annotated[
        int, typer.Option(help="For members' questions and acts.", min=1, max=65535)
    ] = 9443,
    fleet_port: Annotated[int, typer.Option(help="For nodes at work.", min=1, max=65535)] = 9444,
    suite: Annotated[
        str, typer.Option(help="Algorithms of its runs, for ever: intl, gm or hybrid.")
    ] = "intl",
    as_json: AsJson = False,
) -> None:
    """Begin a federation in this home: its root, its ledger, and you as its first operator."""
    from federation.certificates import at
    from federation.fingerprint import fingerprint
    from federation.founding import Plan, found
    from federation.home import open_home
    from federation.ledger_recorder import now_ms
    from privacy.errors import InputError
    from privacy.randomness import system_bytes
    from privacy.suites import SUITE_IDS

    chosen = next((one for one in SUITE_IDS if one == suite), None)
    if chosen is None:
        raise InputError(f"--suite: choose one of {', '.join(SUITE_IDS)}.")
    home = open_home()
    plan = Plan(
        federation=name,
        hosts=tuple(host),
        approvals=approvals,
        operator=operator,
        door_port=door_port,
        registry_port=registry_port,
        fleet_port=fleet_port,
        suite=chosen,
    )
    place = found(home, plan, now=at(now_ms()), now_ms=now_ms, entropy=system_bytes)
    if as_json:
        print_json(
            {
                "federation": place.federation,
                "operator": place.name,
                "suite": chosen,
                "fingerprint": fingerprint(place.founder_key),
                "root": place.root_fingerprint,
                "door": place.door,
                "registry": place.registry,
                "fleet": place.fleet,
                "home": str(home.root),
            }
        )
    typer.echo(
        f"{place.federation} has begun, with {place.name} as its operator.\n"
        f"Back up {home.authority}: whoever has root.key.pem can let anybody in.\n"
        "Invite members with tacit federation invite --role bank --name NAME, and start the "
        "coordinator with tacit coordinator start.",
        err=True,
    )


@app.command()
def invite(
    role: Annotated[str, typer.Option(help="operator, manufacturer, insurer, bank or regulator.")],
    name: Annotated[str, typer.Option(help="How whoever joins will be called.")],
    expires: Annotated[str, typer.Option(help="Good for so long: 36h, 7d.")] = "7d",
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, to select members by: region=north. May be repeated."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the invitation to this new file instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print an invitation, once: whoever has the line can ask to join under that name and role."""
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.certificates import at, write_private
    from federation.desk import open_desk
    from federation.home import open_home
    from federation.ledger_recorder import now_ms
    from privacy.randomness import system_bytes

    if output is not None and output.exists():
        raise InputError(f"{output} exists; give a new file")
    unwritten: InputError | None = None
    with ExitStack() as undone:
        if output is not None:
            # tried first: once the act is on record, its secret is nowhere else
            write_private(output, b"")
            undone.callback(output.unlink, missing_ok=True)
        with open_desk(open_home(), now_ms=now_ms) as desk:
            token = desk.invite(
                role=_role(role),
                name=name,
                days=_days(expires),
                attributes=_attributes(attribute or ()),
                entropy=system_bytes,
            )
        if output is not None:
            try:
                write_private(output, (token.reveal() + "\n").encode())
            except InputError as failure:
                unwritten = InputError(f"{failure}; keep the invitation that is printed here")
                output = None
            else:
                undone.pop_all()
    until = at(token.expires_ms).strftime("%Y-%m-%d %H:%M UTC")
    if as_json:
        shown = {} if output is not None else {"token": token.reveal()}
        print_json(
            {
                **shown,
                "name": name,
                "role": token.role.value,
                "root": token.fingerprint,
                "door": token.door,
                "expires_ms": token.expires_ms,
            }
        )
    elif output is None:
        typer.echo(token.reveal())
    typer.echo(
        f"Good once, until {until}, for {name} as {token.role.value}. It holds a secret: send it "
        f"to {name} alone, who runs tacit node join with it.",
        err=True,
    )
    if unwritten is not None:
        raise unwritten


@app.command()
def approve(
    name: Name, fingerprint: Fingerprint = None, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Approve the key of whoever asked to join; compare its fingerprint with its owner first."""
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.desk import open_desk
    from federation.fingerprint import fingerprint as spoken
    from federation.home import open_home
    from federation.ledger_recorder import now_ms

    with open_desk(open_home(), now_ms=now_ms) as desk:
        candidate = desk.candidate(name, fingerprint)
        typer.echo(
            f"{candidate.name} asks to join as {candidate.role}, with the key "
            f"{spoken(candidate.key)}",
            err=True,
        )
        if fingerprint is None and not yes:
            _compared(name)
        acted = desk.approve(candidate)
        approved = sorted({*candidate.approvals, desk.place.name})
    if as_json:
        print_json(
            {
                "name": name,
                "role": candidate.role,
                "fingerprint": spoken(candidate.key),
                "approved": approved,
                "needed": candidate.needed,
                "admitted": acted.admitted,
            }
        )
    if acted.admitted:
        typer.echo(f"{name} is in; its certificate is issued.", err=True)
    else:
        left = max(1, candidate.needed - len(approved))
        typer.echo(f"Approved by {', '.join(approved)}; {left} more must approve.", err=True)


@app.command()
def members(as_json: AsJson = False) -> None:
    """List who takes part, who waits for approval, and who is invited."""
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.desk import open_desk
    from federation.home import open_home
    from federation.ledger_recorder import now_ms
    from federation.listing import listing, listing_facts, listing_table

    with open_desk(open_home(), now_ms=now_ms) as desk:
        acts = desk.office.acts()
        membership = desk.membership()
    lines: Sequence[Line] = listing(membership, acts, now_ms=now_ms())
    if as_json:
        print_json(listing_facts(membership, lines))
    else:
        print_rich(listing_table(membership, lines))


@app.command()
def revoke(
    name: Name,
    reason: Annotated[str, typer.Option(help="Goes on record.")],
    as_json: AsJson = False,
) -> None:
    """End a participation at once, or turn a candidate away; operators, or oneself."""
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.desk import open_desk
    from federation.fingerprint import fingerprint as spoken
    from federation.home import open_home
    from federation.ledger_recorder import now_ms

    with open_desk(open_home(), now_ms=now_ms) as desk:
        gone = desk.revoke(name, reason)
    if as_json:
        print_json({"name": name, "role": gone.role, "fingerprint": spoken(gone.key)})
    typer.echo(
        f"{name} takes part no more: its certificate is refused from now on, and everybody who "
        "reads the members sees it.",
        err=True,
    )


@app.command()
def rotate(
    identity: Annotated[
        bool, typer.Option("--identity", help="Replace the signing key too; stop the node first.")
    ] = False,
    server: Annotated[
        bool, typer.Option("--server", help="Operator: the coordinator's own certificate instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replace this machine's TLS key and certificate, and with --identity its signing key."""
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.authority import Authority
    from federation.certificates import at
    from federation.fingerprint import fingerprint as spoken
    from federation.home import open_home
    from federation.ledger_recorder import now_ms
    from federation.participant import load_participant
    from federation.registry.access import MEMBERS
    from federation.renewal import renew, time_left
    from privacy.randomness import system_bytes

    home = open_home()
    if server:
        if identity:
            raise InputError("give --server or --identity, not both")
        Authority.load(home.authority).renew_server(at(now_ms()))
        if as_json:
            print_json({"server": True})
        typer.echo("Done; restart the coordinator, which then shows it.", err=True)
        return
    place = load_participant(home)
    renew(place, now_ms=now_ms, identity=system_bytes if identity else None)
    days = time_left(place, at(now_ms())).days
    key = spoken(place.identity().public)
    if as_json:
        print_json({"name": place.name, "fingerprint": key, "days": days})
    restart = " Restart its node if it is running." if place.role in MEMBERS else ""
    typer.echo(
        f"{place.name} has a new certificate, good for {days} days; its key is {key}.{restart}",
        err=True,
    )


def _role(text: str) -> "Role":
    from federation.registry.access import Role

    try:
        return Role(text)
    except ValueError:
        raise InputError(
            f"{text} is no role; choose {', '.join(role.value for role in Role)}"
        ) from None


def _days(text: str) -> float:
    count, unit = text[:-1], text[-1:]
    if unit not in {"h", "d"} or not count.isascii() or not count.isdecimal() or not int(count):
        raise InputError(f"{text} is no time; write 36h for hours or 7d for days")
    return int(count) / (24 if unit == "h" else 1)


def _attributes(pairs: Sequence[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or not value or key in found or not pair.isprintable():
            raise InputError(f"{pair!r} is no attribute; give each once, as KEY=VALUE")
        found[key] = value
    return found


def _compared(name: str) -> None:
    import sys

    if not sys.stdin.isatty():
        raise RefusedError(
            f"nobody said that this is the key of {name}; ask {name} for its fingerprint and give "
            "it as --fingerprint, or --yes where you compared it"
        )
    if not typer.confirm(f"Did {name} tell you this very key, by another way?", err=True):
        raise RefusedError("nothing was approved; ask for the key first")
