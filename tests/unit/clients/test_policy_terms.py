"""What a node's terms refuse: protection by class of data, noise; and what they leave as it was."""

from typing import Any

import pytest
import yaml
from support.asked import PLAN, asked

from clients.contract import DataContract
from clients.frozen import parse_settings, parse_yaml
from clients.policy import NodePolicy, check_manifest, highest_class, refusals
from privacy.errors import InputError, RefusedError


def contract(*classes: str) -> DataContract:
    columns: list[dict[str, Any]] = [
        {"name": "label", "type": "integer", "role": "label", "class": "L1"}
    ]
    columns += [
        {"name": f"c{place}", "type": "number", "class": one, "range": [0, 1]}
        for place, one in enumerate(classes)
    ]
    value: dict[str, Any] = {
        "contract": 1,
        "name": "loans",
        "title": "Loans",
        "unit": "borrower",
        "sources": [{"path": "loans.csv"}],
        "columns": columns,
        "label": {"kind": "binary", "column": "label", "positive": 1},
        "split": {"kind": "uniform", "seed": 1, "test_share": 0.2},
    }
    return parse_settings(DataContract, value, "contract")


def policy(text: str = "{}") -> NodePolicy:
    return parse_yaml(NodePolicy, text, "policy.yaml")


def told(terms: NodePolicy, kept: DataContract, **other: object) -> str:
    return " ".join(refusals(asked(contract=kept.digest, **other), terms, kept))


def test_the_usual_terms_take_what_they_took() -> None:
    kept = contract("L3")
    assert told(policy(), kept) == ""
    assert told(policy(), kept, protection="sealed") == ""
    assert "'clear' sums of data above class L1" in told(policy(), kept, protection="clear")
    assert "'ckks' sums of data above class L1" in told(policy(), kept, protection="ckks")
    assert told(policy(), contract("L1"), protection="clear") == ""
    assert told(policy("sums: [masked, ckks]"), kept, protection="ckks") == ""


def test_the_highest_class_of_any_column_counts() -> None:
    assert highest_class(contract("L1", "L4", "L2")) == "L4"
    assert highest_class(contract("L2")) == "L2"
    assert highest_class(contract("L1", "L1")) == "L1"


@pytest.mark.parametrize(
    ("floors", "classes", "protection", "refused"),
    [
        ("{L3: sealed}", ("L3",), "masked", True),
        ("{L3: sealed}", ("L3",), "sealed", False),
        ("{L3: sealed}", ("L2",), "masked", False),
        # what protects a class protects the classes above it
        ("{L2: sealed}", ("L4",), "masked", True),
        ("{L2: sealed, L4: masked}", ("L4",), "masked", True),
        ("{L1: masked}", ("L1",), "clear", True),
        ("{L1: clear}", ("L1",), "clear", False),
        ("{L4: sealed}", ("L3",), "masked", False),
    ],
)
def test_a_floor_holds_for_its_class_and_those_above(
    floors: str, classes: tuple[str, ...], protection: str, refused: bool
) -> None:
    text = told(policy(f"minimum_protection: {floors}"), contract(*classes), protection=protection)
    assert ("this node's policy wants at least" in text) is refused


def test_a_floor_does_not_let_in_what_the_sums_leave_out() -> None:
    text = told(policy("minimum_protection: {L3: clear}"), contract("L3"), protection="clear")
    assert "this node's policy allows masked, sealed" in text


@pytest.mark.parametrize(
    ("bound", "classes", "refused"),
    [("L3", ("L3",), True), ("L3", ("L4",), True), ("L3", ("L2",), False), ("L1", ("L1",), True)],
)
def test_noise_is_asked_for_from_a_class_on(
    bound: str, classes: tuple[str, ...], refused: bool
) -> None:
    terms = policy(f"minimum_protection: {{noise_from: {bound}}}")
    without = told(terms, contract(*classes))
    assert (f"wants noise from class {bound} on: add a privacy section." in without) is refused
    assert "adds no noise" not in told(terms, contract(*classes), privacy=PLAN)


def test_check_manifest_raises_the_first_reason() -> None:
    kept = contract("L3")
    with pytest.raises(RefusedError, match="wants at least 'sealed' for it"):
        check_manifest(
            asked(contract=kept.digest), policy("minimum_protection: {L3: sealed}"), kept
        )
    check_manifest(asked(contract=kept.digest), policy(), kept)


@pytest.mark.parametrize(
    ("text", "task", "initiator", "who"),
    [
        ("decide: by_hand", "credit", "b", "by_hand"),
        ("decide: automatic", "credit", "b", "automatic"),
        ("{}", "credit", "b", "automatic"),
        ("decide: {tasks: {credit: by_hand}}", "credit", "b", "by_hand"),
        ("decide: {tasks: {credit: by_hand}}", "claims", "b", "automatic"),
        ("decide: {otherwise: by_hand, initiators: {b: automatic}}", "credit", "b", "automatic"),
        ("decide: {otherwise: by_hand, initiators: {b: automatic}}", "credit", "c", "by_hand"),
        # where two say otherwise, a person decides
        (
            "decide: {tasks: {credit: by_hand}, initiators: {b: automatic}}",
            "credit",
            "b",
            "by_hand",
        ),
        (
            "decide: {tasks: {credit: automatic}, initiators: {b: by_hand}}",
            "credit",
            "b",
            "by_hand",
        ),
    ],
)
def test_who_decides(text: str, task: str, initiator: str, who: str) -> None:
    assert policy(text).decide.of(task=task, initiator=initiator) == who


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("decide: perhaps", "decide: expected automatic or by_hand."),
        ("decide: {tasks: {cake: by_hand}}", "decide.tasks.cake: expected failure, claims or"),
        ("initiators: {roles: [manufacturer]}", "initiators.roles[0]: expected bank or insurer."),
        ("minimum_protection: {L3: strong}", "minimum_protection.L3: expected masked, sealed"),
        ("resources: {runs: -1}", "resources.runs: should be greater than or equal to 0."),
        ("resources: {memory: 3}", "unknown key memory; did you mean memory_mib?"),
        ("countersigns: 'yes'", "countersigns: expected true or false."),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as fault:
        policy(text)
    assert sentence in str(fault.value)


def test_every_key_is_in_the_documentation(pytestconfig: pytest.Config) -> None:
    page = (pytestconfig.rootpath / "docs" / "node-policy.md").read_text("utf-8")
    for name, field in NodePolicy.model_fields.items():
        assert f"`{name}" in page, name
        inner = getattr(field.annotation, "model_fields", {})
        for key, one in inner.items():
            assert f"{one.alias or key}" in page, key
    examples = page.split("```yaml")[1:]
    assert examples
    for example in examples:
        text = example.split("```")[0]
        assert isinstance(yaml.safe_load(text), dict)
        policy(text)
