"""Forgeries of step 7: who cosigned, who is trusted, and what somebody remembers."""

import base64
import json
from collections.abc import Callable

from vectors import positives
from vectors.builder import (
    COORDINATOR,
    REGULATOR,
    World,
    digest,
    identity,
)
from vectors.forging import HOSTILE, A, B, C, D, add, flipped, forgery, head_of
from vectors.negatives_trees import in_signatures, in_state
from vectors.positives import FOUR, TWO, policy_of

from privacy.ledger.keys import log_key


def _cosigned(nth: int, *names: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.main.states[nth].cosigners = tuple((name, name) for name in names)

    return change


@forgery(7, "full", "script")
def too_few_cosigned(world: World) -> None:
    """Two of four members cosigned a state that has the last sum on record."""
    _cosigned(1, A, B)(world)
    _cosigned(2, A, B, REGULATOR)(world)


@forgery(7, "full", "script")
def cosigned_before_the_last_sum(world: World) -> None:
    """Members cosigned only what was before the last sum that was opened."""
    _cosigned(1)(world)
    _cosigned(2, REGULATOR)(world)


@forgery(7, "full", "script")
def cosigned_by_different_members(world: World) -> None:
    """Two members cosigned one state and two others the next; no state has three of them."""
    _cosigned(1, A, B)(world)
    _cosigned(2, C, D, REGULATOR)(world)


@forgery(7, "full", "script")
def cosigned_by_strangers(world: World) -> None:
    """Only people who are no members cosigned, as many as are needed."""
    _cosigned(1, *(f"stranger-{n}" for n in range(4)))(world)
    _cosigned(2, REGULATOR, *(f"stranger-{n}" for n in range(4)))(world)


@forgery(7, "plain", "script")
def nobody_cosigned(world: World) -> None:
    """No member cosigned any state of the run."""
    _cosigned(0)(world)


@forgery(7, "stopped", "settled")
def nobody_cosigned_a_stopped_run(world: World) -> None:
    """No member cosigned any state of a run that was stopped after a sum."""
    _cosigned(0)(world)


def _cosignature(
    change: Callable[[bytes], bytes], name: str = A, nth: int = -1
) -> Callable[[World], None]:
    def rewrite(rows: list[bytes]) -> list[bytes]:
        made = []
        for row in rows:
            dash, who, encoded = row.split(b" ")
            if who.startswith(name.encode() + b"/"):
                data = base64.b64decode(encoded)
                encoded = base64.b64encode(data[:4] + change(data[4:]))
            made.append(b" ".join((dash, who, encoded)))
        return made

    return in_state(in_signatures(rewrite), nth)


for _name, _about, _bytes in (
    (
        "cosignature-flipped",
        "One bit of a member's cosignature is wrong.",
        lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    ),
    (
        "cosignature-at-another-time",
        "A member's cosignature is shown with another time.",
        lambda data: data[:7] + bytes([data[7] ^ 1]) + data[8:],
    ),
    (
        "cosignature-in-the-far-future",
        "A cosignature's time is beyond 2^63.",
        lambda data: b"\xff" * 8 + data[8:],
    ),
    ("cosignature-short", "A cosignature has 71 bytes.", lambda data: data[:-1]),
    (
        "cosignature-without-time",
        "A bare signature is shown as a cosignature.",
        lambda data: data[8:],
    ),
    ("cosignature-zero", "A cosignature is all zeros.", lambda data: bytes(len(data))),
):
    add(7, "full", "settled", _name, _about, _cosignature(_bytes))


add(
    7,
    "full",
    "settled",
    "cosignature-of-an-early-state-flipped",
    "One bit of a member's cosignature under an early state is wrong; later ones hold.",
    _cosignature(lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:], nth=0),
)


@forgery(7, "full", "settled")
def cosignature_of_another_state(world: World) -> None:
    """A member's cosignature of an earlier state is shown under the newest one."""
    old = world.lines()[1]
    notes = json.loads(old)["log"]["checkpoints"]
    row = next(row for row in notes[0].split("\n") if row.startswith(f"— {A}/"))
    world.main.states[-1].note = in_signatures(
        lambda rows: [row.encode() if f"{A}/".encode() in each else each for each in rows]
    )


