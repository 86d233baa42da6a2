"""The closed table of indicators. A version's meaning never changes; a better one is version 2."""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from clients.indicators.charging import CHARGING
from clients.indicators.driving import DRIVING
from clients.indicators.energy import ENERGY
from clients.indicators.failures import FAILURES
from clients.indicators.indicator import Indicator
from clients.indicators.load import LOAD
from clients.indicators.quality import QUALITY
from clients.indicators.risk import RISK
from clients.indicators.running import RUNNING
from clients.indicators.thermal import THERMAL
from clients.spelling import nearest
from privacy.canonical import canonical_json

INDICATORS: Final[Mapping[str, Indicator]] = MappingProxyType(
    {
        one.key: one
        for one in (
            *RUNNING,
            *LOAD,
            *ENERGY,
            *FAILURES,
            *DRIVING,
            *CHARGING,
            *THERMAL,
            *QUALITY,
            *RISK,
        )
    }
)
"""`name@version` -> indicator."""


def registry_digest() -> str:
    """SHA-256, hex, over the digests of all of them: by it two installations agree on the table."""
    said = {key: one.digest for key, one in INDICATORS.items()}
    return hashlib.sha256(b"tacit/indicators/v1\0" + canonical_json(said)).hexdigest()


def find_indicator(text: str) -> Indicator:
    """The indicator of that key; a name alone means its newest version.

    Raises:
        ValueError: There is none; the sentence names the nearest.
    """
    if text in INDICATORS:
        return INDICATORS[text]
    versions = [one for one in INDICATORS.values() if one.name == text]
    if versions:
        return max(versions, key=lambda one: one.version)
    guess = nearest(text, INDICATORS)
    advice = f"did you mean {guess}" if guess else "tacit data indicators list has all"
    raise ValueError(f"there is no indicator {text}; {advice}")
