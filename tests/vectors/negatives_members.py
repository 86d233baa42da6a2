"""Forgeries of a federation: who takes part in it, and in its runs; no act is there twice."""

from dataclasses import replace
from typing import Any

from vectors.builder import (
    BY,
    DATASET,
    FOUNDER,
    LAUNCHER,
    REGULATOR,
    Line,
    World,
    digest,
    identity,
    public,
)
from vectors.forging import HOSTILE, A, B, C, D, flipped, forgery

from privacy.manifest import COUNTERSIGN_DOMAIN
from privacy.membership import (
    INVITATIONS_MAX,
    MEMBERSHIP_DOMAIN,
    acts_digest,
    is_act,
    statement,
)

E = "echo-rental"


def _drop(world: World, kind: str, nth: int = 0, **fields: object) -> Line:
    line = world.main.find(kind, nth, **fields)
    world.main.drop(line)
    return line


def _before(world: World, line: Line, kind: str, body: dict[str, Any]) -> Line:
    made = Line(kind, body, line.time_ms, line.epoch)
    world.main.put(world.main.place(line), made)
    return made


# -- acts that have no place --


@forgery(6, "federated", "script")
def invited_before_the_beginning(world: World) -> None:
    """Somebody is invited to a federation that nobody has begun."""
    begun = world.main.find("federation.begun")
    body = {**world.main.find("member.invited").body, "token": digest("early")}
    _before(world, begun, "member.invited", body)


@forgery(6, "federated", "script")
def beginning_missing(world: World) -> None:
    """All acts are there, but not the one that says whose federation it is."""
    _drop(world, "federation.begun")


@forgery(6, "federated", "script")
def request_with_a_token_of_nobody(world: World) -> None:
    """Somebody asks with a token that no operator signed."""
    _drop(world, "member.invited", name=D)


@forgery(6, "federated", "script")
def request_with_a_token_of_who_was_revoked(world: World) -> None:
    """An operator invites, is revoked, and its invitation is used afterwards."""
    last = world.main.find("member.certified", name=D)
    place = world.main.place(last) + 1
    before = len(world.main.lines)
    world.admit("gull-operator", "operator", FOUNDER, A)
    world.invite("gull-bank", "bank", by="gull-operator").revoke("gull-operator")
    world.request("gull-bank", "bank")
    _moved(world, before, place)


def _moved(world: World, since: int, place: int) -> None:
    """Put the lines from `since` on to `place`, with the time that is there."""
    taken = world.main.lines[since:]
    del world.main.lines[since:]
    time_ms = world.main.lines[place - 1].time_ms
    for number, line in enumerate(taken):
        line.time_ms = time_ms
        world.main.put(place + number, line)


@forgery(6, "federated", "script")
def request_after_the_time(world: World) -> None:
    """A token is used a millisecond after its time was over."""
    asked = world.main.find("member.requested", name=D)
    world.main.find("member.invited", name=D).body["expires_ms"] = asked.time_ms - 1


@forgery(6, "federated", "settled")
def time_of_a_token_moved(world: World) -> None:
    """The coordinator makes a token last longer than the operator signed."""
    world.main.find("member.invited", name=D).body["expires_ms"] += 1


@forgery(6, "federated", "script")
def request_in_another_role(world: World) -> None:
    """Who was invited as a regulator asks to be a bank."""
    world.main.find("member.requested", name=REGULATOR).body["role"] = "bank"


@forgery(6, "federated", "script")
def request_under_another_name(world: World) -> None:
    """An invitation of one is used in the name of another."""
    world.main.find("member.invited", name=D).body["name"] = HOSTILE


@forgery(6, "federated", "script")
def request_of_a_name_that_was_taken(world: World) -> None:
    """Two invitations name one, and both are used."""
    place = world.main.place(world.main.find("member.invited", name=A)) + 1
    before = len(world.main.lines)
    world.invite(A, "bank", key="another")
    _moved(world, before, place)
    before = len(world.main.lines)
    world.request(A, "bank", key="another")
    _moved(world, before, world.main.place(world.main.find("member.certified", name=D)) + 1)


@forgery(6, "federated", "script")
def invited_though_it_takes_part(world: World) -> None:
    """A name is invited that somebody has."""
    before = len(world.main.lines)
    world.invite(A, "bank", key="another")
    _moved(world, before, world.main.place(world.main.find("member.certified", name=D)) + 1)


