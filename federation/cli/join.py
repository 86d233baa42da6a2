"""`tacit node join`: the one command of whoever was invited; the keys are made here and stay."""

from typing import Annotated

import typer

from federation.cli.finite import Finite
from federation.cli.output import AsJson, print_json

Invitation = Annotated[
    str, typer.Argument(metavar="TOKEN|FILE", help="The operator's line, or the file it is in.")
]
Wait = Annotated[
    float,
    typer.Option(
        click_type=Finite(0, 1e7),
        help="Seconds to wait for approval; 0 asks, and does not wait.",
    ),
]
Anew = Annotated[
    bool,
    typer.Option(
        "--anew",
        help="Give up another invitation that this home was joining with; its keys are deleted.",
    ),
]


def join(
    token: Invitation, wait: Wait = 600.0, anew: Anew = False, as_json: AsJson = False
) -> None:
    """Join a federation with an invitation; run it again to go on where it ended.

    It makes this machine's keys, sends what is public of them, and waits until others approved.
    """
    from federation.cli.registry import quiet_grpc

    quiet_grpc()
    from federation.fingerprint import fingerprint
    from federation.home import open_home
    from federation.invitation import read_token
    from federation.joining import Waiting, join_federation, make_keys
    from federation.ledger_recorder import now_ms
    from privacy.randomness import system_bytes

    home = open_home()
    invitation = read_token(token)
    key = make_keys(home, invitation, system_bytes, anew=anew).public
    spoken = fingerprint(key)
    typer.echo(
        f"Joining {invitation.federation} as {invitation.name} ({invitation.role.value}).\n"
        f"This machine's key is {spoken}\n"
        "Read it to whoever approves; they must see the same.",
        err=True,
    )

    def told(approved: tuple[str, ...], needed: int) -> None:
        names = ", ".join(approved) or "nobody yet"
        typer.echo(f"Approved by {names}; {needed} must approve.", err=True)

    found = join_federation(
        home, invitation, wait_s=wait, entropy=system_bytes, now_ms=now_ms, told=told
    )
    facts = {
        "federation": invitation.federation,
        "name": invitation.name,
        "role": invitation.role.value,
        "fingerprint": spoken,
        "root": invitation.fingerprint,
    }
    if isinstance(found, Waiting):
        if as_json:
            print_json(
                {**facts, "joined": False, "approved": list(found.approved), "needed": found.needed}
            )
        typer.echo(
            "Waiting for approval: an operator or member runs "
            f'tacit federation approve "{invitation.name}". Run this command again then.',
            err=True,
        )
        return
    if as_json:
        print_json({**facts, "joined": True, "registry": found.registry, "fleet": found.fleet})
    typer.echo(f"{invitation.name} is in {invitation.federation}. {_next(found.role)}", err=True)


def _next(role: object) -> str:
    from federation.registry.access import MEMBERS, Role

    if role in MEMBERS:
        return "Start its node with tacit node start --contract FILE --data DIR."
    if role is Role.REGULATOR:
        return (
            "What you may do now:\n"
            "  tacit registry status              the ledgers, and who signed them\n"
            "  tacit federation members           who takes part\n"
            "  tacit audit fetch FILE             download the record, and verify it\n"
            "  tacit budget show --federation     what every member has spent\n"
            "  tacit audit serve FILE             all of it as a page in your browser\n"
            "  tacit audit witness --every 60     cosign the ledger: what was signed stays"
        )
    return "See who takes part with tacit federation members."
