"""The suites that there are, by id; no other can be named."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from privacy.errors import ProtocolError, RefusedError
from privacy.suites.gm import GM
from privacy.suites.hybrid import HYBRID
from privacy.suites.intl import INTL
from privacy.suites.suite import Suite

__all__ = ["SUITES", "SUITE_IDS", "Suite", "SuiteId", "require_here", "suite_of"]

SuiteId: TypeAlias = Literal["intl", "gm", "hybrid"]
SUITE_IDS: Final[tuple[SuiteId, ...]] = get_args(SuiteId)
SUITES: Final[Mapping[str, Suite]] = MappingProxyType({one.id: one for one in (INTL, GM, HYBRID)})


def suite_of(name: str) -> Suite:
    """Return the suite of that id.

    Raises:
        ProtocolError: there is none.
    """
    try:
        return SUITES[name]
    except KeyError:
        raise ProtocolError(
            f"{name!r:.40} is no suite of algorithms; choose one of {', '.join(SUITES)}"
        ) from None


def require_here(name: str) -> Suite:
    """Return the suite of that id, if this machine can use it.

    Raises:
        ProtocolError: there is none.
        RefusedError: this machine cannot.
    """
    suite = suite_of(name)
    reason = suite.missing()
    if reason:
        raise RefusedError(reason)
    return suite
