"""Two verifiers, written apart, say the same of every vector: what a bundle holds, or which step
finds that it does not."""

import ast
import copy
import io
import json
import os
import random
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vectors import forging, make, positives
from vectors.builder import World, sealed

from privacy import verify, verify_alone
from privacy.errors import NotVerifiedError
from privacy.ledger import entry
from privacy.ledger.head import LedgerHead
from privacy.ledger.trust import parse_policy

VECTORS = Path(make.__file__).parent
ALONE = Path(verify_alone.__file__)
LONG = bool(os.environ.get("TACIT_LONG"))
Vector = Mapping[str, Any]
POSITIVES: list[Vector] = json.loads((VECTORS / make.POSITIVES).read_bytes())
NEGATIVES: list[Vector] = json.loads((VECTORS / make.NEGATIVES).read_bytes())
BUNDLES = {path.name: path.read_bytes() for path in (VECTORS / make.FOLDER).iterdir()}
FIGURES = ("epsilon", "solo_epsilon")


def named(vectors: list[Vector]) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in vectors]


def data_of(vector: Vector) -> bytes:
    file = str(vector["file" if "file" in vector else "of"])
    return make.edited(BUNDLES[Path(file).name], vector.get("edits", []))


def first(vector: Vector) -> dict[str, Any]:
    """What the first verifier says; it raises `NotVerifiedError`."""
    heads: dict[str, list[LedgerHead]] = {}
    for origin, leaves, root in vector.get("heads", ()):
        heads.setdefault(origin, []).append(LedgerHead(leaves, root))
    policy = parse_policy(vector["policy"]) if "policy" in vector else None
    return asdict(verify.verify_data(data_of(vector), policy=policy, heads=heads))


def second(vector: Vector, *, slow: bool = False) -> dict[str, Any]:
    """What the second verifier says; it raises `NotVerified`."""
    heads = [(origin, leaves, root) for origin, leaves, root in vector.get("heads", ())]
    return verify_alone.verify(data_of(vector), vector.get("policy"), heads, slow=slow)


def step_of(error: NotVerifiedError) -> int:
    return int(str(error).removeprefix("step ").split(" ", 1)[0])


def step_of_first(vector: Vector) -> int:
    """Where the first verifier finds that this does not hold."""
    with pytest.raises(NotVerifiedError) as refused:
        first(vector)
    return step_of(refused.value)


