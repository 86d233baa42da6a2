import json
from dataclasses import fields, replace

import pytest

from privacy.canonical import canonical_json
from privacy.errors import ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.ledger.note import ED25519, VerifierKey
from privacy.manifest import PROTECTIONS, SIGNING_DOMAIN, Manifest
from privacy.plan import PrivacyPlan
from privacy.randomness import system_bytes
from privacy.secure_sum.schemes import SCHEMES

MANIFEST = Manifest(
    run="20260102-demo-1a2b",
    name="demo",
    task="credit",
    unit="borrower",
    contract="c" * 64,
    directory={"mill": "02" * 32, "bank": "01" * 32, "Île": "03" * 32},
    minimum_cohort=3,
    protection="masked",
    privacy=None,
    group_size=4,
    ledger={"origin": "tacit/coordinator/0f0f", "key": "0f" * 32},
    node_settings={"seed": 1, "training": {"rate": 0.5, "layers": [8, 4]}, "fold": None},
    coordinator_settings={"rounds": 5, "watch": True},
)
DATA = MANIFEST.to_bytes()
SEEN = {"origin": "log", "key": "0f" * 32, "acts": "12", "membership": "0e" * 32}
PLAN = PrivacyPlan(
    noise="distributed",
    mechanism="gaussian",
    unit="borrower",
    parts="apart",
    rate=0.05,
    rows_per_unit=4,
    clip=1.0,
    steps=1,
    watches=0,
    update_share=0.5,
    statistics_share=2.0,
    statistics_clip=3.0,
    watch_share=1.0,
    test_share=1.0,
    evaluation_clip=1.5,
    colluders=1,
    delta=1e-5,
    grid=2.0**-13,
)


def body() -> dict[str, object]:
    parsed: dict[str, object] = json.loads(DATA)
    return parsed


def test_a_manifest_comes_back_as_it_was() -> None:
    again = Manifest.from_bytes(DATA)
    assert again == MANIFEST
    assert again.to_bytes() == DATA
    assert again.digest() == MANIFEST.digest()
    assert MANIFEST.members == ("bank", "mill", "Île")


def test_it_may_say_which_acts_of_membership_its_launcher_saw() -> None:
    assert (MANIFEST.acts, MANIFEST.membership) == (0, "")
    assert b"membership" not in DATA
    seen = replace(MANIFEST, ledger=SEEN)
    again = Manifest.from_bytes(seen.to_bytes())
    assert (again.acts, again.membership) == (12, "0e" * 32)
    assert again.log_facts == {"origin": "log", "key": "0f" * 32}
    assert again.log == replace(MANIFEST, ledger=dict(again.log_facts)).log


def test_the_order_in_which_it_was_written_does_not_matter() -> None:
    shuffled = replace(
        MANIFEST,
        directory=dict(sorted(MANIFEST.directory.items(), reverse=True)),
        node_settings=dict(sorted(MANIFEST.node_settings.items())),
    )
    assert shuffled.to_bytes() == DATA


def test_every_field_is_bound_by_the_digest() -> None:
    changes: dict[str, object] = {
        "run": "r",
        "name": "n",
        "task": "claims",
        "unit": "device",
        "contract": "d" * 64,
        "directory": {"bank": "01" * 32},
        "minimum_cohort": 2,
        "protection": "clear",
        "group_size": 0,
        "privacy": PLAN.to_json(),
        "ledger": {"origin": "tacit/coordinator/0f0f", "key": "0e" * 32},
        "node_settings": {},
        "coordinator_settings": {},
        "suite": "gm",
    }
    assert set(changes) == {field.name for field in fields(Manifest)}
    digests = {
        Manifest.from_bytes(canonical_json({**body(), name: value})).digest()
        for name, value in changes.items()
    }
    assert len({MANIFEST.digest(), *digests}) == len(changes) + 1
    renamed = {"origin": "tacit/coordinator/0e0e", "key": "0f" * 32}
    assert MANIFEST.digest() != replace(MANIFEST, ledger=renamed).digest()
    assert MANIFEST.digest() != replace(MANIFEST, name=MANIFEST.task, task=MANIFEST.name).digest()