@forgery(7, "full", "settled")
def cosignature_under_another_name(world: World) -> None:
    """One member's cosignature is shown as another's."""
    lines = json.loads(world.lines()[1])["log"]["checkpoints"][-1].split("\n")
    rows = {name: next(row for row in lines if row.startswith(f"— {name}/")) for name in (A, B)}
    data = base64.b64decode(rows[A].split(" ")[2])
    theirs = base64.b64decode(rows[B].split(" ")[2])
    made = base64.b64encode(theirs[:4] + data[4:]).decode()
    forged = " ".join((*rows[B].split(" ")[:2], made)).encode()
    world.main.states[-1].note = in_signatures(
        lambda each: [forged if f"— {B}/".encode() in row else row for row in each]
    )


@forgery(7, "full", "script")
def regulator_missing(world: World) -> None:
    """The regulator, whom the policy asks for, did not cosign."""
    _cosigned(2, *FOUR)(world)


@forgery(7, "full", "script")
def institutions_missing(world: World) -> None:
    """The regulator cosigned, and two of four institutions, where the policy asks for three."""
    _cosigned(2, A, B, REGULATOR)(world)


@forgery(7, "full", "script")
def regulator_cosigned_an_earlier_state(world: World) -> None:
    """The regulator cosigned an earlier state and not the newest."""
    _cosigned(1, *FOUR, REGULATOR)(world)
    _cosigned(2, *FOUR)(world)


def _bad_policy(change: Callable[[str], str]) -> Callable[[World], None]:
    def put(world: World) -> None:
        world.policy = change(world.policy)

    return put


_OWN = positives.full().policy
_LOG_LINE, _WITNESS_LINE = _OWN.split("\n")[0], _OWN.split("\n")[1]
for _name, _about, _policy in (
    ("without-quorum", "names no quorum", lambda p: p[: p.index("quorum")]),
    ("with-two-quorums", "names two quorums", lambda p: p + "quorum none\n"),
    ("quorum-unknown", "names a quorum that is not defined", lambda _: "quorum nobody\n"),
    ("without-last-newline", "does not end in a newline", lambda p: p[:-1]),
    (
        "group-of-zero",
        "asks a group for nobody",
        lambda p: p.replace("group two+thirds 3", "group two+thirds 0"),
    ),
    (
        "group-of-too-many",
        "asks a group for more than it has",
        lambda p: p.replace("group two+thirds 3", "group two+thirds 5"),
    ),
    (
        "counted-twice",
        "counts a witness in two groups",
        lambda p: p.replace("quorum", f"group again any {A}\nquorum"),
    ),
    (
        "key-twice",
        "names one key as two witnesses",
        lambda p: p.replace(
            _WITNESS_LINE,
            _WITNESS_LINE + "\n" + _WITNESS_LINE.replace(f"witness {A}", "witness other"),
        ),
    ),
    ("name-twice", "gives one name twice", lambda p: p.replace(f"witness {B} ", f"witness {A} ")),
    (
        "key-with-another-id",
        "holds a key whose id is not its own",
        lambda p: p.replace(_WITNESS_LINE, _turn_id(_WITNESS_LINE)),
    ),
    (
        "log-with-a-witness-key",
        "names a witness's key as a log's",
        lambda p: p.replace(_LOG_LINE, _WITNESS_LINE.replace(f"witness {A} ", "log ")),
    ),
    ("key-malformed", "holds a key that is none", lambda p: "witness x y+00000000+A\n" + p),
    (
        "log-with-too-much",
        "says too much of a log",
        lambda p: p.replace(_LOG_LINE, _LOG_LINE + " a b"),
    ),
    ("log-twice", "names a log twice", lambda p: _LOG_LINE + "\n" + p),
    ("witness-without-key", "names a witness without a key", lambda p: "witness x\n" + p),
    ("group-without-members", "has a group of nobody", lambda p: "group x any\n" + p),
    (
        "group-of-strangers",
        "has a group of somebody who is not defined",
        lambda p: p.replace("quorum", "group x any nobody\nquorum"),
    ),
    (
        "group-before-its-members",
        "has a group that stands before its members",
        lambda p: f"group early any {A}\n" + p,
    ),
    (
        "group-named-none",
        "has a group that is named none",
        lambda p: p.replace("quorum two", "group none any two+thirds+and\nquorum two"),
    ),
    ("line-unknown", "has a line of an unknown kind", lambda p: "trust everybody\n" + p),
    ("control-character", "holds a control character", lambda p: "# \x07\n" + p),
    ("carriage-returns", "has lines that end as on Windows", lambda p: p.replace("\n", "\r\n")),
):
    add(
        7,
        "full",
        "script",
        f"own-policy-{_name}",
        f"The bundle's own policy {_about}.",
        _bad_policy(_policy),
    )


