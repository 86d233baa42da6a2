"""One sum at a node: what it tells to have it opened, and what it takes for one."""

import logging
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from clients.ledger_watch import require_cosigned, require_on_record
from clients.session import Session, Step
from privacy.errors import CohortError, ProtocolError
from privacy.identity import Identity
from privacy.ledger.head import HEAD_DOMAIN, head_message
from privacy.messages import (
    RecordedSum,
    Released,
    ReleaseRequest,
    Revealed,
    RevealRequest,
    SumNotice,
    SumPart,
    SurvivorsNotice,
)
from privacy.secure_sum import Vote
from privacy.secure_sum.cohort import Cohort
from privacy.secure_sum.sealer import require_votes
from privacy.secure_sum.tag import check_tag, tag_key, tag_words
from privacy.sum_context import ACCEPTED_DOMAIN

Floats = NDArray[np.float64]
Shown = tuple[SumPart, Cohort, bytes, bytes]
"""A sum as it is shown: what is said of it, its cohort, its context, and its payload."""


def confirm(session: Session, member: str, accepted: Mapping[str, bytes]) -> None:
    """Go on only with those who hold the same sums.

    More than two thirds of those who hold this member's shares must: up to 32 members, of all.

    Raises:
        CohortError: They are fewer.
        ProtocolError: Who is named is not of this run, or did not accept what this node was shown.
    """
    if session.confirmed:
        return
    everyone = session.agreed.everyone
    for name, signature in accepted.items():
        if name not in everyone.members:
            raise ProtocolError(f"{name} is no member of this run, and accepts nothing.")
        try:
            everyone.roster.require_signed(name, ACCEPTED_DOMAIN, session.history, signature)
        except ProtocolError:
            raise ProtocolError(
                f"{name} did not accept the sums that this node was shown; the coordinator "
                "may have shown two. Compare the members' logs, and launch again."
            ) from None
    agreeing = len(set(accepted).intersection(everyone.holders(member)))
    needed = everyone.threshold(member)
    if agreeing < needed:
        raise CohortError(
            f"{agreeing} members accepted the same sums and {needed} are needed to go on."
        )
    session.confirmed = True


def under_way(session: Session, member: str, context: bytes) -> tuple[Step, Cohort]:
    """The step and cohort of a sum that this member has a vector in.

    Raises:
        ProtocolError: It is not the one that is under way.
    """
    step = session.step
    if step is not None:
        mine = step.of(member)
        if step.contexts[mine].digest() == context:
            return step, step.cohorts[mine]
    raise ProtocolError("That sum is not under way here; nothing is told of another.")


def require_shown(
    session: Session, member: str, identity: Identity, step: Step, request: SurvivorsNotice
) -> None:
    """Return if a sum's record in the coordinator's ledger says what this node knows of it.

    Raises:
        ProtocolError: It says something else, or no vector was sealed for that sum.
    """
    manifest, mine, head = session.manifest, step.of(member), session.head
    if head is None:
        raise ProtocolError("That sum is not under way here; nothing is told of another.")
    receipt = manifest.receipt(step.name, step.round, step.length)
    expected = {
        "run": manifest.run,
        "step": step.name,
        "round": step.round,
        "asked": list(step.cohorts[mine].members),
        "schema": step.contexts[mine].schema.hex(),
        "model": step.contexts[mine].model.hex(),
        "context": request.context.hex(),
        "protection": manifest.protection,
        "receipt": receipt.to_json(),
        "nodes": {
            "leaves": head.leaves,
            "root": head.root,
            "signature": identity.sign(HEAD_DOMAIN, head_message(request.context, head)).hex(),
        },
    }
    require_on_record(
        request.record,
        manifest.log,
        expected,
        member=member,
        survivors=request.survivors,
    )


def _record_of(session: Session, context: bytes) -> RecordedSum:
    """A sum's record, as this node cosigned it with its vote."""
    record = session.records.get(context)
    if record is None:
        raise ProtocolError("This node has not seen that sum in the coordinator's ledger.")
    return record


def release(session: Session, member: str, request: ReleaseRequest) -> Released:
    """This member's secrets of masks with those who left, once enough signed who is left.

    Raises:
        ProtocolError: The sum is not under way, not on record, or not signed for.
    """
    under_way(session, member, request.context)
    _record_of(session, request.context)
    told = session.agreed.sealer.release(request.context, request.survivors, _votes(request.votes))
    return Released(member=member, seeds=dict(told.seeds), signature=told.signature)


def reveal(session: Session, member: str, request: RevealRequest) -> Revealed:
    """This member's shares of what opens a sum that is on record and cosigned.

    Raises:
        CohortError: Too few members cosigned the ledger that has it.
        ProtocolError: The sum is not under way, not on record, or not signed for.
    """
    under_way(session, member, request.context)
    require_cosigned(
        _record_of(session, request.context),
        session.manifest.log,
        request.cosignatures,
        session.agreed.everyone,
        member=member,
    )
    answer = session.agreed.sealer.reveal(
        request.context,
        request.survivors,
        _votes(request.votes),
        request.boxes,
    )
    return Revealed(member=member, shares=dict(answer.shares), signature=answer.signature)


def require_signed(session: Session, member: str, step: Step, shown: Shown) -> None:
    """Return if a sum that is shown was signed for, over members it may be over.

    Raises:
        CohortError: It would show a few members in the difference to another sum.
        ProtocolError: It was not, or over others than this node signed.
    """
    part, cohort, context, _ = shown
    cohort.require_survivors(part.survivors)
    session.require_signed_here(context, part.survivors)
    session.require_no_difference(step, cohort, context, part.survivors)
    require_votes(
        _votes(part.votes),
        member=member if member in cohort.members else cohort.members[0],
        context=context,
        survivors=part.survivors,
        cohort=cohort,
    )


def opened(
    session: Session,
    step: Step,
    shown: list[Shown],
    log: logging.Logger,
) -> list[tuple[Floats, int]]:
    """Open a step's signed sums.

    A sum that does not hold ends the run at this node; in groups, where one wrong member would
    end it, that group is given up, by all alike.
    """
    setup, layout = session.agreed, step.layout
    count = layout.words(step.length) + tag_words(layout)
    sums: list[tuple[Floats, int]] = []
    for part, _, context, piece in shown:
        members = len(part.survivors)
        try:
            words = setup.sealer.open(piece, count=count, bits=layout.word_bits)
            key = tag_key(setup.key.tag_secret, context)
            body = check_tag(words, layout=layout, key=key, parties=members)
            found = layout.decode_sum(body, step.length, members)
            # what was filled up with noise says nothing
            sums.append((found[: step.values], members))
        except ProtocolError as fault:
            if len(step.cohorts) == 1:
                raise
            log.info("a group of round %d is given up: %s", step.round, fault)
    return sums


def pieces(notice: SumNotice, step: Step, payload: bytes) -> list[Shown]:
    """A step's sums as they were shown, without those of groups that were given up."""
    shown: list[Shown] = []
    start = 0
    for part, cohort, context in zip(notice.parts, step.cohorts, step.contexts, strict=True):
        piece = payload[start : start + part.length]
        start += part.length
        if part.survivors or part.votes or piece or len(step.cohorts) == 1:
            shown.append((part, cohort, context.digest(), piece))
    return shown


def _votes(signatures: Mapping[str, bytes]) -> list[Vote]:
    return [Vote(member, signature) for member, signature in signatures.items()]