def test_a_signature_is_over_exactly_these_bytes() -> None:
    launcher = Identity.create(system_bytes)
    signature = launcher.sign(SIGNING_DOMAIN, DATA)
    verify_signature(launcher.public, SIGNING_DOMAIN, DATA, signature)
    weaker = replace(MANIFEST, minimum_cohort=2).to_bytes()
    with pytest.raises(ProtocolError):
        verify_signature(launcher.public, SIGNING_DOMAIN, weaker, signature)
    with pytest.raises(ProtocolError):
        verify_signature(launcher.public, "key-offer", DATA, signature)


@pytest.mark.parametrize(
    "name", ["format", *(field.name for field in fields(Manifest) if field.name != "suite")]
)
def test_a_missing_field_is_refused(name: str) -> None:
    rest = {key: value for key, value in body().items() if key != name}
    with pytest.raises(ProtocolError, match=name):
        Manifest.from_bytes(canonical_json(rest))


@pytest.mark.parametrize("name", ["more", "Run", "__class__", ""])
def test_an_unknown_field_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match=f"unknown keys: {name}"):
        Manifest.from_bytes(canonical_json({**body(), name: 1}))


WRONG: tuple[object, ...] = (None, True, 1, 1.5, "text", [], ["a"], {}, {"a": 1}, {"a": None})


def _wrong_values() -> list[tuple[str, object]]:
    return [
        (name, wrong)
        for name, value in body().items()
        for wrong in WRONG
        if type(wrong) is not type(value) and wrong != value
    ]


@pytest.mark.parametrize(("name", "wrong"), _wrong_values())
def test_a_value_of_another_type_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ProtocolError, match=r"wrong type|format|privacy plan"):
        Manifest.from_bytes(canonical_json({**body(), name: wrong}))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"format": 1},  # without groups, and without the schemes of today
        {"format": 2},  # without noise
        {"format": 3},  # without a ledger
        {"format": 5},
        {"format": 4.0},
        {"minimum_cohort": 0},
        {"minimum_cohort": -1},
        {"group_size": -1},
        {"protection": "bfv"},
        {"protection": "none"},
        {"protection": "Masked"},
        {"protection": ""},
        {"directory": {"bank": None}},
        {"directory": {"bank": 1}},
        {"ledger": {}},
        {"ledger": {"origin": "log"}},
        {"ledger": {"key": "0f" * 32}},
        {"ledger": {"origin": "log", "key": "0f" * 32, "more": "1"}},
        {"ledger": {**SEEN, "more": "1"}},
        {"ledger": {name: SEEN[name] for name in ("origin", "key", "acts")}},
        {"ledger": {name: SEEN[name] for name in ("origin", "key", "membership")}},
        *({"ledger": {**SEEN, "acts": acts}} for acts in ("0", "", "01", "+1", "1.0", "x", 1, "²")),
        {"ledger": {**SEEN, "acts": "1" * 16}},
        {"ledger": {**SEEN, "membership": "0E" * 32}},
        {"ledger": {**SEEN, "membership": "0e" * 31}},
        {"ledger": {**SEEN, "membership": None}},
        {"ledger": {"origin": "", "key": "0f" * 32}},
        {"ledger": {"origin": "two words", "key": "0f" * 32}},
        {"ledger": {"origin": "a+b", "key": "0f" * 32}},
        {"ledger": {"origin": "a\nb", "key": "0f" * 32}},
        {"ledger": {"origin": 1, "key": "0f" * 32}},
        {"ledger": {"origin": "log", "key": "0F" * 32}},
        {"ledger": {"origin": "log", "key": "0f" * 31}},
        {"ledger": {"origin": "log", "key": "0f" * 33}},
        {"ledger": {"origin": "log", "key": "g" * 64}},
        {"ledger": {"origin": "log", "key": 15}},
        {"ledger": {"origin": "log", "key": None}},
    ],
)
def test_a_value_outside_its_table_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        Manifest.from_bytes(canonical_json({**body(), **change}))


