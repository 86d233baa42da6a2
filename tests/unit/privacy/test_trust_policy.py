from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint, with_cosignatures
from privacy.ledger.note import COSIGNATURE_V1, ED25519, VerifierKey, parse_note
from privacy.ledger.trust import (
    TWO_THIRDS,
    TWO_THIRDS_AND,
    Group,
    TrustPolicy,
    parse_policy,
    two_thirds,
)

NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
PRIVATES = {
    name: Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))
    for name in ("log", "log2", *NAMES)
}


def _key(name: str, algorithm: int = COSIGNATURE_V1) -> VerifierKey:
    return VerifierKey(name, algorithm, PRIVATES[name].public_key().public_bytes_raw())


LOG, LOG2 = _key("log", ED25519), _key("log2", ED25519)
WITNESSES = {name: _key(name) for name in NAMES}
HEAD = Checkpoint("log", 5, b"r" * 32)
# The example of c2sp.org/tlog-policy, with keys.
EXAMPLE = f"""
log {LOG.to_text()}

witness X1 {WITNESSES["X1"].to_text()}
witness X2 {WITNESSES["X2"].to_text()}
witness X3 {WITNESSES["X3"].to_text()}
group X-witnesses 2 X1 X2 X3

witness Y1 {WITNESSES["Y1"].to_text()}
witness Y2 {WITNESSES["Y2"].to_text()}
witness Y3 {WITNESSES["Y3"].to_text()}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
POLICY = parse_policy(EXAMPLE)


def _note(*names: str, head: Checkpoint = HEAD, log: str = "log") -> bytes:
    note = sign_checkpoint(head, key=_key(log, ED25519), sign=PRIVATES[log].sign)
    return with_cosignatures(
        note,
        [cosign(head, key=_key(name), sign=PRIVATES[name].sign, time_s=7) for name in names],
    )


# --- quorums ---


def test_the_example_of_the_specification_is_understood() -> None:
    assert (
        TrustPolicy(
            (LOG,),
            WITNESSES,
            {
                "X-witnesses": Group(2, ("X1", "X2", "X3")),
                "Y-witnesses": Group(1, ("Y1", "Y2", "Y3")),
                "X-and-Y": Group(2, ("X-witnesses", "Y-witnesses")),
            },
            "X-and-Y",
        )
        == POLICY
    )
    assert parse_policy(POLICY.to_text()) == POLICY


@pytest.mark.parametrize(
    "names", [("X1", "X2", "Y1"), ("X1", "X3", "Y3"), ("X2", "X3", "Y1", "Y2"), NAMES]
)
def test_a_quorum_is_enough(names: tuple[str, ...]) -> None:
    assert POLICY.require_quorum(_note(*names)) == dict.fromkeys(names, 7)


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((), "X1, X2, X3, Y1, Y2, Y3"),
        (("X1", "X2"), "Y1, Y2, Y3"),
        (("X1", "X2", "X3"), "Y1, Y2, Y3"),
        (("X1", "Y1", "Y2", "Y3"), "X2, X3"),
    ],
)
def test_less_is_not_and_the_missing_are_named(names: tuple[str, ...], missing: str) -> None:
    with pytest.raises(NotVerifiedError, match=f"missing: {missing}$"):
        POLICY.require_quorum(_note(*names))


def test_one_witness_can_be_the_quorum() -> None:
    policy = replace(POLICY, quorum="Y2")
    assert policy.require_quorum(_note("Y2", "X1")) == {"X1": 7, "Y2": 7}
    with pytest.raises(NotVerifiedError, match=r"missing: Y2$"):
        policy.require_quorum(_note("X1"))


def test_none_asks_for_nobody_but_the_log() -> None:
    policy = parse_policy(f"log {LOG.to_text()}\nquorum none\n")
    assert policy == TrustPolicy((LOG,))
    assert policy.require_quorum(_note()) == {}
    with pytest.raises(NotVerifiedError, match="no log"):
        policy.require_quorum(_note(log="log2", head=replace(HEAD, origin="log2")))
    assert replace(POLICY, quorum=None).require_quorum(_note("X1")) == {"X1": 7}


def test_a_log_speaks_for_its_own_origin() -> None:
    policy = TrustPolicy((LOG, LOG2))
    assert policy.require_quorum(_note()) == {}
    assert policy.require_quorum(_note(log="log2", head=replace(HEAD, origin="log2"))) == {}
    with pytest.raises(NotVerifiedError, match="no log"):
        policy.require_quorum(_note(log="log2"))
    # Where no logs are named, the caller knows the log.
    assert TrustPolicy(()).require_quorum(_note(log="log2")) == {}


def test_bad_signatures_of_known_keys_are_never_passed_over() -> None:
    for name in ("log", "Y3"):
        note = parse_note(_note(*NAMES))
        signatures = tuple(
            replace(each, signature=each.signature[:-1] + b"\0") if each.name == name else each
            for each in note.signatures
        )
        with pytest.raises(NotVerifiedError, match=f"{name} does not verify"):
            POLICY.require_quorum(replace(note, signatures=signatures).to_bytes())
    with pytest.raises(NotVerifiedError, match="does not verify"):
        POLICY.require_quorum(_note(*NAMES).replace(b"\n5\n", b"\n6\n"))
    for other in (b"", b"poem\n\n" + _note().split(b"\n\n")[1]):
        with pytest.raises(NotVerifiedError, match=r"no signed note|no checkpoint"):
            POLICY.require_quorum(other)


def test_nobody_counts_by_a_name_alone() -> None:
    # another key under the name of a witness
    forged = VerifierKey("Y1", COSIGNATURE_V1, LOG.public)
    line = cosign(HEAD, key=forged, sign=PRIVATES["log"].sign, time_s=7)
    with pytest.raises(NotVerifiedError, match=r"missing: Y1, Y2, Y3$"):
        POLICY.require_quorum(with_cosignatures(_note("X1", "X2"), [line]))
    # names in the policy need not be those of the keys, and two keys may share theirs
    keys = {"old": replace(_key("X1"), name="x"), "new": replace(_key("X2"), name="x")}
    policy = TrustPolicy((), keys, {"both": Group(2, ("old", "new"))}, "both")
    lines = {
        name: cosign(HEAD, key=key, sign=PRIVATES[private].sign, time_s=3)
        for (name, key), private in zip(keys.items(), ("X1", "X2"), strict=True)
    }
    assert policy.require_quorum(with_cosignatures(_note(), lines.values())) == {"old": 3, "new": 3}
    with pytest.raises(NotVerifiedError, match=r"missing: new$"):
        policy.require_quorum(with_cosignatures(_note(), [lines["old"]]))


# --- the usual policy ---


@pytest.mark.parametrize(
    ("count", "threshold"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (9, 7)]
)
def test_two_thirds_are_more_than_two_thirds(count: int, threshold: int) -> None:
    keys = {
        str(seed): VerifierKey(
            str(seed),
            COSIGNATURE_V1,
            Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
            .public_key()
            .public_bytes_raw(),
        )
        for seed in range(count)
    }
    policy = two_thirds([LOG], keys)
    assert policy.quorum == TWO_THIRDS
    assert policy.groups[TWO_THIRDS] == Group(threshold, tuple(keys))
    assert threshold > 2 * count / 3 >= threshold - 1
    assert parse_policy(policy.to_text()) == policy


def test_the_regulator_must_sign_and_is_no_institution() -> None:
    policy = two_thirds([LOG], WITNESSES, also=["Y3", "Y3"])
    assert policy.quorum == TWO_THIRDS_AND
    assert policy.groups[TWO_THIRDS] == Group(4, NAMES[:5])
    assert parse_policy(policy.to_text()) == policy
    assert len(policy.require_quorum(_note("X1", "X2", "Y1", "Y2", "Y3"))) == 5
    with pytest.raises(NotVerifiedError, match=r"missing: Y3$"):
        policy.require_quorum(_note(*NAMES[:5]))
    with pytest.raises(NotVerifiedError, match=r"missing: Y1, Y2$"):
        policy.require_quorum(_note("X1", "X2", "X3", "Y3"))


def test_all_can_be_required() -> None:
    policy = two_thirds([LOG], WITNESSES, also=NAMES)
    assert policy.require_quorum(_note(*NAMES)) == dict.fromkeys(NAMES, 7)
    with pytest.raises(NotVerifiedError, match=r"missing: X2$"):
        policy.require_quorum(_note("X1", *NAMES[2:]))


def test_the_usual_policy_needs_witnesses() -> None:
    with pytest.raises(ValueError, match="at least one"):
        two_thirds([LOG], {})
    with pytest.raises(ValueError, match="among"):
        two_thirds([LOG], WITNESSES, also=["Z"])


# --- the file ---


def test_spaces_addresses_and_comments_say_nothing() -> None:
    text = EXAMPLE.replace(" ", "\t ").replace("quorum", " \t# comment\n\t\n  quorum")
    text = text.replace(f"{LOG.to_text()}\n", f"{LOG.to_text()} https://log.example/ \n")
    text = text.replace("any Y1", "1 Y1").replace("all X", "2 X")
    assert text.count("https") == 1
    assert parse_policy(text) == POLICY


def test_names_are_taken_as_they_stand() -> None:
    keys = f"witness K {WITNESSES['X1'].to_text()}\nwitness \u212a {WITNESSES['X2'].to_text()}\n"
    policy = parse_policy(keys + "quorum \u212a\n")
    assert (policy.quorum, list(policy.witnesses)) == ("\u212a", ["K", "\u212a"])
    # only spaces and tabs part words
    spaced = parse_policy(keys.replace("witness K", "witness a\u3000b") + "quorum a\u3000b\n")
    assert spaced.quorum == "a\u3000b"


X1, X2 = (f"witness {name} {WITNESSES[name].to_text()}\n" for name in ("X1", "X2"))
BOTH = X1 + X2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "newline"),
        ("quorum none", "newline"),
        ("quorum none\r\n", "control"),
        ("quorum none\n\x7f\n", "control"),
        ("\n", "one line 'quorum"),
        ("# quorum none\n", "one line 'quorum"),
        (BOTH, "one line 'quorum"),
        ("quorum none\nquorum none\n", "line 2.*twice"),
        (X1 + "quorum X1\nquorum X1\n", "line 3.*twice"),
        ("quorum X1\n" + X1, "line 1.*not defined"),
        ("quorum all\n", "not defined"),
        ("quorum\n", "no log"),
        ("quorum none x\n", "no log"),
        ("Quorum none\n", "no log"),
        ("log\nquorum none\n", "no log"),
        (f"log {LOG.to_text()} a b\nquorum none\n", "no log"),
        (f"log {LOG.to_text()}\n" * 2 + "quorum none\n", "given twice"),
        (f"log {WITNESSES['X1'].to_text()}\nquorum none\n", "type 1"),
        (f"log {LOG.to_text()[:-1]}\nquorum none\n", "line 1.*verifier key"),
        (f"witness w {LOG.to_text()}\nquorum none\n", "type 4"),
        (f"witness {WITNESSES['X1'].to_text()}\nquorum none\n", "no log"),
        (X1 * 2 + "quorum none\n", "name 'X1' is given twice"),
        (X1 + X1.replace("witness X1", "witness Z") + "quorum none\n", "key .* given twice"),
        (X1.replace("witness X1", "witness none") + "quorum none\n", "no name"),
        (BOTH + "group g 1\nquorum g\n", "no log"),
        (BOTH + "group g any\nquorum none\n", "no log"),
        (BOTH + "group g 0 X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + "group g 3 X1 X2\nquorum g\n", "not 3"),
        (BOTH + "group g 01 X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + "group g -1 X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + "group g 1.0 X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + "group g most X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + f"group g {'9' * 5000} X1 X2\nquorum g\n", "from 1 on"),
        (BOTH + "group g 1 X1 X1\nquorum g\n", "counts twice"),
        (BOTH + "group g 1 X1\ngroup h all g X1\nquorum h\n", "counts twice"),
        (BOTH + "group g 1 X1\ngroup h 1 X1 X2\nquorum h\n", "counts twice"),
        (BOTH + "group g 1 X1 none\nquorum g\n", "not defined"),
        (BOTH + "group g 1 g X1\nquorum g\n", "not defined"),
        (BOTH + "group g 1 h X1\ngroup h 1 X2\nquorum g\n", "not defined"),
        (X1 + "group g 1 X1 X2\n" + X2 + "quorum g\n", "line 2.*not defined"),
        (BOTH + "group X1 1 X1 X2\nquorum X1\n", "given twice"),
        (BOTH + "group none 1 X1 X2\nquorum none\n", "no name"),
        ("#" * 1024 * 1024 + "\nquorum none\n", "at most"),
    ],
)
def test_what_is_no_policy_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_policy(text)


def test_a_policy_that_could_not_be_written_cannot_be_made() -> None:
    for name in ("", "a b", "a\tb", "a\nb", "none", "a\x00"):
        with pytest.raises(ValueError, match="no name"):
            TrustPolicy((), {name: _key("X1")})
    with pytest.raises(ValueError, match="not defined"):
        TrustPolicy((), quorum="X1")
    for threshold in (0, 2):
        with pytest.raises(ValueError, match="needs 1 to 1"):
            Group(threshold, ("X1",))
    with pytest.raises(ValueError, match="needs 1 to 0"):
        Group(0, ())


def test_many_witnesses_and_deep_groups_are_no_trouble() -> None:
    lines = [f"witness X1 {WITNESSES['X1'].to_text()}", "group g0 all X1"]
    lines += [f"group g{depth + 1} all g{depth}" for depth in range(3000)]
    policy = parse_policy("\n".join([*lines, "quorum g3000"]) + "\n")
    assert policy.require_quorum(_note("X1")) == {"X1": 7}
    with pytest.raises(NotVerifiedError, match=r"missing: X1$"):
        policy.require_quorum(_note("X2"))


def test_a_policy_does_not_change_with_what_it_was_made_of() -> None:
    witnesses = dict(WITNESSES)
    policy = TrustPolicy((LOG,), witnesses, {}, "X1")
    del witnesses["X1"]
    assert policy.require_quorum(_note("X1")) == {"X1": 7}
