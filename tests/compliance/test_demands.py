"""The page of demands says what is there; in the long form, each test fails without its cut."""

import os
import re
from pathlib import Path

import pytest
from compliance.demands import DEMANDS, Demand
from compliance.without import ROOT, changed, copied, fails_without

PAGE = (ROOT / "docs" / "compliance.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("without") / "copy"
    copied(root)
    return root


def told() -> dict[str, tuple[str, str]]:
    """Demand -> where the page says it is held, and what fails without it."""
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    return {cells[1].strip(" `"): (cells[-3], cells[-2]) for cells in rows}


def test_the_page_and_the_table_are_one() -> None:
    page = told()
    assert set(page) == {one.name for one in DEMANDS}
    for one in DEMANDS:
        held, fails = page[one.name]
        assert set(re.findall(r"\]\(\.\./([^)]+)\)", held)) == {cut.file for cut in one.cuts}
        file, _, test = one.test.partition("::")
        assert f"](../{file})" in fails
        assert not test or f"`{test}`" in fails


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda one: one.name)
def test_what_holds_a_demand_is_there_once_and_its_test_too(demand: Demand) -> None:
    for cut in demand.cuts:
        assert changed(cut, ROOT) != (ROOT / cut.file).read_text(encoding="utf-8")
    file, _, test = demand.test.partition("::")
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"def {test}(" in text if test else "def test_" in text


@pytest.mark.skipif("TACIT_LONG" not in os.environ, reason="long: four minutes; make soak runs it")
@pytest.mark.parametrize("demand", DEMANDS, ids=lambda one: one.name)
def test_its_test_fails_without_it(demand: Demand, copy: Path) -> None:
    assert fails_without(demand, copy) == ""
