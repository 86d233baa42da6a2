"""A coordinator or a member that was gone, and is there again."""

import time

from aggregator.asking import ask_members
from aggregator.inviting import ASK_AGAIN_S, Invitation, countersignature, locate
from aggregator.ports import Ledger, Notebook, Observer, Transport
from aggregator.progress import parse_progress
from aggregator.run_state import FINISHING, Member, Notice, RunState, begin
from aggregator.showing import show_state
from privacy.errors import CohortError, NotVerifiedError
from privacy.messages import Accepted, Parcel, SumNotice, unpack_request
from privacy.secure_sum.graph import threshold
from privacy.secure_sum.keys import KeyOffer

RETURN_S = 60.0
"""How long a coordinator that comes back waits for all members, before it goes on with enough."""


def resume(
    about: Invitation,
    transport: Transport,
    ledger: Ledger,
    observer: Observer,
    notebook: Notebook | None,
) -> RunState | None:
    """Take up a run where another process left it; None where none did."""
    written = None if notebook is None else notebook.read()
    if notebook is None or written is None:
        return None
    observer.step("going on with the run")
    manifest = about.manifest
    progress = parse_progress(written, run=manifest.digest())
    countersigned = countersignature(about, transport=transport, ledger=ledger, observer=observer)
    work = begin(
        about,
        countersigned,
        [KeyOffer.from_bytes(offer) for offer in progress.offers],
        {
            name: Member(node=None, shown=at.shown, absences=at.absences, leaves=at.leaves)
            for name, at in progress.members.items()
        },
        consents=progress.consents,
        heads={bytes.fromhex(key): leaves for key, leaves in progress.known.items()},
        transport=transport,
        ledger=ledger,
        observer=observer,
        notebook=notebook,
    )
    work.fingerprint, work.public_kept = progress.fingerprint, progress.public
    work.public = notebook.kept(progress.public) if progress.public else b""
    work.history, work.model = progress.history, progress.model
    work.accepted, work.opened = progress.accepted, progress.opened
    work.architecture, work.values = progress.architecture, progress.values
    for one in progress.notices:
        notice = unpack_request(Parcel(one.notice))[0]
        if not isinstance(notice, SumNotice):
            raise NotVerifiedError("What was written down of this run cannot be used.")
        payload = notebook.kept(one.payload) if one.payload else b""
        work.notices.append(Notice(notice, payload, one))
    work.seen = progress.seen
    work.survivors = {bytes.fromhex(key): names for key, names in progress.survivors.items()}
    work.revealing = {bytes.fromhex(context) for context in progress.revealing}
    work.over, work.done = progress.over, list(progress.done)
    work.before, work.last = progress.before, progress.last
    work.undone, work.bytes_total = progress.undone, progress.bytes_total
    _wait_for_members(work)
    return work


def _wait_for_members(work: RunState) -> None:
    """Find all members again, or as many as can go on once `RETURN_S` are over."""
    if FINISHING in work.done:
        _locate(work)
        return  # there is nothing that some members have to do together
    started = time.monotonic()
    patience_s = min(RETURN_S, work.plan.deadline_s)
    while True:
        _locate(work)
        missing = [name for name, member in work.members.items() if member.node is None]
        enough = len(work.members) - len(missing) >= threshold(len(work.members))
        waited_s = time.monotonic() - started
        if not missing or (enough and waited_s >= patience_s):
            break
        if waited_s >= work.plan.deadline_s:
            raise CohortError(
                f"{', '.join(missing)} did not come back; start those nodes, and resume the run."
            )
        time.sleep(ASK_AGAIN_S / 4)
    for name in missing:
        work.members[name].present = False
        work.observer.note(f"{name} has not come back; the run goes on without it for now")


def _locate(work: RunState) -> None:
    """Look for members whose address is not known among nodes that are nobody's yet."""
    if all(member.node is not None for member in work.members.values()):
        return
    reachable, names = work.transport.nodes(), work.transport.names
    found = {
        name: node
        for node in reachable
        if (name := names.get(node, "")) in work.members and work.members[name].node is None
    }
    known = {member.node for member in work.members.values()}
    unknown = tuple(node for node in reachable if node not in known and node not in names)
    if unknown:
        offers = {offer.member: offer.to_bytes() for offer in work.roster.offers}
        found |= locate(work.about, work.countersigned, offers, unknown, transport=work.transport)
    for name, node in found.items():
        work.members[name].node = node
    if not found:
        return
    # they may have cosigned more than they say when they repeat what they said
    with work.ledger.showing():
        show_state(
            work.manifest,
            list(found.values()),
            work.ledger.state(),
            transport=work.transport,
            ledger=work.ledger,
            observer=work.observer,
        )


def bring_up_to_date(work: RunState) -> None:
    """Show members who were away the sums that they missed, in order."""
    _locate(work)
    for place in range(min(member.shown for member in work.members.values()), work.steps):
        missed = work.notices[place - work.seen]
        behind = {
            name: (missed.notice, missed.payload)
            for name, member in work.members.items()
            if member.shown == place
        }
        for name, (reply, _) in ask_members(work, behind, Accepted, "query").items():
            if place + 1 < work.steps or reply.history == work.history:
                work.members[name].shown = place + 1
    # what everybody has seen is never needed again
    seen = min(member.shown for member in work.members.values())
    del work.notices[: seen - work.seen]
    work.seen = seen


# -- messages --------------------------------------------------------------------------------
