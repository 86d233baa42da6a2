"""Thresholds and gate in a contract: what they may say, and that silence changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.machines import column, contract

from clients.contract import DataContract, load_contract
from clients.frozen import parse_settings
from privacy.errors import InputError

CONTRACTS = Path(__file__).parents[3] / "configs" / "contracts"
# as they were before there were thresholds, and before they said which inputs are declared
DIGESTS = {
    "ai4i.yaml": "9abf9ab5295340a5d83328190169757fc857285a239f3addcc228e8c2bc6e7d7",
    "cmapss.yaml": "70841b9ffa2f3b6abbf6ae5dd2d2a71de90b5aed4950f1c04ee432bb3ebd71c7",
    "fremtpl2.yaml": "511fadca0c8b32cd61eedc6a50c444f5bda68ace4f9ff5d4d99f4b1d562814d6",
    "uci_credit.yaml": "e7a67274be102b5883d8be28687cde0d11bf2a57cd56fd771f3b60d4d5c542ba",
    "uci_credit_fate.yaml": "dbc2f63fa6b2f36097a28d5a454f9215013e6b3c1640564ea2f64f4b16fdb29f",
}


def build(value: dict[str, Any]) -> DataContract:
    return parse_settings(DataContract, value, "x.yaml")


def changed(name: str, **keys: Any) -> dict[str, Any]:  # noqa: ANN401 - any key of a column
    value = contract()
    for one in value["columns"]:
        if one["name"] == name:
            one.update(keys)
    return value


def gated(more: tuple[dict[str, Any], ...] = (), **gate: Any) -> dict[str, Any]:  # noqa: ANN401
    value = contract(gate=gate)
    value["columns"] += more
    return value


@pytest.mark.parametrize("name", DIGESTS)
def test_shipped_contracts_have_no_gate_and_the_digest_that_they_had(name: str) -> None:
    assert not load_contract(CONTRACTS / name).is_gated
    said = yaml.safe_load((CONTRACTS / name).read_text(encoding="utf-8"))
    said.pop("accepts", None)
    for one in said["columns"]:
        one.pop("declared", None)
    assert build(said).digest == DIGESTS[name]


def test_thresholds_and_gate_are_part_of_what_members_agree_on() -> None:
    plain = changed("heat", threshold=None)
    digests = {
        build(value).digest
        for value in (
            plain,
            contract(),
            changed("heat", threshold=[20, 91]),
            gated(longest_gap=5),
            gated(longest_gap=6),
        )
    }
    assert len(digests) == 5
    assert not build(plain).is_gated
    assert build(contract()).is_gated
    assert [one.name for one in build(contract()).watched] == ["heat"]
    assert build({**plain, "gate": {"longest_gap": 5}}).is_gated


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (changed("heat", threshold=[20, 121]), "within the range"),
        (changed("heat", threshold=[90, 20]), "low before high"),
        (changed("hour", threshold=[0, 9]), "a threshold is for numbers"),
        (changed("machine", threshold=[0, 9]), "a threshold is for numbers"),
        (gated(), "says nothing"),
        (gated(drift=0.1), "drift needs interval"),
        (gated(may_rest=["heat"]), "may_rest belongs to stuck_after"),
        (gated(stuck_after=5, may_rest=["hour"]), "hour is no sensor"),
        (gated(clock_off=1), "received and clock_off belong together"),
        (gated(received="shake", clock_off=1), "give column shake the role gate"),
        (gated(restarts="nowhere"), "no column nowhere"),
        (gated(stuck_after=1), "gate.stuck_after"),
        (gated(least_trust=101, interval=1), "gate.least_trust"),
        (gated(least_trust=50), "least_trust needs interval"),
        (gated(weigh_by_trust=True), "weigh_by_trust needs interval"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(value: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as found:
        build(value)
    assert words in str(found.value)


def test_a_threshold_needs_devices_and_time() -> None:
    value = contract(
        columns=[
            {"name": "who", "type": "text", "role": "id", "class": "L3"},
            {
                "name": "income",
                "type": "number",
                "class": "L3",
                "range": [0, 9],
                "threshold": [1, 8],
            },
            {"name": "late", "type": "integer", "role": "label", "class": "L3"},
        ],
        members=None,
        label={"kind": "binary", "column": "late"},
    )
    with pytest.raises(InputError, match="a column of role id and one of role time"):
        build(value)


def test_what_the_gate_reads_is_no_input_of_a_model() -> None:
    found = build(gated((column("boots"),), restarts="boots"))
    assert "boots" not in [one.name for one in found.inputs]