def _turn_id(line: str) -> str:
    name, identifier, key = line.split("+", 2)
    return f"{name}+{flipped(identifier)}+{key}"


add(
    7,
    "full",
    "script",
    "policy-of-another-log",
    "The auditor knows another log's key.",
    lambda _: None,
    policy=lambda world: world.policy.replace(
        _LOG_LINE, "log " + log_key(world.main.origin, identity(HOSTILE).public).to_text()
    ),
)
add(
    7,
    "full",
    "script",
    "policy-of-another-origin",
    "The auditor knows the same key under another ledger's name.",
    lambda _: None,
    policy=lambda world: world.policy.replace(
        _LOG_LINE,
        "log " + log_key("tacit/another", identity(COORDINATOR).public).to_text(),
    ),
)
add(
    7,
    "plain",
    "script",
    "policy-asks-for-a-regulator",
    "The auditor asks for a regulator's cosignature; the bundle's own policy asks for nobody.",
    lambda _: None,
    policy=lambda world: policy_of(world, TWO, REGULATOR),
)
add(
    7,
    "plain",
    "script",
    "policy-weakened-in-the-bundle",
    "The bundle brings a policy without quorum; the auditor's own asks for both members.",
    lambda _: None,
    policy=lambda world: policy_of(world, TWO),
)
add(
    7,
    "rotated",
    "script",
    "policy-of-a-key-that-never-was",
    "The auditor knows a key that the ledger never had.",
    lambda _: None,
    policy=lambda world: (
        "log " + log_key(world.main.origin, identity(HOSTILE).public).to_text() + "\nquorum none\n"
    ),
)


@forgery(7, "plain", "script", policy=lambda world: policy_of(world, TWO))
def made_up_as_a_whole(world: World) -> None:
    """The whole federation was made up, with keys of the forger's own; the auditor's policy is the
    true one."""
    world.__dict__.update(positives.plain(keys="made up ").__dict__)


@forgery(7, "wide", "settled")
def cosigned_by_22_of_33(world: World) -> None:
    """22 of 33 members cosigned; more than two thirds are 23."""
    state = world.main.states[0]
    state.cosigners = state.cosigners[:22]


@forgery(7, "plain", "script", policy=lambda world: policy_of(world, TWO))
def coordinators_ledger_left_out(world: World) -> None:
    """The coordinator's ledger is not in the bundle, and the auditor's policy is about it."""
    world.settle().coordinator = None


@forgery(7, "full", "settled", heads=lambda world: [head_of(world, COORDINATOR, 29)])
def split_view_against_a_head(world: World) -> None:
    """Somebody remembers a root of this size, and was shown another ledger."""
    world.main.lines[0].time_ms -= 1


@forgery(7, "full", "settled", heads=lambda world: [head_of(world, COORDINATOR, 29)])
def rolled_back_behind_a_head(world: World) -> None:
    """The ledger was cut after the run's end, and signed and cosigned anew; somebody remembers
    more."""
    world.main.drop(world.main.lines[-1])


@forgery(7, "full", "settled", heads=lambda world: [head_of(world, COORDINATOR, 12)])
def early_head_not_found(world: World) -> None:
    """Somebody remembers an early state that these entries do not have."""
    world.main.find("rules.checked").body["rules"] = digest("other rules")


@forgery(7, "full", "settled", heads=lambda _: [("tacit/elsewhere/00", 3, digest("x"))])
def head_of_a_ledger_that_is_not_here(world: World) -> None:
    """Somebody remembers a ledger that is not in the bundle."""


@forgery(
    7,
    "unfinished",
    "settled",
    heads=lambda world: [head_of(world, D, len(world.nodes[D].lines))],
)
def nodes_ledger_behind_a_head(world: World) -> None:
    """A node cut the end of its own ledger off; somebody remembers more of it."""
    world.nodes[D].drop(world.nodes[D].lines[-1])
