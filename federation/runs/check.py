"""What a coordinator holds against a launch before it asks anybody.

None of it protects a node: every node checks all of it again by itself. It spares the members what
none of them would agree to, and tells the launcher why in one sentence.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aggregator.plan import parse_plan
from federation.home import RUN_NAME
from federation.registry.peer import Peer
from federation.runs.order import Order
from privacy.canonical import parse_canonical
from privacy.errors import ProtocolError, RefusedError
from privacy.identity import verify_signature
from privacy.ledger.entry import make_entry
from privacy.manifest import SIGNING_DOMAIN, Manifest

if TYPE_CHECKING:
    from privacy.membership import Membership


def check_launch(
    document: bytes,
    signature: bytes,
    *,
    data: bytes,
    rules: bytes,
    peer: Peer,
    membership: "Membership",
    ledger: Mapping[str, str],
    now_ms: int,
) -> Order:
    """Return what is asked for, if it may be.

    Args:
        document: The manifest's canonical bytes.
        signature: The launcher's.
        data: Canonical JSON.
        rules: Canonical JSON.
        peer: Who asks, as its certificate says.
        membership: Who is in the federation now.
        ledger: `origin` and `key` of this coordinator's.
        now_ms: Milliseconds since 1970 UTC.

    Raises:
        RefusedError: It may not be; one sentence says why.
    """
    launcher = membership.participants.get(peer.name)
    if launcher is None or launcher.revoked or launcher.role != peer.role.value:
        raise RefusedError(f"{peer.name} is no active {peer.role.value} of this federation.")
    if peer.name not in membership.launchers():
        raise RefusedError(
            f"A {peer.role.value} does not launch runs here; a bank or an insurer does."
        )
    manifest = Manifest.from_bytes(document)
    try:
        verify_signature(launcher.key, SIGNING_DOMAIN, document, signature)
    except ProtocolError:
        raise RefusedError(
            f"The manifest is not signed by the key that {peer.name} is in the federation with; "
            "launch from the machine that joined."
        ) from None
    if not RUN_NAME.fullmatch(manifest.run):
        raise RefusedError("The run's name is none; use letters, digits, points and dashes.")
    _require_members(manifest, membership)
    if dict(manifest.log_facts) != dict(ledger):
        raise RefusedError(
            "The manifest names another ledger than this coordinator's; fetch the membership anew."
        )
    _require_same_membership(manifest, membership)
    if manifest.suite != membership.suite:
        raise RefusedError(
            f"The manifest has the suite {manifest.suite} and the federation's is "
            f"{membership.suite}; launch it with that."
        )
    if manifest.minimum_cohort > len(manifest.directory):
        raise RefusedError(
            f"The run asks {len(manifest.directory)} members, and its sums are opened over at "
            f"least {manifest.minimum_cohort}; ask more."
        )
    least = parse_plan(dict(manifest.coordinator_settings)).min_members
    if least is not None and least > len(manifest.directory):
        raise RefusedError(
            f"The run asks {len(manifest.directory)} members, and at least {least} have to agree; "
            "ask more."
        )
    order = Order(
        manifest=manifest,
        signature=signature,
        launcher=peer.name,
        key=launcher.key,
        data=_body("data.declared", data, manifest.run),
        rules=_body("rules.checked", rules, manifest.run),
        launched_ms=now_ms,
    )
    if order.data["contract"] != manifest.contract:
        raise RefusedError("The declared data are of another contract than the manifest's.")
    _require_recordable(order)
    return order


def _require_members(manifest: Manifest, membership: "Membership") -> None:
    members = membership.members()
    for name, key in manifest.directory_keys().items():
        if name not in members:
            raise RefusedError(f"{name} is no active member of this federation; leave it out.")
        if members[name] != key:
            raise RefusedError(
                f"{name} is in the federation with another key than the manifest's; launch again."
            )


def _require_same_membership(manifest: Manifest, membership: "Membership") -> None:
    """Refuse a launcher that read other acts than are in this ledger."""
    if not manifest.membership:
        raise RefusedError(
            "The manifest does not say which acts of membership its launcher saw; update tacit "
            "there, and launch again."
        )
    if membership.digest_at(manifest.acts) != manifest.membership:
        raise RefusedError(
            "The launcher was shown another membership than is in this ledger; compare tacit "
            "federation members on both machines."
        )


def _body(kind: str, data: bytes, run: str) -> dict[str, Any]:
    """The body of an act, without its run; it must be one that the ledger takes."""
    value = parse_canonical(data)
    if not isinstance(value, dict) or "run" in value:
        raise ProtocolError(f"The body of {kind} is none; update tacit.")
    _require_entry(kind, {"run": run, **value})
    return value


def _require_recordable(order: Order) -> None:
    manifest = order.manifest
    body = {
        "run": manifest.run,
        "name": manifest.name,
        "task": manifest.task,
        "members": dict(manifest.directory),
        "minimum": manifest.minimum_cohort,
        "group_size": manifest.group_size,
        "manifest": manifest.digest().hex(),
        "document": manifest.to_bytes().decode("utf-8"),
        "signature": order.signature.hex(),
        "launcher": order.key.hex(),
        "protection": manifest.protection,
    }
    _require_entry("run.started", body)


def _require_entry(kind: str, body: Mapping[str, Any]) -> None:
    try:
        make_entry(index=0, time_ms=0, epoch=1, kind=kind, body=body)
    except ValueError:
        raise ProtocolError(
            f"The ledger has no place for such a {kind}; shorten its texts, or update tacit."
        ) from None
