"""Figures, and how Prometheus reads them: its text format 0.0.4, written out here in full."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"tacit_[a-z][a-z0-9_]*")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure.

    Attributes:
        value: A number; infinity is one, NaN is not.
        labels: What tells it from the others of its metric.
    """

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise ValueError("a figure that is not known is left out, not given as NaN")
        if not all(_LABEL.fullmatch(name) for name in self.labels):
            raise ValueError(f"labels are plain words, unlike {sorted(self.labels)}")


@dataclass(frozen=True, slots=True)
class Metric:
    """All figures of one name.

    Attributes:
        name: `tacit_...`, with its unit; a counter's ends in `_total`.
        help: One line for people.
        kind: A counter only grows while the process lives.
        samples: No two with the same labels.
    """

    name: str
    help: str
    kind: Literal["gauge", "counter"]
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name} is no name of a metric")
        if (self.kind == "counter") is not self.name.endswith("_total"):
            raise ValueError(f"{self.name}: counters, and they alone, end in _total")
        if len({tuple(sorted(one.labels.items())) for one in self.samples}) != len(self.samples):
            raise ValueError(f"{self.name} says two things of one")


def gauge(name: str, text: str, value: float) -> Metric:
    """A figure without labels that goes up and down."""
    return Metric(name, text, "gauge", (Sample(value),))


def counter(name: str, text: str, value: float) -> Metric:
    """A figure without labels that grows."""
    return Metric(name, text, "counter", (Sample(value),))


def labelled(
    name: str,
    text: str,
    kind: Literal["gauge", "counter"],
    label: str,
    values: Mapping[str, float],
) -> Metric:
    """One figure for each value of one label."""
    return Metric(name, text, kind, tuple(Sample(v, {label: k}) for k, v in values.items()))


def exposition(metrics: Iterable[Metric]) -> str:
    """Return the text of all metrics.

    Raises:
        ValueError: two have one name.
    """
    lines: list[str] = []
    seen: set[str] = set()
    for metric in metrics:
        if metric.name in seen:
            raise ValueError(f"{metric.name} is there twice")
        seen.add(metric.name)
        lines += [
            f"# HELP {metric.name} {_escaped(metric.help)}",
            f"# TYPE {metric.name} {metric.kind}",
        ]
        lines += [f"{metric.name}{_labels(one)} {_number(one.value)}" for one in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def _labels(sample: Sample) -> str:
    if not sample.labels:
        return ""
    inner = ",".join(
        f'{name}="{_escaped(value).replace(chr(34), chr(92) + chr(34))}"'
        for name, value in sample.labels.items()
    )
    return f"{{{inner}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)
