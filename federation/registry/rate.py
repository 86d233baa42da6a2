"""How often one caller may ask: a token bucket for each."""

import ipaddress
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from federation.registry.access import Method

CALLERS_MAX: Final = 10_000
NETWORK_BITS: Final = 64
"""Of an IPv6 address: whoever has one has all that begin so."""
COSTS: Final[Mapping[Method, float]] = MappingProxyType(
    {Method.BUDGETS: 20.0, Method.BUNDLE: 100.0, Method.RENEW: 50.0}
)
"""In tokens; what is not in it costs one. The first two read whole ledgers, and a renewal makes
every participant's fold longer."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What is allowed.

    Attributes:
        per_second: Tokens that come back each second.
        burst: Tokens of a caller that was quiet; also the most there are.
    """

    per_second: float = 50.0
    burst: float = 500.0

    def __post_init__(self) -> None:
        if not (self.per_second > 0 and self.burst >= max(1.0, *COSTS.values())):
            raise ValueError("a rate lets every call pass now and then")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


@dataclass(slots=True)
class Buckets:
    """The buckets of all callers; safe for any number of threads.

    Attributes:
        rate: Of each caller.
        now_s: A clock that never goes back, in seconds.
    """

    rate: Rate
    now_s: Callable[[], float]
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _buckets: dict[str, _Bucket] = field(default_factory=dict)

    def take(self, caller: str, cost: float) -> bool:
        """Whether `caller` may spend `cost` tokens now; if not, it spends none."""
        with self._mutex:
            now_s = self.now_s()
            bucket = self._buckets.pop(caller, None)
            if bucket is None:
                bucket = _Bucket(self.rate.burst, now_s)
                if len(self._buckets) >= CALLERS_MAX:
                    del self._buckets[next(iter(self._buckets))]
            back = (now_s - bucket.at_s) * self.rate.per_second
            bucket.tokens = min(self.rate.burst, bucket.tokens + back)
            bucket.at_s = now_s
            # the one that asked last stands last
            self._buckets[caller] = bucket
            if bucket.tokens < cost:
                return False
            bucket.tokens -= cost
            return True


def network_of(host: str) -> str:
    """Return whom an address belongs to, as far as it tells: itself, or an IPv6 network.

    Args:
        host: An address, perhaps in brackets; what is none is returned as it is.
    """
    bare = host.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(address), NETWORK_BITS), strict=False))
    return str(address)
