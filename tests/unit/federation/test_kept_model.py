"""What is said where a run's folder has no model."""

from pathlib import Path
from typing import Any

import pytest

from federation.home import write_json
from federation.kept_model import read_kept_model
from federation.record import LAUNCH_FILE
from privacy.errors import InputError


def said(folder: Path) -> str:
    with pytest.raises(InputError) as refused:
        read_kept_model(folder)
    return str(refused.value)


def launched(folder: Path, state: str = "launched", **changes: Any) -> Path:  # noqa: ANN401
    """As a launch over a network leaves it, which nobody watched to its end."""
    folder.mkdir()
    write_json(folder / LAUNCH_FILE, {"runs": [folder.name], **changes})
    write_json(folder / "state.json", {"state": state})
    return folder


def test_a_run_that_was_not_watched_to_its_end_is_fetched_by_watching_it(tmp_path: Path) -> None:
    assert said(launched(tmp_path / "far-1")).endswith("fetch it with tacit run watch far-1.")


def test_where_watching_fetches_nothing_another_run_is_to_be_chosen(tmp_path: Path) -> None:
    other = "choose a finished run"
    here = tmp_path / "here-1"
    here.mkdir()
    assert other in said(here)
    assert other in said(launched(tmp_path / "stopped-1", state="stopped"))
    assert other in said(launched(tmp_path / "folds", runs=["folds.1", "folds.2"]))
    watched = launched(tmp_path / "watched-1", state="finished")
    write_json(watched / "result.json", {"model": None})
    assert other in said(watched)
