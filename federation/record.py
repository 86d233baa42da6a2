"""What is kept of a run while it goes and after: rounds, result, model, curve."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from clients.durable_file import append_whole
from clients.importance import Importance
from federation.home import read_json, write_bytes, write_json
from privacy.errors import InputError
from privacy.json_value import json_value
from privacy.manifest import Manifest

ROUNDS: Final = "rounds.jsonl"
LAUNCH_FILE: Final = "launch.json"
"""In the folder of a run that was launched over a network: what its launcher needs to end it."""


def unended_launch(folder: Path) -> dict[str, Any] | None:
    """What was kept of a network launch of this run alone, whose end was not fetched; else None.

    Raises:
        InputError: What was kept is damaged.
    """
    if not (folder / LAUNCH_FILE).exists() or (folder / "result.json").exists():
        return None
    kept = read_json(folder / LAUNCH_FILE)
    return kept if kept.get("runs") == [folder.name] else None


def awaits_watching(folder: Path) -> bool:
    """Whether a run was launched over a network, and `tacit run watch` gets what it came to.

    Raises:
        InputError: What was kept of the launch is damaged.
    """
    return unended_launch(folder) is not None and read_state(folder).get("state") != "stopped"


@dataclass(kw_only=True)
class RunFolder:
    """One run's folder."""

    path: Path
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def begin(self, config: Path, contract: Path, state: Mapping[str, Any]) -> None:
        """Make the folder, with copies of what was asked for."""
        self.path.mkdir(parents=True)
        write_bytes(self.path / "config.yaml", config.read_bytes())
        write_bytes(self.path / "contract.yaml", contract.read_bytes())
        self.state("running", **state)

    def state(self, state: str, **facts: Any) -> None:  # noqa: ANN401 - JSON
        """Say where the run stands."""
        write_json(self.path / "state.json", {"state": state, **facts})

    def manifest(self, manifest: Manifest, signature: bytes, name: str) -> None:
        """Keep what was signed."""
        write_bytes(self.path / f"{name}.json", manifest.to_bytes())
        write_bytes(self.path / f"{name}.sig", signature)

    def log(self, line: str) -> None:
        """Add a line to the run's log, with the time.

        Raises:
            InputError: The disk refuses.
        """
        path = self.path / "run.log"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}\n")
        except OSError as failure:
            raise _refused(path, failure) from None

    def round(self, record: dict[str, Any]) -> None:
        """Append one committed round, whole or not at all.

        Raises:
            InputError: The disk refuses.
        """
        path = self.path / ROUNDS
        try:
            append_whole(path, (json.dumps(record, allow_nan=False) + "\n").encode())
        except OSError as failure:
            raise _refused(path, failure) from None
        self.rounds.append(record)

    def model(self, source: Path, name: str) -> Path:
        """Keep the final model, as a member of this machine wrote it."""
        path = self.path / f"{name}.safetensors"
        write_bytes(path, source.read_bytes())
        return path


def _refused(path: Path, failure: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({failure.strerror}); free some space.")


def count_rounds(folder: Path) -> int:
    """How many committed rounds are written down; they are not read, as lists are long."""
    try:
        return (folder / ROUNDS).read_bytes().count(b"\n")
    except OSError:
        return 0


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """Committed rounds of a run; a last line that was cut off by a crash is left out.

    Raises:
        InputError: What was kept is no such thing.
    """
    path = folder / ROUNDS
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json_value(line) for line in lines]
    except (OSError, ValueError):
        raise InputError(
            f"{path}: is damaged; move it away, and the run is shown without its rounds."
        ) from None


def read_state(folder: Path) -> dict[str, Any]:
    """Where a run stands, as it said itself."""
    return read_json(folder / "state.json")


def read_sums(path: Path) -> dict[tuple[str, int], dict[str, float]]:
    """What a member of this machine found in opened evaluations: (step, round) -> metrics."""
    return {
        (one["step"], one["round"]): one["metrics"] for one in _opened(path) if "metrics" in one
    }


def read_importance(path: Path, *, step: str, round_index: int) -> Importance | None:
    """What a member of this machine found that the model leans on; None where nothing was opened.

    Raises:
        InputError: What was kept is no such thing.
    """
    for one in _opened(path):
        if one.get("step") == step and one.get("round") == round_index and "importance" in one:
            try:
                return Importance.from_json(one["importance"])
            except (KeyError, TypeError, ValueError):
                raise InputError(f"{path}: is damaged; fetch it from a member again.") from None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSum:
    """An opened evaluation, as a member of this machine kept it.

    Attributes:
        total: The sum of the members' tallies.
        noise: Standard deviation of the noise in each of its numbers; 0 for none.
    """

    total: tuple[float, ...]
    noise: float


def read_opened(path: Path, *, step: str, round_index: int) -> OpenedSum | None:
    """The sum itself that was opened in a step; None where it was not kept.

    Raises:
        InputError: What was kept is no sum.
    """
    for one in _opened(path):
        if one.get("step") == step and one.get("round") == round_index and "sum" in one:
            try:
                total, noise = tuple(float(x) for x in one["sum"]), float(one["noise"])
            except (KeyError, TypeError, ValueError):
                total, noise = (), math.nan
            if not total or not all(map(math.isfinite, (*total, noise))) or noise < 0:
                raise InputError(f"{path}: holds a sum that is none; fetch it from a member again.")
            return OpenedSum(total=total, noise=noise)
    return None


def _opened(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json_value(line) for line in lines]
    except (OSError, ValueError):
        raise InputError(f"{path}: is damaged; fetch it from a member again.") from None
