"""Time as a simulation has it: it passes when somebody waits, and each machine reads it wrongly."""

from collections.abc import Callable  # noqa: TC003 - as in every file here


class SimClock:
    """Stands in for the module `time`; `pass_to` of whoever simulates does what is due meanwhile.

    Attributes:
        now_s: Seconds since the beginning.
        off_s: By how much the machine that is at work now reads the date wrongly.
    """

    START_S = 1_800_000_000

    def __init__(self) -> None:
        self.now_s = 0.0
        self.off_s = 0
        self.pass_to: Callable[[float], None] = lambda _: None

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.START_S + self.off_s + self.now_s

    def time_ns(self) -> int:
        return (self.START_S + self.off_s) * 1_000_000_000 + round(self.now_s * 1_000) * 1_000_000

    def sleep(self, seconds: float) -> None:
        self.pass_to(self.now_s + seconds)