@forgery(6, "federated", "script")
def two_candidates_of_one_name(world: World) -> None:
    """Two invitations name one, and both are used before anybody approved."""
    place = world.main.place(world.main.find("member.requested", name=D)) + 1
    before = len(world.main.lines)
    world.invite(D, "manufacturer", key="another").request(D, "manufacturer", key="another")
    _moved(world, before, place)


@forgery(6, "federated", "script")
def request_with_anothers_key(world: World) -> None:
    """A candidate asks with the key of a participant."""
    line = world.main.find("member.requested", name=E)
    line.body["key"] = public(A)


@forgery(6, "federated", "script")
def request_with_anothers_tls_key(world: World) -> None:
    """A candidate asks with the TLS key of a participant."""
    line = world.main.find("member.requested", name=E)
    line.body["tls"] = digest("tls", A)


@forgery(6, "federated", "script")
def revoked_key_comes_back(world: World) -> None:
    """Who was revoked is let in again with the key that was revoked."""
    for line in world.main.lines:
        if line.kind.startswith("member.") and line.body.get("key") == public("echo again"):
            line.body["key"] = public(E)


# -- approvals --


@forgery(6, "federated", "script")
def admitted_with_too_few_approvals(world: World) -> None:
    """The coordinator certifies a candidate whom one participant approved, and two have to."""
    _drop(world, "member.approved", name=D, by=A)


@forgery(6, "federated", "script")
def admitted_without_approval(world: World) -> None:
    """The coordinator certifies a candidate whom nobody approved, when there is one to approve."""
    _drop(world, "member.approved", name=A)


@forgery(6, "federated", "script")
def approval_by_a_regulator(world: World) -> None:
    """A regulator approves, and it only looks."""
    world.main.find("member.approved", name=D, by=A).body["by"] = REGULATOR


@forgery(6, "federated", "script")
def approval_by_somebody_invented(world: World) -> None:
    """Somebody approves who never took part."""
    world.main.find("member.approved", name=D, by=A).body["by"] = HOSTILE


@forgery(6, "federated", "settled")
def approval_under_anothers_name(world: World) -> None:
    """The coordinator writes an approval that it signed itself."""
    line = world.main.find("member.approved", name=D, by=A)
    told = statement(line.kind, world.federation, world.root, line.body)
    line.body["signature"] = identity("coordinator").sign(MEMBERSHIP_DOMAIN, told).hex()


@forgery(6, "federated", "settled")
def approval_of_another_federation(world: World) -> None:
    """An approval is shown that was signed in another federation."""
    line = world.main.find("member.approved", name=D, by=A)
    told = statement(line.kind, "another", world.root, line.body)
    line.body["signature"] = identity(A).sign(MEMBERSHIP_DOMAIN, told).hex()


@forgery(6, "federated", "settled")
def approval_of_another_federation_of_that_name(world: World) -> None:
    """An approval is shown that was signed in a federation with the same name and another root."""
    line = world.main.find("member.approved", name=D, by=A)
    told = statement(line.kind, world.federation, digest("another root"), line.body)
    line.body["signature"] = identity(A).sign(MEMBERSHIP_DOMAIN, told).hex()


@forgery(6, "federated", "settled")
def approval_signed_for_something_else(world: World) -> None:
    """What was signed in another domain is shown as an approval."""
    line = world.main.find("member.approved", name=D, by=A)
    told = statement(line.kind, world.federation, world.root, line.body)
    line.body["signature"] = identity(A).sign("consent", told).hex()


@forgery(6, "federated", "script")
def approval_of_itself(world: World) -> None:
    """A candidate approves itself."""
    world.main.find("member.approved", name=D, by=A).body["by"] = D


@forgery(6, "federated", "script")
def approval_of_another_key(world: World) -> None:
    """Another key is approved than the candidate has."""
    world.main.find("member.approved", name=D, by=A).body["key"] = public(HOSTILE)


@forgery(6, "federated", "script")
def approval_before_the_request(world: World) -> None:
    """Somebody is approved before it asked."""
    line = _drop(world, "member.approved", name=D, by=A)
    _before(world, world.main.find("member.requested", name=D), line.kind, line.body)


@forgery(6, "federated", "script")
def approval_of_who_was_revoked_counts(world: World) -> None:
    """Who approved a candidate is revoked before that is certified, and is counted."""
    before = len(world.main.lines)
    world.revoke(A)
    line = world.main.find("member.certified", name=D)
    _moved(world, before, world.main.place(line))


