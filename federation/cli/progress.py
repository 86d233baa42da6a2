"""How a launch goes, on standard error: the step, and a line a round with its metric."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed

from federation.report import NAMES, size


class LaunchProgress:
    """`federation.launch.Display` with rich; use it as a context."""

    def __init__(self, console: Console, headline: str) -> None:
        self._console = console
        self._headline = headline
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("reading the plan", total=None)
        self._last = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, name: str) -> None:
        """A step began."""
        self._progress.update(self._task, description=name, completed=0, total=None)

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """A round was committed."""
        if self._headline in metrics:
            label = NAMES.get(self._headline, self._headline)
            self._last = f"{label} {metrics[self._headline]:.4g}"
            self._console.print(
                f"round {index:>3} of {of}: {self._last} on validation rows, "
                f"{facts['seconds']:.2f} s, {size(facts['bytes_up'])} up a member",
                highlight=False,
            )
        self._progress.update(
            self._task, description=f"training {self._last}", completed=index, total=of
        )

    def note(self, sentence: str) -> None:
        """Something went otherwise: a member is away, a round was undone."""
        self._console.print(sentence, highlight=False, style="yellow")

    def baseline(self, done: int, of: int) -> None:
        """One more baseline is trained."""
        self._progress.update(
            self._task, description="training the baselines", completed=done, total=of
        )


class NetworkProgress(LaunchProgress):
    """`federation.network_launch.NetworkDisplay` with rich; use it as a context."""

    def __init__(self, console: Console, headline: str) -> None:
        super().__init__(console, headline)
        self._agreed: set[str] = set()

    def round(
        self, index: int, of: int, metrics: Mapping[str, float], facts: Mapping[str, float]
    ) -> None:
        """A round was committed; what it reached is known where an own node saw it."""
        if self._headline not in metrics:
            self._console.print(
                f"round {index:>3} of {of}: {facts['seconds']:.2f} s, {size(facts['bytes_up'])} up "
                "a member",
                highlight=False,
            )
        super().round(index, of, metrics, facts)

    def answered(self, member: str, answer: str, reason: str) -> None:
        """A member answered to the invitation, or did not."""
        if answer == "agreed":
            self._agreed.add(member)
            self._console.print(f"{escape(member)} agrees", highlight=False)
            self.step(f"inviting the members, {len(self._agreed)} agreed")
            return
        words = {"refused": "refuses", "pending": "does not answer yet", "absent": "is not in it"}
        why = f": {reason}" if reason else ""
        self.note(escape(f"{member} {words.get(answer, answer)}{why}"))
