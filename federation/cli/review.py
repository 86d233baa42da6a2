"""`tacit data gate`, `trust` and `review`: hold rows back until a person has looked at a device."""

import getpass
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from federation.cli.finite import Finite
from federation.cli.output import AsJson, print_json, print_plain, print_rich
from federation.cli.run import Data
from privacy.errors import InputError, TacitError

if TYPE_CHECKING:
    from clients.review_store import Decision

app = typer.Typer(no_args_is_help=True)

_WAITS: Final = 1
Contract = Annotated[Path, typer.Argument(help="A data contract (YAML).")]
Member = Annotated[str | None, typer.Option("--member", help="Whose rows; default: all here.")]
Dataset = Annotated[
    str | None, typer.Option("--dataset", help="Name of the contract; default: all here.")
]
Named = Annotated[
    str, typer.Argument(metavar="DEVICE", help="Its name, or the beginning of its digest.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in this node's ledger.")]
By = Annotated[
    str | None, typer.Option("--by", help="Who decides; default: this user. On record, too.")
]
Seen = Annotated[
    str, typer.Option("--seen", help="What show called the readings: refuse if others came in.")
]


def gate(
    contract: Contract,
    data: Data = None,
    member: Member = None,
    record: Annotated[
        bool,
        typer.Option("--record/--look-only", help="Put devices under review, or only say so."),
    ] = True,
    follow: Annotated[
        float | None,
        typer.Option(
            "--follow",
            click_type=Finite(0.1, 1e7),
            help="Stay, and look again so many seconds apart.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold devices' readings against the quality gate. Exit 1 if a device waits for a person."""
    from federation.config import data_root
    from federation.home import open_home
    from federation.quality import gate_facts, gate_members, gate_table

    home, root = open_home(), data_root(data)
    if follow is not None:
        _follow(contract, root, member, every_s=follow, record=record, as_json=as_json)
        return
    known, found = gate_members(home, contract, root, member=member, record=record)
    if as_json:
        print_json(gate_facts(known, found))
    else:
        print_rich(gate_table(known, found))
    if any(one.waiting for one in found):
        raise typer.Exit(_WAITS)


def trust(
    contract: Contract, data: Data = None, member: Member = None, as_json: AsJson = False
) -> None:
    """Say how far each device can be trusted, 0 to 100, and what it lost points for."""
    from federation.config import data_root
    from federation.home import open_home
    from federation.quality import gate_members, trust_facts, trust_table

    known, found = gate_members(open_home(), contract, data_root(data), member=member, record=False)
    if as_json:
        print_json(trust_facts(known, found))
    else:
        print_rich(trust_table(known, found))


@app.command("list")
def list_devices(member: Member = None, dataset: Dataset = None, as_json: AsJson = False) -> None:
    """List devices that wait for a person, and those that did."""
    from federation.home import open_home
    from federation.quality import review_facts, review_table
    from federation.review_places import chosen_places

    found = [
        (place, one)
        for place in chosen_places(open_home(), member=member, dataset=dataset)
        for one in place.open(begin=False).remembered()
    ]
    if as_json:
        print_json(review_facts(found))
    else:
        print_rich(review_table(found))


@app.command()
def show(
    device: Named,
    member: Member = None,
    dataset: Dataset = None,
    contract: Annotated[
        Path | None, typer.Option("--contract", help="Default: where it was looked at last.")
    ] = None,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw its readings: .png, .svg or .pdf.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what became of a device, and draw its readings."""
    from federation.home import open_home
    from federation.quality import history_table, remembered_facts
    from federation.review_places import chosen_places, find_device

    home = open_home()
    place, reviews, one = find_device(chosen_places(home, member=member, dataset=dataset), device)
    seen = reviews.shown(one.digest)
    facts = {"member": place.member, "dataset": place.dataset, **remembered_facts(one)}
    if plot is not None:
        from clients.contract import load_contract
        from federation.budget_plot import format_of
        from federation.config import data_root
        from federation.home import write_bytes
        from federation.quality import shown_frame
        from federation.review_plot import draw_device

        form = format_of(plot)
        known = place.remembered()
        if one.device is None or (known is None and (contract is None or data is None)):
            raise InputError(
                "--plot: where its rows are is not remembered here; give --contract and --data."
            )
        file, root = known or (Path(), Path())
        read = load_contract(contract or file)
        frame = shown_frame(home, place, one.device, read, data_root(data or root))
        write_bytes(plot, draw_device(one.device, frame, read, form=form))
        facts["plot"] = str(plot)
    if as_json:
        print_json({**facts, "seen": seen})
        return
    print_rich(history_table(one))
    typer.echo(f"{one.out} readings outside their thresholds, called {seen[:16] or 'unknown'}.")
    if plot is not None:
        typer.echo(f"{plot}: its readings.")


@app.command()
def release(
    device: Named,
    reason: Reason,
    by: By = None,
    member: Member = None,
    dataset: Dataset = None,
    seen: Seen = "",
    as_json: AsJson = False,
) -> None:
    """Let a device's rows be used again. It stands on record."""
    _decide(device, "release", reason, by, member, dataset, seen, as_json=as_json)


@app.command()
def reject(
    device: Named,
    reason: Reason,
    by: By = None,
    member: Member = None,
    dataset: Dataset = None,
    seen: Seen = "",
    as_json: AsJson = False,
) -> None:
    """Leave a device's rows out, those to come as well. It stands on record."""
    _decide(device, "reject", reason, by, member, dataset, seen, as_json=as_json)


def _decide(
    device: str,
    word: "Decision",
    reason: str,
    by: str | None,
    member: str | None,
    dataset: str | None,
    seen: str,
    *,
    as_json: bool,
) -> None:
    from federation.home import open_home
    from federation.quality import standing_line
    from federation.review_places import chosen_places, find_device

    places = chosen_places(open_home(), member=member, dataset=dataset)
    place, reviews, one = find_device(places, device)
    standing = reviews.decide(one.digest, word, reason=reason, by=by or _user(), seen=seen)
    if as_json:
        print_json(
            {
                "device": one.name,
                "member": place.member,
                "dataset": place.dataset,
                "state": standing.state.value,
                "review": standing.review,
            }
        )
    else:
        print_plain(standing_line(one.name, standing))


def _follow(
    contract: Path,
    root: Path,
    member: str | None,
    *,
    every_s: float,
    record: bool,
    as_json: bool,
) -> None:
    """Look again whenever files change, until stopped, and after a look that failed.

    What stopped a look need not be a file of rows: a full disk or a busy ledger goes by itself.
    """
    from federation.home import open_home
    from federation.quality import files_mark, gate_facts, gate_members, gate_table

    before, told = None, ""
    while True:
        mark = files_mark(root)
        if mark != before:
            before = mark
            try:
                known, found = gate_members(
                    open_home(), contract, root, member=member, record=record
                )
            except TacitError as fault:
                before = None
                sentence = " ".join(str(fault).split())
                if sentence != told:  # once, however often it is tried
                    typer.echo(f"tacit: {sentence}", err=True)
                told = sentence
            else:
                told = ""
                if as_json:
                    # a line for each look, for whoever reads along
                    sys.stdout.write(json.dumps(gate_facts(known, found), allow_nan=False) + "\n")
                    sys.stdout.flush()
                else:
                    print_rich(gate_table(known, found))
        time.sleep(every_s)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise InputError("this user has no name here; say who decides with --by.") from None