@forgery(6, "federated", "script")
def approval_by_who_was_revoked(world: World) -> None:
    """Somebody approves who was revoked before."""
    before = len(world.main.lines)
    world.revoke(A)
    _moved(world, before, world.main.place(world.main.find("member.requested", name=D)))


@forgery(6, "federated", "script")
def invited_by_a_bank(world: World) -> None:
    """A bank invites, and operators alone may."""
    world.main.find("member.invited", name=D).body["by"] = A


# -- keys and certificates --


@forgery(6, "federated", "settled")
def key_swapped(world: World) -> None:
    """The coordinator puts its own key in the place of a candidate's."""
    for line in world.main.lines:
        if line.kind.startswith("member.") and line.body.get("key") == public(D):
            line.body["key"] = public(HOSTILE)
    line = world.main.find("member.requested", name=D)
    told = statement(line.kind, world.federation, world.root, line.body)
    line.body["signature"] = identity(HOSTILE).sign(MEMBERSHIP_DOMAIN, told).hex()


@forgery(6, "federated", "script")
def certificate_for_another_key(world: World) -> None:
    """A certificate is given for another TLS key than the candidate asked with."""
    world.main.find("member.certified", name=D).body["tls"] = digest("tls", HOSTILE)


@forgery(6, "federated", "script")
def certificate_of_a_stranger(world: World) -> None:
    """A certificate is given to somebody who never asked."""
    line = world.main.find("member.certified", name=D)
    body = {**line.body, "name": HOSTILE, "key": public(HOSTILE), "certificate": digest("x")}
    world.main.after(line, line.kind, body)


@forgery(6, "federated", "script")
def certificate_after_it_was_revoked(world: World) -> None:
    """Who was revoked is given one more certificate."""
    body = {**world.main.find("member.certified", name=E).body, "certificate": digest("x")}
    world.main.after(world.main.find("member.revoked", name=E), "member.certified", body)


@forgery(6, "federated", "script")
def founders_certificate_for_a_tls_key_of_another(world: World) -> None:
    """The founder's first certificate is for a TLS key that a participant had before."""
    line = _drop(world, "member.certified", name=FOUNDER)
    line.body["tls"] = digest("tls", A)
    world.main.after(world.main.find("member.certified", name=A), line.kind, line.body)


@forgery(6, "federated", "settled")
def renewed_without_the_old_key(world: World) -> None:
    """A participant's keys are changed, and its key did not sign that."""
    line = world.main.find("member.renewed", name=D)
    told = statement(line.kind, world.federation, world.root, line.body)
    line.body["signature"] = identity("delta 2").sign(MEMBERSHIP_DOMAIN, told).hex()


@forgery(6, "federated", "settled")
def renewed_without_the_new_key(world: World) -> None:
    """A participant names a new key that is not its own."""
    line = world.main.find("member.renewed", name=D)
    line.body["proof"] = flipped(line.body["proof"])


@forgery(6, "federated", "script")
def renewed_with_anothers_key(world: World) -> None:
    """A participant renews its key with one that another has."""
    world.main.find("member.renewed", name=D).body["new"] = public(A)


@forgery(6, "federated", "script")
def renewed_with_anothers_tls_key(world: World) -> None:
    """A participant renews its TLS key with one that another has."""
    world.main.find("member.renewed", name=D).body["tls"] = digest("tls", A)


@forgery(6, "federated", "script")
def renewed_by_a_key_of_before(world: World) -> None:
    """A key that was renewed renews once more."""
    line = world.main.find("member.renewed", name=D)
    body = {**line.body, "new": public(HOSTILE), "tls": digest("tls", HOSTILE)}
    world.main.after(line, line.kind, body)


@forgery(6, "federated", "script")
def revoked_by_another_member(world: World) -> None:
    """A bank revokes another participant, and operators alone may."""
    world.main.find("member.revoked", name=E).body["by"] = A


@forgery(6, "federated", "script")
def revoked_who_takes_no_part(world: World) -> None:
    """Somebody is revoked who never took part."""
    line = world.main.find("member.revoked", name=E)
    body = {**line.body, "name": HOSTILE, "key": public(HOSTILE)}
    world.main.after(line, line.kind, body)


@forgery(6, "federated", "settled")
def revocation_made_up(world: World) -> None:
    """The coordinator revokes a participant by itself."""
    line = world.main.find("member.revoked", name=E)
    line.body["signature"] = flipped(line.body["signature"])