def test_every_scheme_can_be_agreed_on_and_no_other() -> None:
    assert set(PROTECTIONS) == set(SCHEMES)
    for name in PROTECTIONS:
        data = canonical_json({**body(), "protection": name})
        assert Manifest.from_bytes(data).protection == name


def test_the_log_is_the_one_key_that_signs_under_its_name() -> None:
    assert MANIFEST.log == VerifierKey("tacit/coordinator/0f0f", ED25519, b"\x0f" * 32)


@pytest.mark.parametrize("group_size", [0, 1, 12])
def test_a_group_size_is_kept(group_size: int) -> None:
    data = canonical_json({**body(), "group_size": group_size})
    assert Manifest.from_bytes(data).group_size == group_size


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"1", b"null", b'"manifest"', b"\xff", b"{"])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Manifest.from_bytes(data)


def test_every_cut_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(ProtocolError):
            Manifest.from_bytes(DATA[:length])
    for more in (b" ", b"\n", b"\0", DATA):
        with pytest.raises(ProtocolError):
            Manifest.from_bytes(DATA + more)


def test_every_flipped_bit_is_refused_or_makes_another_run() -> None:
    refused = 0
    for bit in range(8 * len(DATA)):
        changed = bytearray(DATA)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            other = Manifest.from_bytes(bytes(changed))
        except ProtocolError:
            refused += 1
            continue
        assert other.to_bytes() == changed
        assert other.digest() != MANIFEST.digest()
    assert refused > len(DATA)


def test_keys_of_the_directory_are_read() -> None:
    assert MANIFEST.directory_keys()["mill"] == b"\x02" * 32


@pytest.mark.parametrize("key", ["", "01" * 31, "01" * 33, "0" * 63, "g" * 64, "é" * 64])
def test_a_key_that_is_none_is_refused_with_its_member(key: str) -> None:
    with pytest.raises(ProtocolError, match="bank"):
        replace(MANIFEST, directory={"bank": key}).directory_keys()


def test_a_privacy_plan_comes_back_as_it_was() -> None:
    manifest = replace(MANIFEST, privacy=PLAN)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("noise", "none"),
        ("mechanism", "none"),
        ("mechanism", "laplace"),
        ("unit", ""),
        ("unit", 1),
        ("parts", "some"),
        ("rate", 0.0),
        ("rate", 1.5),
        ("rate", True),
        ("rows_per_unit", 0),
        ("clip", 0.0),
        ("clip", -1.0),
        ("clip", "1"),
        ("steps", 2),  # several steps hide nothing where shares are summed once
        ("watches", -1),
        ("update_share", 0.0),
        ("update_share", 1e9),
        ("statistics_share", 0.0),
        ("statistics_clip", 0.0),
        ("watch_share", 0.0),
        ("test_share", 0.0),
        ("evaluation_clip", 0.0),
        ("colluders", -1),
        ("colluders", 1.0),
        ("delta", 0.0),
        ("delta", 1.0),
        ("delta", 1),
        ("grid", 0.3),
    ],
)
def test_a_privacy_plan_outside_its_ranges_is_refused(key: str, value: object) -> None:
    changed = {**PLAN.to_json(), key: value}
    with pytest.raises(ProtocolError):
        Manifest.from_bytes(canonical_json({**body(), "privacy": changed}))


def test_a_plan_for_organisations_samples_none_and_a_discrete_one_has_clean_grids() -> None:
    for changes in (
        {"unit": "organisation"},
        {"mechanism": "discrete_gaussian"},
        {"mechanism": "discrete_gaussian", "noise": "local"},
    ):
        with pytest.raises(ProtocolError):
            PrivacyPlan.from_json({**PLAN.to_json(), **changes})
    PrivacyPlan.from_json({**PLAN.to_json(), "unit": "organisation", "rate": 1.0})
    clean = {"mechanism": "discrete_gaussian", "statistics_clip": 4.0, "evaluation_clip": 2.0}
    PrivacyPlan.from_json({**PLAN.to_json(), **clean})
