"""A model card: what it says of planted sums, what it withholds, its page and its signature."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import cards

from clients.reasons import LANGUAGES, Language
from federation.importance_shown import ImportanceFacts, Leaned
from federation.model_card import interval, limits
from federation.model_card.drawing import (
    BARS_MAX,
    LEANING_LEFT,
    LEANING_RIGHT,
    LEANING_WIDTH,
    calibration_plot,
    leaning,
    panel,
)
from federation.model_card.evaluation import calibration, from_metrics, from_sum
from federation.model_card.facts import FEWEST, CalibrationBin, CardFacts, EvaluationFacts
from federation.model_card.page import SECTIONS, make_page
from federation.model_card.signed import page_path, read_card, require_key, write_card
from federation.model_card.stability import band, psi
from federation.model_card.words import WORDS
from federation.record import OpenedSum, read_opened
from privacy.errors import InputError, NotVerifiedError
from privacy.identity import Identity
from privacy.private_tally import private_metrics, private_tally
from privacy.randomness import system_bytes
from privacy.tally import BINS, TallyKind, metrics, tally

Floats = NDArray[np.float64]


def tallied(
    kind: TallyKind,
    score: Floats,
    target: Floats,
    *,
    group: NDArray[np.int64] | None = None,
    groups: tuple[str, ...] = (),
) -> OpenedSum:
    total = tally(
        kind,
        score=score,
        target=target,
        target_raw=target,
        exposure=np.full(score.size, 0.5),
        group=np.full(score.size, -1) if group is None else group,
        groups=groups,
        cap=125.0,
    )
    return OpenedSum(total=tuple(total.tolist()), noise=0.0)


def read(kind: TallyKind, opened: OpenedSum, groups: tuple[str, ...] = ()) -> EvaluationFacts:
    return from_sum(
        kind, opened, lambda part: metrics(kind, part, ()), groups=groups, private=False
    )


def by_name(facts: EvaluationFacts, group: str | None = None) -> dict[str, Any]:
    return {one.name: one for one in facts.metrics if one.group == group}


# intervals


def test_delong_on_bins_is_delong_on_rows() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 40, 70), rng.integers(10, 50, 30)
    wins = (high[:, None] > low[None, :]) + 0.5 * (high[:, None] == low[None, :])
    variance = wins.mean(1).var(ddof=1) / high.size + wins.mean(0).var(ddof=1) / low.size
    area, error = interval.delong(
        *(np.bincount(one, minlength=50).astype(float) for one in (low, high))
    )
    assert area == pytest.approx(wins.mean())
    assert error == pytest.approx(np.sqrt(variance))


def test_known_intervals_come_out() -> None:
    # the interval of 5 in 50 is in Newcombe, Statistics in Medicine 17 (1998), as (0.0435, 0.2136)
    assert interval.wilson(5, 50) == pytest.approx((0.0435, 0.2136), abs=1e-4)
    assert interval.garwood(0) == pytest.approx((0.0, 3.6889), abs=1e-4)
    assert interval.garwood(10) == pytest.approx((4.7954, 18.3904), abs=1e-4)
    # of normal errors the relative half width is z / sqrt(2n)
    low, high = interval.root_mean_square(2.0, 2.0 * np.sqrt(2 / np.pi), 200)
    assert np.log(high / low) / 2 == pytest.approx(interval.Z / np.sqrt(400), rel=1e-6)


@pytest.mark.parametrize(("negatives", "positives", "area"), [(300, 40, 0.7), (40, 200, 0.85)])
def test_hanley_and_mcneil_hold_for_the_scores_that_they_assume(
    negatives: int, positives: int, area: float
) -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(1500):
        low = np.sort(rng.exponential(1, negatives))
        high = rng.exponential(area / (1 - area), positives)
        found.append(float(np.searchsorted(low, high).mean()) / negatives)
    error = interval.hanley_mcneil(area, negatives=negatives, positives=positives)
    assert np.mean(found) == pytest.approx(area, abs=0.01)
    assert error == pytest.approx(np.std(found), rel=0.08)


def test_where_nothing_varied_there_is_no_interval() -> None:
    assert interval.on_logits(1.0, 0.0) is None
    assert interval.on_logits(0.7, 0.0) is None
    assert interval.precision_recall(1.0, positives=20) is None
    score = np.concatenate([np.full(40, -3.0), np.full(40, 3.0)])
    facts = read("binary", tallied("binary", score, (score > 0).astype(float)))
    assert by_name(facts)["auc"].method == "none.extreme"
    assert by_name(facts)["auc"].low is None


# planted sums


def test_a_planted_sum_gives_its_own_figures_with_intervals_around_them() -> None:
    rng = np.random.default_rng(1)
    score = rng.normal(-1, 1, 2000)
    target = (rng.uniform(size=2000) < 1 / (1 + np.exp(-score))).astype(float)
    facts = read("binary", tallied("binary", score, target))
    found = by_name(facts)
    assert facts.metrics[0].name == facts.headline == "auc"
    pairs = (score[target == 1][:, None] > score[target == 0][None, :]).mean()
    assert found["auc"].value == pytest.approx(pairs, abs=2e-3)
    for name in ("auc", "log_loss", "positive_share", "average_precision"):
        assert found[name].low < found[name].value < found[name].high
    assert found["positive_share"].value == target.mean()
    assert found["calibration_error"].method == "none.biased"
    assert sum(one.rows for one in facts.calibration) == 2000


def test_counts_and_lives_have_the_intervals_that_their_sums_allow() -> None:
    rng = np.random.default_rng(2)
    expected = rng.uniform(0.05, 0.4, 3000)
    count = rng.poisson(expected).astype(float)
    found = by_name(read("count", tallied("count", expected, count)))
    assert found["frequency"].low < count.sum() / 1500 < found["frequency"].high
    assert found["predicted_to_observed"].low < 1 < found["predicted_to_observed"].high
    assert found["deviance_x100"].method == "none.spread"
    assert found["deviance_x100"].low is None
    life = rng.uniform(0, 120, 500)
    facts = read("life", tallied("life", life + rng.normal(0, 9, 500), life))
    found = by_name(facts)
    assert found["rmse_cap"].low < 9 < found["rmse_cap"].high
    assert found["mae_cap"].low < 9 * np.sqrt(2 / np.pi) < found["mae_cap"].high
    assert facts.no_calibration == "kind"


def test_an_interval_of_a_sum_with_noise_has_the_noise_in_it() -> None:
    rng = np.random.default_rng(4)
    score = rng.normal(-1, 1.5, 3000)
    target = (rng.uniform(size=3000) < 1 / (1 + np.exp(-score))).astype(float)
    total = private_tally(
        "binary",
        score=score,
        target=target,
        target_raw=target,
        exposure=np.ones(3000),
        unit=np.arange(3000),
        cap=1.0,
    )
    widths = []
    for noise in (1.0, 20.0):
        noisy = total + rng.normal(0, noise, total.size)
        facts = from_sum(
            "binary",
            OpenedSum(total=tuple(noisy.tolist()), noise=noise),
            lambda part, noise=noise: private_metrics("binary", part, noise, cap=1.0),  # type: ignore[misc]
            groups=(),
            private=True,
        )
        auc = by_name(facts)["auc"]
        assert auc.noise > 0
        assert auc.low < auc.value < auc.high
        assert by_name(facts)["log_loss"].method == "none.noise"
        widths.append(auc.high - auc.low)
        assert all(one.low <= one.happened <= one.high for one in facts.calibration)
    assert widths[1] > 1.5 * widths[0]


# small counts


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_bin_of_calibration_holds_few_rows_of_either_kind(
    events: int, others: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    negative = np.bincount(rng.integers(0, BINS, others), minlength=BINS).astype(float)
    positive = np.bincount(rng.integers(0, BINS, events), minlength=BINS).astype(float)
    chance = np.linspace(0, 1, BINS)
    found = calibration(negative, positive, chance, noise=0.0)
    assert bool(found) == (min(events, others) >= FEWEST)
    for one in found:
        assert one.happened * one.rows >= FEWEST - 1e-6
        assert (1 - one.happened) * one.rows >= FEWEST - 1e-6
    assert not found or sum(one.rows for one in found) == events + others


def grouped(sizes: dict[str, int]) -> EvaluationFacts:
    rng = np.random.default_rng(6)
    names = tuple(sizes)
    group = np.repeat(np.arange(len(names)), list(sizes.values()))
    life = rng.uniform(0, 100, group.size)
    score = life + rng.normal(0, 5, group.size)
    return read("life", tallied("life", score, life, group=group, groups=names), names)


def test_a_small_group_is_withheld_and_no_difference_gives_it_away() -> None:
    facts = grouped({"a": 200, "b": 60, "c": 4})
    assert by_name(facts)["rows"].value == 264
    assert by_name(facts, "a")["rows"].value == 200
    for hidden in ("b", "c"):  # b too: all less a and b is c
        assert all(one.value is None for one in by_name(facts, hidden).values())
        assert all(one.low is None for one in by_name(facts, hidden).values())
    both = grouped({"a": 200, "b": 6, "c": 6})
    assert by_name(both, "a")["rows"].value == 200
    assert by_name(both, "b")["rows"].value is None


def test_a_group_of_few_events_is_not_told_by_difference() -> None:
    rng = np.random.default_rng(8)
    group = np.repeat(np.arange(3), [300, 300, 300])
    target = np.zeros(900)
    target[:80] = 1
    target[300:340] = 1
    target[600:604] = 1  # four events in the last group
    opened = tallied("binary", rng.normal(-1, 1, 900), target, group=group, groups=("a", "b", "c"))
    facts = read("binary", opened, ("a", "b", "c"))
    assert by_name(facts)["positive_share"].value == pytest.approx(124 / 900)
    assert by_name(facts, "a")["positive_share"].value == pytest.approx(80 / 300)
    for hidden in ("b", "c"):
        assert by_name(facts, hidden)["positive_share"].value is None
        assert by_name(facts, hidden)["auc"].value is None
        assert by_name(facts, hidden)["rows"].value == 300


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_no_difference_of_shown_figures_is_small(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = tuple("abcde"[: len(sizes)])
    group = np.repeat(np.arange(len(sizes)), sizes)
    group[rng.uniform(size=group.size) < 0.1] = -1  # some rows are in no group
    target = (rng.uniform(size=group.size) < rng.uniform()).astype(float)
    opened = tallied("binary", rng.normal(0, 1, group.size), target, group=group, groups=names)
    facts = read("binary", opened, names)

    def count(place: str | None, what: str) -> float | None:
        one = by_name(facts, place)
        if one["rows"].value is None:
            return None
        if what == "rows":
            return float(one["rows"].value)
        if one["positive_share"].value is None:
            return None
        events = round(one["rows"].value * one["positive_share"].value)
        return float(events if what == "events" else one["rows"].value - events)

    for what in ("rows", "events", "others"):
        shown = [count(name, what) for name in names]
        told = [one for one in shown if one is not None]
        assert all(one >= FEWEST for one in told)
        whole = count(None, what)
        if whole is not None:
            assert whole >= FEWEST
            left = round(whole - sum(told))
            assert left == 0 or left >= FEWEST


def test_of_few_rows_or_few_events_nothing_is_said() -> None:
    score = np.linspace(-2, 2, 400)
    few = (np.arange(400) >= 395).astype(float)
    found = by_name(read("binary", tallied("binary", score, few)))
    assert found["rows"].value == 400
    assert {one.value for name, one in found.items() if name != "rows"} == {None}
    tiny = read("life", tallied("life", score[:5], score[:5]))
    assert {one.value for one in tiny.metrics} == {None}
    told = from_metrics(
        "binary",
        {"auc": 0.9, "rows": 400.0, "positive_share": 0.01, "auc_error": 0.001},
        groups=(),
        private=False,
    )
    assert by_name(told)["auc"].value is None
    assert "auc_error" not in by_name(told)


def test_without_the_sum_figures_are_shown_and_said_to_have_no_interval() -> None:
    values = {"auc": 0.8, "rows": 500.0, "positive_share": 0.3}
    values |= {"auc.b": 0.7, "rows.b": 300.0, "positive_share.b": 0.2}
    facts = from_metrics("binary", values, groups=("b",), private=False)
    assert by_name(facts)["auc"].value == 0.8
    assert by_name(facts, "b")["auc"].value == 0.7
    assert {one.method for one in facts.metrics} == {"none.sum", "none.rows"}
    assert not facts.from_sum


# stability


def test_an_index_is_what_its_formula_says() -> None:
    first, second = np.array([500, 300, 200]), np.array([300, 300, 400])
    p, q = (second + 0.5) / 1001.5, (first + 0.5) / 1001.5
    assert psi(first, second)[0] == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert psi(first, first)[0] == 0
    assert psi(np.array([50, 0]), np.array([0, 50]))[0] > 1
    assert [band(value) for value in (0.0999, 0.1, 0.2499, 0.25)] == [
        "stable", "watch", "watch", "shifted",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="both sides"):
        psi(np.array([1, 2]), np.array([0, 0]))


# the page


def parsed(page: bytes) -> ET.Element:
    text = page.decode("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own page


def text_of(page: bytes) -> str:
    return " ".join("".join(parsed(page).itertext()).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_well_formed_and_holds_every_section(language: Language) -> None:
    root = parsed(make_page(cards.card(), language))
    sections = {str(one.get("id")): one for one in root.iter("section")}
    assert tuple(sections) == SECTIONS
    for name, one in sections.items():
        heading = one.find("h2")
        assert heading is not None
        assert heading.text == WORDS[language][name]
        assert len("".join(one.itertext()).split()) > 2
    assert {one.get("href") for one in root.iter("a")} == {
        "#main", *(f"#{name}" for name in SECTIONS),
    }  # fmt: skip
    assert len(list(root.iter("svg"))) == 4


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = make_page(cards.card(), "en")
    root = parsed(page)
    assert not {one.tag for one in root.iter()} & {"script", "img", "link", "iframe", "object"}
    for one in root.iter():
        assert not set(one.attrib) & {"src", "onload", "onclick", "srcset", "style"}
    style = root.findtext("head/style") or ""
    assert "url(" not in style
    assert "@import" not in style
    assert b"http:" not in page
    assert b"https:" not in page
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_what_others_named_cannot_become_markup() -> None:
    hostile = '<script>alert("x")</script> & \u202e'
    shapes = cards.card().shapes
    first = shapes.shapes[0].model_copy(update={"column": hostile})
    page = make_page(
        cards.card(
            title=hostile,
            members=(hostile, "b", "c"),
            shapes=shapes.model_copy(update={"shapes": (first,)}),
        ),
        "en",
    )
    assert b"<script" not in page
    assert hostile in "".join(parsed(page).itertext())


def test_a_page_says_what_there_is_not() -> None:
    bare = cards.card(
        kind="mlp",
        stability=None,
        importance=None,
        shapes=cards.card().shapes.model_copy(
            update={"base": None, "reference": None, "shapes": (), "none": "hidden"}
        ),
        evaluation=cards.evaluation(calibration=(), no_calibration="few", from_sum=False),
        privacy=cards.card().privacy.model_copy(
            update={"noise": "none", "epsilon": None, "solo_epsilon": None, "empirical": None}
        ),
    )
    said = text_of(make_page(bare, "en"))
    for words in (
        "This model has hidden layers",
        "No rows were at hand",
        "did not sum what its model leans on",
        "too few events",
        "The opened sum is not on this machine",
        "there is no epsilon",
        "no audit was made",
    ):
        assert words in said
    noisy = cards.card(privacy=cards.card().privacy.model_copy(update={"empirical": None}))
    assert "no attack on this run's noise was made" in text_of(make_page(noisy, "en"))
    assert "at least 0.20" in text_of(make_page(cards.card(), "en"))


def test_words_exist_in_both_languages_with_the_same_places() -> None:
    holes = re.compile(r"\{(\w+)\}")
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, english in WORDS["en"].items():
        assert sorted(holes.findall(english)) == sorted(holes.findall(WORDS["zh"][key])), key
    source = "".join(
        path.read_text("utf-8") for path in Path(limits.__file__).parent.glob("*.py")
        if path.name != "words.py"
    )  # fmt: skip
    for key in re.findall(r'"((?:limit|uncovered)\.[a-z_.]+)"', source):
        assert key in WORDS["en"] or key.endswith("."), key
    for method in re.findall(r'_Told\(\s*"([a-z_.]+)"', source):
        assert f"method.{method}" in WORDS["en"], method


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=70),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_column_adds_its_panel_stays_inside(amounts: list[float], bars: bool) -> None:
    shape = cards.card().shapes.shapes[0].model_copy(
        update={
            "amounts": tuple(amounts),
            "at": () if bars else tuple(float(x) for x in range(len(amounts))),
            "levels": tuple(f"level {x}" for x in range(len(amounts))) if bars else (),
        }
    )  # fmt: skip
    drawn = panel(shape)
    heights = [bar.y for bar in drawn.bars] + [bar.y + bar.height for bar in drawn.bars]
    heights += [float(y) for _, y in re.findall(r"([\d.e+-]+) ([\d.e+-]+)", drawn.path)]
    assert heights
    assert all(-0.2 <= one <= drawn.height for one in heights)
    assert 2 <= len(drawn.upward) <= 12


def test_a_page_says_what_the_model_leans_on_longest_first() -> None:
    page = make_page(cards.card(), "en")
    said = text_of(page)
    assert "410 test rows of 3 members" in said
    section = next(one for one in parsed(page).iter("section") if one.get("id") == "importance")
    cells = ["".join(one.itertext()) for row in section.iter("tr") for one in row]
    assert cells[3:] == ["load", "0.5", "80.0%", "code", "0.125", "20.0%"]
    widths = [float(str(one.get("width"))) for one in section.iter("rect")]
    assert widths[0] == 4 * widths[1] > 0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.text(max_size=80))
@settings(max_examples=40, deadline=None)
def test_whatever_a_model_leans_on_its_bars_stay_inside(amounts: list[float], name: str) -> None:
    whole = sum(amounts) or 1.0
    inputs = tuple(
        Leaned(input=f"{name}{place}", amount=one, share=one / whole)
        for place, one in enumerate(sorted(amounts, reverse=True))
    )
    drawn = leaning(ImportanceFacts(members=3, rows=10, inputs=inputs))
    assert drawn.count == len(amounts)
    assert len(drawn.bars) == min(len(amounts), BARS_MAX)
    for one in drawn.bars:
        assert 0 <= one.width <= LEANING_WIDTH - LEANING_LEFT - LEANING_RIGHT
        assert 0 < one.middle <= drawn.height + 5
        assert len(one.text) <= 26


def test_a_card_of_a_version_that_knew_no_importance_is_read() -> None:
    facts = cards.card().model_dump(mode="json")
    del facts["importance"]
    assert CardFacts.model_validate_json(json.dumps(facts)).importance is None


def test_rare_events_fill_the_calibration_plot() -> None:
    plot = calibration_plot(
        [
            CalibrationBin(predicted=0.001, happened=0.002, low=0.001, high=0.003, rows=9000),
            CalibrationBin(predicted=0.02, happened=0.03, low=0.02, high=0.04, rows=9000),
        ]
    )
    assert plot.upward[-1].text == "0.04"
    assert plot.points[1].x > 200


# the signature


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    identity = Identity.create(system_bytes)
    facts = cards.card()
    path = write_card(facts, make_page(facts, "en"), tmp_path / "card.html", identity=identity)
    return path, {identity.public.hex(): "launcher"}


def test_a_card_comes_back_as_it_was_signed(written: tuple[Path, dict[str, str]]) -> None:
    path, known = written
    assert read_card(path, known).card == cards.card()


def test_one_changed_bit_anywhere_is_refused(written: tuple[Path, dict[str, str]]) -> None:
    path, known = written
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 37), len(whole) - 1]:
        changed = bytearray(whole)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(NotVerifiedError):
            read_card(path, known)
    for other in (whole[:-1], whole + b"\n", b" " + whole, b"", b"{}\n", b"\xff\n"):
        path.write_bytes(other)
        with pytest.raises(NotVerifiedError, match="not as it was signed"):
            read_card(path, known)


def test_a_stranger_or_another_page_is_refused(written: tuple[Path, dict[str, str]]) -> None:
    path, known = written
    with pytest.raises(NotVerifiedError, match="whom this home does not know"):
        read_card(path, {"00" * 32: "launcher"})
    page = path.with_suffix(".html")
    page.write_bytes(page.read_bytes().replace(b"0.75", b"0.95"))
    with pytest.raises(NotVerifiedError, match="not the page of"):
        read_card(path, known)
    page.unlink()
    assert read_card(path, known).card.run == cards.card().run
    with pytest.raises(InputError, match="cannot be read"):
        read_card(path.with_name("none.json"), known)


def test_where_a_page_goes(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    assert page_path(run, None) == run / "model-card.html"
    assert page_path(run, tmp_path) == tmp_path / "run-1.html"
    assert page_path(run, tmp_path / "a.html") == tmp_path / "a.html"
    for wrong in (tmp_path / "a.pdf", tmp_path / "none" / "a.html"):
        with pytest.raises(InputError):
            page_path(run, wrong)
    assert require_key("AB" * 32) == "ab" * 32
    with pytest.raises(InputError, match="64 hexadecimal"):
        require_key("xyz")


def test_a_kept_sum_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    assert read_opened(path, step="evaluate test", round_index=3) is None
    path.write_text('{"step":"evaluate test","round":3,"sum":[1.0,2.0],"noise":0.5}\n')
    found = read_opened(path, step="evaluate test", round_index=3)
    assert found == OpenedSum(total=(1.0, 2.0), noise=0.5)
    assert read_opened(path, step="evaluate test", round_index=2) is None
    for wrong in ('"sum":[],"noise":0.0', '"sum":["x"],"noise":0.0', '"sum":[1.0],"noise":-1'):
        path.write_text(f'{{"step":"evaluate test","round":3,{wrong}}}\n')
        with pytest.raises(InputError, match="holds a sum that is none"):
            read_opened(path, step="evaluate test", round_index=3)