@forgery(6, "federated", "settled")
def beginning_signed_by_nobody(world: World) -> None:
    """The founder's key did not sign the beginning: fewer approvals are needed than it says."""
    world.main.find("federation.begun").body["approvals"] = 1


# -- runs of a federation --


@forgery(6, "federated", "script")
def run_of_a_stranger(world: World) -> None:
    """A run has a member that takes no part in the federation."""
    _drop(world, "member.certified", name=D)
    _drop(world, "member.renewed", name=D)
    _drop(world, "member.certified", name=D)


@forgery(6, "federated", "script")
def run_of_who_was_revoked(world: World) -> None:
    """A run starts with a member that was revoked before."""
    before = len(world.main.lines)
    world.revoke(C)
    _moved(world, before, world.main.place(world.main.find("run.started")))


@forgery(6, "federated", "script")
def run_with_a_key_of_before(world: World) -> None:
    """A run starts with the key that a member had before it was renewed."""
    manifest = world.manifests["run-2"]
    directory = {**manifest.directory, D: public(D)}
    world.manifests["run-2"] = replace(manifest, directory=directory)


@forgery(6, "federated", "script")
def run_with_a_regulator(world: World) -> None:
    """A regulator is a member of a run, and has no rows."""
    manifest = world.manifests["run-2"]
    directory = {**manifest.directory, REGULATOR: public(REGULATOR)}
    world.manifests["run-2"] = replace(manifest, directory=directory)


@forgery(6, "federated", "script")
def launched_by_a_manufacturer(world: World) -> None:
    """A manufacturer launches a run, and banks, insurers and operators alone may."""
    world.main.find("run.started").body["launcher"] = public(C)


@forgery(6, "federated", "script")
def launched_by_who_was_revoked(world: World) -> None:
    """Who launches a run was revoked before."""
    before = len(world.main.lines)
    world.revoke(LAUNCHER)
    _moved(world, before, world.main.place(world.main.find("run.started")))


@forgery(6, "federated", "script")
def sum_of_who_declined(world: World) -> None:
    """A sum asks a member of the manifest that declined."""
    line = world.main.find("sum.reserved")
    line.body["asked"].append(D)


@forgery(6, "federated", "script")
def sum_without_one_who_consented(world: World) -> None:
    """A sum leaves out a member that consented, so that a difference shows that one."""
    line = world.main.find("sum.reserved", step="evaluate test")
    line.body["asked"] = [A, B]
    line.body["nodes"].pop(C)


@forgery(6, "federated", "script")
def too_few_consented(world: World) -> None:
    """A run goes on with fewer members than its manifest asks for."""
    _drop(world, "run.consented", member=C)


@forgery(6, "federated", "script")
def accepted_by_who_declined(world: World) -> None:
    """A member that declined accepts a sum in the place of one that took part."""
    line = world.main.find("sum.accepted")
    line.body["signatures"] = dict.fromkeys((A, B, D))


@forgery(7, "federated", "script")
def cosigned_by_who_declined(world: World) -> None:
    """A member that declined cosigns the state that has the last sum, in the place of one that
    took part."""
    state = world.main.states[0]
    state.cosigners = ((A, A), (B, B), (D, D))
    world.nodes[C].drop(world.nodes[C].find("ledger.cosigned"))


@forgery(9, "federated", "script")
def accepted_in_a_run_that_it_declined(world: World) -> None:
    """A member's own ledger has a sum as accepted of a run in which it took no part."""
    book = world.nodes[D]
    about = {"run": "run-1", "step": "statistics", "round": 0, "dataset": DATASET}
    terms = book.find("budget.terms")
    reserved = book.after(terms, "budget.reserved", {**about, "receipt": None})
    book.after(reserved, "budget.committed", about)


# -- which acts the launcher saw --


def _seen(world: World, run: str = "run-2", **changes: str | None) -> None:
    manifest = world.manifests[run]
    told = {**manifest.ledger, **changes}
    ledger = {name: value for name, value in told.items() if value is not None}
    world.manifests[run] = replace(manifest, ledger=ledger)


def _acts(world: World) -> list[bytes]:
    """All acts as they stand in the ledger."""
    main = world.copy().settle().main
    return [line.bytes_at(place) for place, line in enumerate(main.lines) if is_act(line.kind)]


