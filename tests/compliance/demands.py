"""What the field demands, where the code holds it, how it is taken out, and what fails then.

`docs/compliance.md` is this table for people. `tests.compliance.without` carries it out: it takes
one enforcement out of a copy of the code, runs the named test there, and wants it to fail.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cut:
    """An enforcement, and the code without it.

    Attributes:
        file: From the project's root.
        holds: The text that holds the demand; it stands there once.
        without: What stands there instead.
    """

    file: str
    holds: str
    without: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One demand.

    Attributes:
        name: As the page has it.
        cuts: Where it is held; several where one place covers for another.
        test: What fails without them, as pytest names it.
    """

    name: str
    cuts: tuple[Cut, ...]
    test: str


_FLOOR: Final = "tests/attacks/test_class_floor.py::"

DEMANDS: Final = (
    # ---- classes of data
    Demand(
        name="no-secret-column",
        cuts=(
            Cut(
                "clients/class_floor.py",
                'if column.data_class == "L4"]',
                "if False]",
            ),
        ),
        test=_FLOOR + "test_no_secret_column_is_read",
    ),
    Demand(
        name="noise-for-confidential",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "if not noisy or has_noise(manifest, spec, policy):",
                "if True:",
            ),
        ),
        test=_FLOOR + "test_noise_is_wanted_over_the_network_and_left_to_the_user_on_one_machine",
    ),
    Demand(
        name="noise-that-hides",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "    return planned_epsilon(manifest, spec, policy) <= MOST_EPSILON",
                "    return manifest.privacy is not None",
            ),
        ),
        test=_FLOOR + "test_noise_that_is_next_to_nothing_is_none",
    ),
    Demand(
        name="hidden-sums-for-confidential",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "and manifest.protection in _SHOWN_BY:",
                "and False:",
            ),
        ),
        test=_FLOOR + "test_nothing_below_masked_passes_whatever_the_policy_lets_in",
    ),
    Demand(
        name="purpose",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "and manifest.task not in governance.purposes:",
                "and False:",
            ),
        ),
        test=_FLOOR + "test_purpose_keeping_and_place_hold_at_the_node",
    ),
    Demand(
        name="last-day-of-keeping",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "if until is None or today <= until:",
                "if True:",
            ),
        ),
        test=_FLOOR + "test_purpose_keeping_and_place_hold_at_the_node",
    ),
    Demand(
        name="place",
        cuts=(
            Cut(
                "clients/class_floor.py",
                "or said == policy.place:",
                "or True:",
            ),
        ),
        test=_FLOOR + "test_purpose_keeping_and_place_hold_at_the_node",
    ),
    Demand(
        name="no-row-in-an-error",
        cuts=(
            Cut(
                "clients/source.py",
                'if found or file.format == "parquet":',
                "if True:",
            ),
        ),
        test="tests/unit/clients/test_source.py",
    ),
    Demand(
        name="sealed-at-rest",
        cuts=(
            Cut(
                "clients/vault.py",
                "        return seal(data, label, self.keys, entropy=self.entropy)",
                "        return bytes(data)",
            ),
        ),
        test="tests/attacks/test_at_rest.py::"
        "test_what_is_kept_is_sealed_and_the_search_finds_what_is_not",
    ),
    Demand(
        name="important-data-stay",
        cuts=(
            Cut(
                "configs/rules/baseline.yaml",
                "    severity: refuse\n    applies_to: contract\n    when: important_data_leaves",
                "    severity: warn\n    applies_to: contract\n    when: important_data_leaves",
            ),
        ),
        test="tests/unit/federation/test_compliance.py::test_the_page_says_what_each_set_does",
    ),
    # ---- raw data stay, sums hide
    Demand(
        name="coordinator-cannot-train",
        cuts=(
            Cut(
                "pyproject.toml",
                'layers = ["federation", "clients | aggregator", "privacy"]',
                'layers = ["federation", "clients : aggregator", "privacy"]',
            ),
        ),
        test="tests/architecture/test_layers.py",
    ),
    Demand(
        name="three-in-a-sum",
        cuts=(
            Cut(
                "clients/policy.py",
                "if manifest.minimum_cohort < policy.minimum_cohort:",
                "if False:",
            ),
        ),
        test="tests/attacks/test_hostile_coordinator.py",
    ),
    # ---- algorithms
    Demand(
        name="chosen-suite",
        cuts=(
            Cut(
                "clients/policy.py",
                "if manifest.suite not in policy.suites:",
                "if False:",
            ),
        ),
        test="tests/attacks/test_suites.py::"
        "test_a_node_refuses_a_suite_that_its_policy_does_not_name",
    ),
    # ---- scores
    Demand(
        name="no-raw-reading-in-a-score",
        cuts=(
            Cut(
                "clients/contract.py",
                "if column.is_input and not column.is_stated:",
                "if False:",
            ),
        ),
        test="tests/unit/clients/test_indicator_lineage.py::"
        "test_a_raw_column_is_refused_as_the_contract_is_read",
    ),
    Demand(
        name="no-raw-reading-in-terms",
        cuts=(
            Cut(
                "clients/terms/rule.py",
                "if (self.indicator is None) == (self.output is None):",
                "if False:",
            ),
        ),
        test="tests/property/test_terms.py::test_raw_readings_are_refused",
    ),
    Demand(
        name="lineage-of-a-score",
        cuts=(
            Cut(
                "federation/score_lineage.py",
                'if row != steps["row"]:',
                "if False:",
            ),
        ),
        test="tests/integration/test_model_verbs.py::"
        "test_other_rows_or_a_changed_table_are_no_lineage",
    ),
    Demand(
        name="person-before-a-large-change",
        cuts=(
            Cut(
                "clients/terms/fold.py",
                "if moved > rules.bounds.review_above_percent + 1e-9 and not reviewed:",
                "if False:",
            ),
        ),
        test="tests/property/test_terms.py::test_a_large_change_waits_for_a_person",
    ),
    Demand(
        name="worse-is-never-better",
        cuts=(
            Cut(
                "clients/terms/fold.py",
                "    if value is None:\n        return before\n    risk",
                "    if value is None:\n        return 0\n    risk",
            ),
        ),
        test="tests/property/test_terms.py::test_bounds_are_never_crossed_and_a_naive_grade_agrees",
    ),
    # ---- quality of readings
    Demand(
        name="three-in-a-row-wait",
        cuts=(
            Cut(
                "clients/gate.py",
                "IN_A_ROW: Final = 3",
                "IN_A_ROW: Final = 4",
            ),
        ),
        test="tests/unit/clients/test_gate.py::"
        "test_two_in_a_row_put_nobody_under_review_and_three_do",
    ),
    Demand(
        name="held-rows-are-not-used",
        cuts=(
            Cut(
                "clients/review.py",
                "return self.state in {State.WAITING, State.REJECTED}",
                "return False",
            ),
        ),
        test="tests/unit/clients/test_usable_rows.py::"
        "test_a_run_uses_no_row_of_a_held_device_until_a_person_releases_it",
    ),
    # ---- consent, members
    Demand(
        name="consent-is-to-these-words",
        cuts=(
            Cut(
                "clients/consent.py",
                "if decided is not None and not decided.approved:",
                "if False:",
            ),
        ),
        test="tests/unit/clients/test_consent.py::test_a_person_refuses_with_a_reason",
    ),
    Demand(
        name="two-approve",
        cuts=(
            Cut(
                "privacy/membership.py",
                "                len(approvals) >= needed,\n                f",
                "                True,\n                f",
            ),
        ),
        test="tests/unit/privacy/test_membership.py",
    ),
    Demand(
        name="revoked-at-once",
        cuts=(
            Cut(
                "federation/registry/guard.py",
                "if self._revoked(peer, certificate_of(auth)):",
                "if False:",
            ),
            Cut(
                "federation/members/service.py",
                "if self._enrolment.is_out(peer, certificate_digest(_certificate(context))):",
                "if False:",
            ),
        ),
        test="tests/attacks/test_joining.py::test_a_revoked_members_certificate_is_refused_at_once",
    ),
    # ---- budgets and records
    Demand(
        name="cap-where-the-data-are",
        cuts=(
            Cut(
                "privacy/budget.py",
                "                    admit(terms, charges, events)",
                "                    del terms, charges",
            ),
        ),
        test="tests/property/test_budget.py::"
        "test_processes_that_share_a_file_cannot_overspend_together",
    ),
    Demand(
        name="cap-verified-by-outsiders",
        cuts=(
            Cut(
                "privacy/cap.py",
                "if not account.loss(reading, cohort, since_ms) <= most * (1 + _ROUNDING):",
                "if False:",
            ),
        ),
        test="tests/property/test_cap.py::test_one_more_than_a_budget_allowed_is_found",
    ),
    Demand(
        name="on-record-before-it-opens",
        cuts=(
            Cut(
                "clients/ledger_watch.py",
                "    if wrong:\n        raise",
                "    if False:\n        raise",
            ),
        ),
        test="tests/attacks/test_hidden_records.py",
    ),
    Demand(
        name="tamper-evident",
        cuts=(
            Cut(
                "privacy/ledger/merkle.py",
                "    if old_computed != old_root or new_computed != new_root:",
                "    if False:",
            ),
        ),
        test="tests/property/test_merkle.py",
    ),
    Demand(
        name="terms-log-is-folded-anew",
        cuts=(
            Cut(
                "clients/terms/log.py",
                "if head is not None and log.head != head:",
                "if False:",
            ),
        ),
        test="tests/property/test_terms.py::test_a_changed_log_is_seen",
    ),
    Demand(
        name="rules-before-a-launch",
        cuts=(
            Cut(
                "federation/launch.py",
                "    require_lawful(findings)\n",
                "",
            ),
        ),
        test="tests/integration/test_command_line.py::"
        "test_a_run_that_breaks_a_rule_is_not_launched_and_leaves_nothing",
    ),
    Demand(
        name="both-halves-of-a-suite",
        cuts=(
            Cut(
                "privacy/suites/voice.py",
                "    if not holds(beside, bound_message(domain, message), half, verifies):",
                "    if False:",
            ),
        ),
        test="tests/attacks/test_suite_signatures.py::test_a_voice_signs_by_both_and_each_half_is_needed",
    ),
    Demand(
        name="held-devices-get-no-score",
        cuts=(
            Cut(
                "clients/left_out.py",
                "        return np.array([digest is None for _, digest in outs]",
                "        return np.array([True for _ in outs]",
            ),
        ),
        test="tests/unit/federation/test_window_scoring.py::test_a_device_that_the_gate_leaves_out_gets_no_score",
    ),
    Demand(
        name="reasons-for-every-score",
        cuts=(
            Cut(
                "clients/reasons.py",
                "        if not self.factors or abs(total - self.output) >",
                "        if False and abs(total - self.output) >",
            ),
        ),
        test="tests/unit/clients/test_additive.py::test_a_score_without_factors_cannot_be_made",
    ),
    Demand(
        name="monotone-as-promised",
        cuts=(
            Cut(
                "clients/monotone_hold.py",
                "            self._project(held, curve)\n",
                "            del curve\n",
            ),
        ),
        test="tests/unit/clients/test_monotone.py::test_a_held_curve_never_turns",
    ),
    Demand(
        name="signed-at-the-edge",
        cuts=(
            Cut(
                "clients/scoring/bundle_file.py",
                "        suite.verify(key, SIGNING_DOMAIN, _digest(body), signature)",
                "        del signature",
            ),
        ),
        test="tests/attacks/test_edge_bundle.py::test_a_trusted_key_beside_a_strangers_signature_is_refused",
    ),
    Demand(
        name="expired-at-the-edge",
        cuts=(
            Cut(
                "clients/scoring/bundle_file.py",
                "    if bundle.expires_s is not None and now_s >= bundle.expires_s:",
                "    if False:",
            ),
        ),
        test="tests/attacks/test_edge_bundle.py::test_expired_by_this_machines_clock_is_refused",
    ),
    Demand(
        name="signed-card",
        cuts=(
            Cut(
                "federation/model_card/signed.py",
                "        verify_signature(key, SIGNING_DOMAIN, canonical_json(value), signature)",
                "        del key, signature",
            ),
        ),
        test="tests/unit/federation/test_model_card.py::test_one_changed_bit_anywhere_is_refused",
    ),
)