def step_of_second(vector: Vector) -> int:
    """Where the second does."""
    with pytest.raises(verify_alone.NotVerified) as refused:
        second(vector)
    return refused.value.step


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal but for the last digits of epsilons."""
    for name, value in expected.items():
        if name == "privacy":
            rows = [(row, other) for row, other in zip(found[name], value, strict=True)]
            for row, other in rows:
                for figure in FIGURES:
                    if other[figure] is None:
                        assert row[figure] is None
                    else:
                        assert row[figure] == pytest.approx(other[figure], rel=1e-9, abs=0)
                assert {k: v for k, v in row.items() if k not in FIGURES} == {
                    k: v for k, v in other.items() if k not in FIGURES
                }
        else:
            assert json.loads(json.dumps(found[name])) == json.loads(json.dumps(value)), name


# -- every vector --


@pytest.mark.parametrize("vector", named(POSITIVES))
def test_a_bundle_that_holds_contains_the_same_to_both(vector: Vector) -> None:
    one, other = first(vector), second(vector)
    same(one, vector["expect"])
    same(other, vector["expect"])
    same(other, {name: value for name, value in one.items() if name != "steps"})
    same(second(vector, slow=True), vector["expect"])


@pytest.mark.parametrize("step_told", [step_of_first, step_of_second])
@pytest.mark.parametrize("vector", named(NEGATIVES))
def test_a_forgery_is_found_by_either_at_its_step(
    vector: Vector, step_told: Callable[[Vector], int]
) -> None:
    assert step_told(vector) == vector["step"]


@pytest.mark.parametrize(
    "vector",
    named([one for one in NEGATIVES if LONG or one["step"] == 5 or "vote" in one["name"]]),
)
def test_a_forgery_is_found_without_any_library(vector: Vector) -> None:
    with pytest.raises(verify_alone.NotVerified) as other:
        second(vector, slow=True)
    assert other.value.step == vector["step"]


def test_there_are_enough_forgeries_of_each_step() -> None:
    counts = {step: sum(one["step"] == step for one in NEGATIVES) for step in verify.STEPS}
    # nothing is read in step 10 that could be wrong: what costs less is found in steps 6, 8 and 9
    assert sum(counts.values()) >= 150
    assert all(counts[step] >= 20 for step in verify.STEPS if step < 10)
    assert len({one["name"] for one in NEGATIVES}) == len(NEGATIVES)
    assert all(one["about"].endswith(".") for one in (*POSITIVES, *NEGATIVES))


UNREACHED = {
    # of sizes that would make the vectors large
    "a line is too long",
    # the same act twice is found in step 3, and a long entry in step 1
    "the entry is too long",
    "the members' keys were agreed on before",
    "data.declared comes before the members' keys",
    "a ledger begins once",
    "the run was started before",
}


def test_each_rule_of_the_second_verifier_finds_a_forgery() -> None:
    """Whoever leaves one rule out takes a forgery for true."""
    text = ALONE.read_text(encoding="utf-8")
    rules = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"_need", "_Fault"}
    ]
    found: set[int] = set()
    for vector in NEGATIVES:
        try:
            second(vector)
        except verify_alone.NotVerified as error:
            fault = error.__context__ or error
            frames = traceback.extract_tb(fault.__traceback__)
            found.add([f.lineno or 0 for f in frames if f.name not in {"_need", "_fail"}][-1])
    lines = text.split("\n")
    missed = [
        " ".join(lines[line - 1] for line in rule) for rule in rules if found.isdisjoint(rule)
    ]
    helpers = ("_Fault(message)", "_Fault(otherwise)", "_need(left, wrong)")
    assert [
        rule.strip()
        for rule in missed
        if not any(words in rule for words in (*UNREACHED, *helpers))
    ] == []


def test_the_vectors_are_what_the_script_makes() -> None:
    made = make.files()
    kept = {
        path.relative_to(VECTORS).as_posix(): path.read_bytes()
        for path in VECTORS.rglob("*")
        if path.suffix in {".bundle", ".json"}
    }
    assert sorted(made) == sorted(kept)
    # one by one, as nobody wants to read the difference of two megabytes
    assert [name for name in made if made[name] != kept[name]] == []
    assert sum(map(len, made.values())) < 3 << 20


# -- one small bundle, damaged in every way --

SMALL = BUNDLES["stopped.bundle"]
SMALL_LINES = SMALL.split(b"\n")[:-2]


def accepted(data: bytes) -> bool:
    try:
        verify.verify_data(data)
    except NotVerifiedError:
        return False
    return True


def accepted_alone(data: bytes) -> bool:
    try:
        verify_alone.verify(data)
    except verify_alone.NotVerified:
        return False
    return True


def flipped(data: bytes, bit: int) -> bytes:
    at = bit // 8
    return data[:at] + bytes([data[at] ^ 1 << bit % 8]) + data[at + 1 :]


def test_no_bit_of_the_file_may_change() -> None:
    assert accepted(SMALL)
    assert accepted_alone(SMALL)
    bits = range(8 * len(SMALL))
    assert [bit for bit in bits if accepted(flipped(SMALL, bit))] == []
    some = bits if LONG else bits[::97]
    assert [bit for bit in some if accepted_alone(flipped(SMALL, bit))] == []


def test_the_file_may_end_nowhere_else() -> None:
    sizes = range(len(SMALL))
    assert [size for size in sizes if accepted(SMALL[:size])] == []
    some = sizes if LONG else sizes[::13]
    assert [size for size in some if accepted_alone(SMALL[:size])] == []


def test_no_bit_may_change_where_the_last_line_is_made_anew() -> None:
    """Whoever passes a bundle on can make the last line fit, and can change its first line, which
    nobody signed; whatever else changes is found by the trees and signatures."""
    free = len(SMALL_LINES[0])
    body = b"".join(line + b"\n" for line in SMALL_LINES)
    bits = range(8 * free, 8 * len(body))
    for step, accepts in ((1 if LONG else 7, accepted), (1 if LONG else 211, accepted_alone)):
        wrong = [b for b in bits[::step] if accepts(sealed(flipped(body, b).split(b"\n")[:-1]))]
        assert wrong == []


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_both_say_the_same_of_any_value_in_any_place(data: st.DataObject) -> None:
    """Any value of any line becomes another one, and the last line fits."""
    name = data.draw(st.sampled_from(sorted(BUNDLES)))
    lines = BUNDLES[name].split(b"\n")[:-2]
    at = data.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[at])
    places = list(_places(value))
    holder, key = data.draw(st.sampled_from(places))
    other: st.SearchStrategy[object] = st.sampled_from(
        [None, True, 0, -1, 1.5, "", "x", [], {}, 2**53, "00" * 32, "é"]
    )
    holder[key] = data.draw(other)
    lines[at] = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    changed = sealed(lines)
    verdicts = [_verdict(changed), _verdict_alone(changed)]
    assert verdicts[0] == verdicts[1]


def _places(value: object) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        found.append((value, key))
        if isinstance(item, dict | list):
            found += _places(item)
    return found


def _verdict(data: bytes) -> int | None:
    try:
        verify.verify_data(data)
    except NotVerifiedError as error:
        return step_of(error)
    return None


def _verdict_alone(data: bytes) -> int | None:
    try:
        verify_alone.verify(data)
    except verify_alone.NotVerified as error:
        return error.step
    return None


# -- bundles changed at random, and signed anew --

CHANGED = 4000 if LONG else 150


def test_both_say_the_same_of_what_anybody_with_all_keys_writes() -> None:
    """Entries are dropped, doubled, moved and mixed; trees, states and cosignatures are made anew,
    and in every second bundle whatever is signed within entries, too."""
    chance = random.Random(20)
    seen: set[int | None] = set()
    for number in range(CHANGED):
        script, honest = forging.settled(chance.choice(sorted({*positives.POSITIVES} - {"wide"})))
        world = (script if number % 2 else honest).copy()
        for _ in range(chance.choice((1, 1, 2, 3))):
            changed_at_random(world, chance)
        try:
            data = (world.settle() if number % 2 else world).bundle()
        except (LookupError, TypeError, ValueError, AttributeError):
            continue  # nobody can sign that
        step = _verdict(data)
        seen.add(step)
        assert _verdict_alone(data) == step, number
        if step is None:
            told = json.loads(json.dumps(asdict(verify.verify_data(data))))
            del told["steps"]
            same(verify_alone.verify(data), told)
    assert seen >= {None, 2, 3, 6, 8, 9}


def changed_at_random(world: World, chance: random.Random) -> None:
    book, other = chance.choice(world.books), chance.choice(world.books)
    line, taken = chance.choice(book.lines), copy.deepcopy(chance.choice(other.lines))
    way = chance.randrange(6)
    if way == 0 and len(book.lines) > 1:
        book.drop(line)
    elif way == 1:
        book.put(chance.randrange(len(book.lines) + 1), taken)
        for one, time_ms in zip(book.lines, sorted(o.time_ms for o in book.lines), strict=True):
            one.time_ms = time_ms
    elif way == 2 and len(world.nodes) > 1:
        del world.nodes[chance.choice(list(world.nodes))]
    elif way == 3:
        holder, key = chance.choice(list(_places(line.body)))
        holder[key] = chance.choice((None, 0, 1, 29, "x", "run-1", "loans", {}, [], "00" * 32))
    else:
        alike = [one for each in world.books for one in each.lines if one.kind == line.kind]
        name = chance.choice(list(line.body))
        line.body[name] = copy.deepcopy(chance.choice(alike).body[name])


# -- one file, and nothing beside it --


def test_the_second_verifier_imports_the_standard_library_alone() -> None:
    tree = ast.parse(ALONE.read_bytes())
    optional = [node for node in tree.body if isinstance(node, ast.Try)]
    inside = {id(one) for node in optional for one in ast.walk(node)}
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).split(".")[0])
    assert names <= sys.stdlib_module_names
    imported = [one for node in optional for one in ast.walk(node) if hasattr(one, "module")]
    assert [one.module.split(".")[0] for one in imported] == ["cryptography"]


def alone(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a copy of the file in a folder of its own, without any installed package."""
    copy = folder / "verify_alone.py"
    copy.write_bytes(ALONE.read_bytes())
    words = [str(one) for one in arguments]
    return subprocess.run(
        [sys.executable, "-I", "-S", str(copy), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={},
    )


def test_it_runs_alone_and_says_what_it_found(tmp_path: Path) -> None:
    bundle = tmp_path / "full.bundle"
    bundle.write_bytes(BUNDLES["full.bundle"])
    done = alone(tmp_path, bundle)
    assert (done.returncode, done.stderr) == (0, "")
    for number, name in verify.STEPS.items():
        assert f"{number:>2} {name}" in done.stdout
    asked = alone(tmp_path, bundle, "--json", "--slow")
    found = json.loads(asked.stdout)
    assert found["verified"] is True
    expected = next(one["expect"] for one in POSITIVES if one["name"] == "full")
    same(found, expected)


def test_it_runs_alone_with_a_policy_and_heads(tmp_path: Path) -> None:
    vector = next(one for one in POSITIVES if one["name"] == "full_remembered")
    bundle, policy = tmp_path / "full.bundle", tmp_path / "policy"
    bundle.write_bytes(BUNDLES["full.bundle"])
    policy.write_text(next(one for one in POSITIVES if "policy" in one)["policy"])
    heads = [f"--head={origin}:{leaves}:{root}" for origin, leaves, root in vector["heads"]]
    assert alone(tmp_path, bundle, "--policy", policy, *heads).returncode == 0
    wrong = heads[0][:-1] + ("0" if heads[0][-1] != "0" else "1")
    done = alone(tmp_path, bundle, wrong, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["step"] == 7


# -- what it says, in this process --


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Its exit code, and what it wrote to both sides."""
    code: int | str | None
    try:
        code = verify_alone.main([str(one) for one in arguments])
    except SystemExit as stop:  # of argparse
        code = stop.code
    assert isinstance(code, int)
    return code, *capsys.readouterr()


FULL = """\
 1 form            5 ledgers, whole as they were exported
 2 entries         100 entries, all of known kinds
 3 order           nothing out of place and nothing twice
 4 tree            7 signed states have the roots of these entries
 5 signed states   each is signed by its ledger's key, and the newest are about all entries
 6 runs            1 runs keep the protocol; 60 signatures hold
 7 witnesses       the witnesses that are needed cosigned; 9 cosigned the newest state; \
0 remembered states found
 8 nodes' ledgers  4 nodes' own ledgers; none reserved more than its caps
 9 both sides      20 releases are the same on both sides
10 privacy         2 totals computed again from 5 receipts

It holds: 29 entries, 1 runs, 2 rounds, 5 releases, of which 5 were opened.
root {root}
launchers: {launcher}
leases, borrower, test: epsilon 0.1222 against the coordinator with 1 others, 0.1777 against all \
others, delta 1e-05; 1 releases of amber-bank
leases, borrower, training: epsilon 0.5410 against the coordinator with 1 others, 1.1668 against \
all others, delta 1e-05; 4 releases of amber-bank
"""


def test_what_it_says_of_a_bundle_is_all_that_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    expected = next(one["expect"] for one in POSITIVES if one["name"] == "full")
    said = FULL.format(root=expected["root"], launcher=expected["launchers"][0])
    bundle = VECTORS / make.FOLDER / "full.bundle"
    assert told(capsys, bundle) == (0, said, "")
    code, json_said, nothing = told(capsys, bundle, "--json")
    assert (code, nothing, json_said.count("\n")) == (0, "", 1)
    found = json.loads(json_said)
    assert json_said == json.dumps(found, sort_keys=True) + "\n"
    same(found, expected)
    assert found["verified"] is True
    steps = [line[19:] for line in said.split("\n")[:10]]
    assert found["steps"] == steps


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("set_back", "\nset back: amber-bank\n"),
        ("elsewhere", "\namber-bank: 4 releases are on record elsewhere\n"),
        ("two_data_sets", "\namber-bank: its clock was off by up to 90"),
        ("wide", "\nmissing: member-00, member-01"),
        ("unfinished", "\nunfinished: run-1\n"),
        ("federated", "\nfounder: "),
        ("plain", "epsilon no bound against the coordinator"),
        ("node_alone", "\nroot (none, as the coordinator is not in it)\n"),
    ],
)
def test_it_says_what_an_auditor_must_ask_about(
    name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Findings that are no errors stand in the text as well."""
    path = VECTORS / make.FOLDER
    code, text, nothing = told(capsys, path / f"{name}.bundle")
    assert (code, said in text, nothing) == (0, True, "")
    code, text, nothing = told(capsys, path / "empty.bundle")
    assert (code, said in text, nothing) == (0, False, "")


def test_it_asks_for_what_was_given_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the policy, each state, and whether to use its own Ed25519."""
    asked: list[tuple[object, ...]] = []
    (tmp_path / "b").write_bytes(b"bundle")
    (tmp_path / "p").write_text("# \u00fc", encoding="utf-8")

    def verify(data: bytes, policy: str | None, heads: object, *, slow: bool) -> dict[str, Any]:
        asked.append((data, policy, heads, slow))
        raise verify_alone.NotVerified(7, "as told")

    monkeypatch.setattr(verify_alone, "verify", verify)
    root = "0" * 64
    everything = ("--policy", tmp_path / "p", "--head", f"a:b:1:{root}", f"--head=c:2:{root}")
    assert told(capsys, tmp_path / "b", *everything, "--slow") == (
        *(1, "It does not hold. step 7 (witnesses): as told\n", ""),
    )
    assert told(capsys, tmp_path / "b", "--json") == (
        *(1, '{"message": "as told", "step": 7, "verified": false}\n', ""),
    )
    assert asked == [
        (b"bundle", "# \u00fc", [("a:b", 1, root), ("c", 2, root)], True),
        (b"bundle", None, [], False),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "cannot be read: [Errno 2] No such file or directory: 'missing'\n"),
        (["b", "--policy", "missing"], "cannot be read: [Errno 2]"),
        (["b", "--policy", "latin"], "cannot be read: 'utf-8' codec"),
        ([], "the following arguments are required: bundle"),
        (["b", "--head", "x"], "argument --head: a head is ORIGIN:LEAVES:ROOT\n"),
        (["b", "--head", f":1:{'0' * 64}"], "a head is"),
        (["b", "--head", f"1:{'0' * 64}"], "a head is"),
        (["b", "--head", f"a:-1:{'0' * 64}"], "a head is"),
        (["b", "--head", f"a:1:{'0' * 63}"], "a head is"),
        (["b", "--policy", "p"], "quorum"),
        (["b", "c"], "unrecognized arguments: c"),
    ],
)
def test_wrong_usage_is_told_from_a_bundle_that_does_not_hold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    (tmp_path / "b").write_bytes(SMALL)
    (tmp_path / "p").write_text("quorum nobody\nquorum none\n")
    (tmp_path / "latin").write_bytes(b"# \xfc\n")
    monkeypatch.chdir(tmp_path)
    code, nothing, text = told(capsys, *arguments)
    assert (code, nothing) == (2, "")
    assert said in text


def test_what_it_prints_cannot_command_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "hostile"
    lines = BUNDLES["empty.bundle"].split(b"\n")[:-2]
    line = lines[1].replace(b'"owner":"coordinator"', b'"owner":"\\u001b[31m"')
    bundle.write_bytes(sealed([lines[0], line, *lines[2:]]))
    code, text, nothing = told(capsys, bundle)
    assert (code, "?[31m" in text, "\x1b" in text, nothing) == (1, True, False, "")
    # what a terminal cannot show is told as a number
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    verify_alone._say("\u00fc", to=narrow)
    narrow.seek(0)
    assert narrow.read() == "\\xfc\n"
    verify_alone._say("\u00fc", to=io.StringIO())


# -- its own Ed25519 --

# RFC 8032, section 7.1, tests 1, 2, 3 and SHA(abc): public key, message, signature.
RFC_8032 = """
d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a

e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b

3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c
72
92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00

fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025
af82
6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a

ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf
ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f
dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589
09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704
"""
PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493


def library(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def published() -> list[tuple[bytes, bytes, bytes]]:
    rows = [bytes.fromhex(line) for line in RFC_8032.strip("\n").split("\n")]
    # the first message is empty, and so is the line between two vectors
    return [(rows[n], rows[n + 1], rows[n + 2] + rows[n + 3]) for n in range(0, len(rows), 5)]


@pytest.mark.parametrize(("key", "said", "signed"), published())
def test_ed25519_holds_for_the_published_vectors(key: bytes, said: bytes, signed: bytes) -> None:
    assert verify_alone.ed25519_holds(key, said, signed)
    for bit in (0, 100, 255, 256, 400, 511):
        assert not verify_alone.ed25519_holds(key, said, flipped(signed, bit))
    assert not verify_alone.ed25519_holds(key, said + b"x", signed)
    s = int.from_bytes(signed[32:], "little") + ORDER
    assert not verify_alone.ed25519_holds(key, said, signed[:32] + s.to_bytes(32, "little"))
    assert not verify_alone.ed25519_holds(key, said, signed[:-1])
    assert not verify_alone.ed25519_holds(key[:-1], said, signed)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_ed25519_is_the_librarys(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), private.sign(message)
    assert verify_alone.ed25519_holds(public, message, signature)
    wrong = flipped(signature, bit)
    assert verify_alone.ed25519_holds(public, message, wrong) == library(public, message, wrong)


def test_ed25519_takes_odd_keys_as_the_library_does() -> None:
    """Keys of small order, and keys that are not reduced: nobody has them, and both must agree."""
    ys = [*range(8), *range(PRIME - 2, PRIME + 4), 2**255 - 1]
    odd = [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]
    count = 0
    for public in odd:
        for r in odd[:4] + odd[16:24]:
            for s in (0, 1, ORDER):
                signature = r + s.to_bytes(32, "little")
                expected = library(public, b"message", signature)
                assert verify_alone.ed25519_holds(public, b"message", signature) == expected
                count += expected
    assert count > 0


# -- the same table of kinds, in two hands --


def test_both_know_the_same_kinds() -> None:
    assert set(verify_alone.KINDS) == set(entry.KINDS)
    for name, kind in entry.KINDS.items():
        other = verify_alone.KINDS[name]
        assert set(other.fields) == set(kind.fields)
        assert other.place == kind.owner
        repeated = kind.key == ("no key",)
        assert other.key == (None if repeated else kind.key)


def test_the_document_has_the_same_table() -> None:
    """docs/bundle.md names each kind, whose it is, what names the act, and each field's type."""
    text = (ALONE.parents[1] / "docs" / "bundle.md").read_text(encoding="utf-8")
    rows = {
        cells[0].strip(" `"): [cell.strip() for cell in cells[1:]]
        for cells in (line.strip("|").split("|") for line in text.split("\n") if line[:3] == "| `")
        if "." in cells[0] and len(cells) == 4
    }
    assert sorted(rows) == sorted(verify_alone.KINDS)
    for name, kind in verify_alone.KINDS.items():
        place, key, fields = rows[name]
        assert place == kind.place
        assert key == ("may repeat" if kind.key is None else ", ".join(kind.key) or "once")
        assert fields == ", ".join(f"{field}: {form}" for field, form in kind.fields.items())
    named_types = {form for kind in verify_alone.KINDS.values() for form in kind.fields.values()}
    assert all(f"| `{form}` |" in text for form in named_types)


VALUES: tuple[object, ...] = (
    None, True, False, 0, 1, -1, 2**53 - 1, 2**53, 0.0, -0.0, 0.5, 1e400, "", "x", "x" * 512,
    "x" * 513, "é", "a\nb", "\u200b", "00" * 32, "0F" * 32, "00" * 64, "masked", "update",
    "coordinator", [], ["x"], ["x", "x"], [1], {}, {"x": "00" * 32}, {"x": "00" * 64},
    {"L1": 3}, {"L9": 3}, {"x": {"leaves": 1, "root": "00" * 32}}, {"x": {"leaves": 1}}, {"": "x"},
    {"x": {"leaves": 1, "root": "00" * 32, "signature": "00" * 64}},
    {"x": {"leaves": 1, "root": "00" * 32, "signature": "00" * 32}},
    {"x": {"leaves": 1, "root": "00" * 32, "signature": None}},
)  # fmt: skip


def test_both_take_the_same_values_for_each_field() -> None:
    for name, kind in entry.KINDS.items():
        for field, check in kind.fields.items():
            other = verify_alone.TYPES[verify_alone.KINDS[name].fields[field]]
            for value in VALUES:
                assert bool(other(value)) == check(value), (name, field, value)


@given(
    st.fixed_dictionaries(
        {
            "format": st.sampled_from([1, 1, 1, 2, True]),
            "kind": st.sampled_from(["statistics", "update", "evaluation", "model", []]),
            "unit": st.sampled_from(["borrower", "", "x" * 64, "x" * 65]),
            "cohort": st.sampled_from(["training", "test", "all", "none"]),
            "mechanism": st.sampled_from(["none", "gaussian", "discrete_gaussian"]),
            "share": st.sampled_from([0.0, 1.0, 1, 1e-16, 1e16]),
            "clip": st.sampled_from([0.0, 1.0]),
            "sampling": st.sampled_from(["none", "poisson"]),
            "rate": st.sampled_from([1.0, 0.5, 0.0, 1.5]),
            "steps": st.sampled_from([1, 0, 2**53]),
            "shares": st.sampled_from([1, 3]),
            "values": st.sampled_from([1, 3]),
            "grid": st.sampled_from([0.0, 0.5]),
            "purpose": st.sampled_from(["x", "x" * 512, "x" * 513]),
        }
    )
)
def test_both_take_the_same_receipts(receipt: dict[str, object]) -> None:
    check = entry.KINDS["budget.reserved"].fields["receipt"]
    assert verify_alone.TYPES["receipt"](receipt) == check(receipt)


def test_every_positive_has_a_script() -> None:
    assert {f"{name}.bundle" for name in positives.POSITIVES} == set(BUNDLES)