@forgery(6, "federated", "script")
def launcher_saw_other_acts(world: World) -> None:
    """A launcher was shown another membership than stands in the ledger."""
    _seen(world, acts="3", membership=digest("another membership"))


@forgery(6, "federated", "script")
def launcher_saw_more_acts(world: World) -> None:
    """A launcher was shown one act more than the ledger had when its run started."""
    leaves = [*_acts(world), b"{}"]
    _seen(world, acts=str(len(leaves)), membership=acts_digest(leaves))


@forgery(6, "federated", "script")
def launcher_saw_fewer_acts_than_it_says(world: World) -> None:
    """The number of acts that a launcher saw is not that of their digest."""
    leaves = _acts(world)
    _seen(world, acts=str(len(leaves) - 1), membership=acts_digest(leaves))


@forgery(6, "federated", "script")
def acts_without_their_digest(world: World) -> None:
    """A manifest says how many acts its launcher saw, and not which."""
    _seen(world, acts="3", membership=None)


@forgery(6, "federated", "script")
def acts_in_another_spelling(world: World) -> None:
    """A manifest writes the number of acts with a zero in front."""
    _seen(world, acts="03", membership=digest("membership"))


@forgery(6, "plain", "script")
def acts_without_a_federation(world: World) -> None:
    """A manifest names acts of membership in a ledger that has none."""
    _seen(world, "run-1", acts="1", membership=digest("membership"))


# -- what has no end --


@forgery(6, "federated", "script")
def renewed_nine_times(world: World) -> None:
    """A participant renews its keys a ninth time within thirty days."""
    for number in range(9):
        told = {"name": A, "key": public(A), "new": public(A), "tls": digest("tls", A, number)}
        world.act("member.renewed", **told)
    world.end()


@forgery(6, "federated", "script")
def invited_without_end(world: World) -> None:
    """An operator makes one invitation more than it may have that nobody used."""
    for number in range(INVITATIONS_MAX + 1):
        world.invite(f"n{number}", "bank", attributes={})
    world.end()


@forgery(6, "federated", "script")
def name_of_65_characters(world: World) -> None:
    """Somebody is invited by a name that no sum has room for."""
    world.invite("n" * 65, "bank").end()


# -- the second signature --


@forgery(6, "federated", "settled")
def second_signature_forged(world: World) -> None:
    """The second signature under the manifest is the coordinator's."""
    told = world.manifests["run-1"].digest()
    signature = identity("coordinator").sign(COUNTERSIGN_DOMAIN, told).hex()
    world.main.find("run.countersigned").body["signature"] = signature


@forgery(6, "federated", "script")
def second_signature_by_a_stranger(world: World) -> None:
    """Somebody signs the manifest too who takes no part in anything."""
    world.main.find("run.countersigned").body["member"] = HOSTILE


@forgery(6, "federated", "script")
def second_signature_by_a_regulator(world: World) -> None:
    """A regulator signs the manifest too, and it only looks."""
    world.main.find("run.countersigned").body["member"] = REGULATOR


@forgery(6, "federated", "script")
def second_signature_by_the_launcher(world: World) -> None:
    """The launcher signs its own manifest as the second one, too."""
    world.main.find("run.countersigned").body["member"] = LAUNCHER


@forgery(6, "federated", "script")
def second_signature_by_the_launchers_next_key(world: World) -> None:
    """The launcher renews its key between its two signatures."""
    before = len(world.main.lines)
    keys = {"key": public(LAUNCHER), "new": public("launcher 2")}
    world.act("member.renewed", name=LAUNCHER, **keys, tls=digest("tls", LAUNCHER))
    line = world.main.find("run.countersigned")
    _moved(world, before, world.main.place(line))
    line.body.update(member=LAUNCHER, signature=BY + "launcher 2")


@forgery(6, "federated", "script")
def second_signature_after_the_keys(world: World) -> None:
    """The manifest is signed by a second one when the members' keys were agreed on already."""
    line = _drop(world, "run.countersigned")
    world.main.after(world.main.find("keys.agreed"), line.kind, line.body)


# -- which suite the founder signed --


@forgery(6, "federated", "script")
def run_of_another_suite(world: World) -> None:
    """A run uses another suite of algorithms than the founder signed."""
    world.manifests["run-2"] = replace(world.manifests["run-2"], suite="gm")


@forgery(2, "federated", "script")
def federation_with_an_unknown_suite(world: World) -> None:
    """The founder signs a suite that there is not."""
    world.main.find("federation.begun").body["suite"] = "none"
