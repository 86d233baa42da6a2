"""Where a registry listens: `host:port`."""

from typing import Final

from privacy.errors import InputError

PORT_MAX: Final = 65_535


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`; an IPv6 address stands in brackets and keeps them.

    Raises:
        InputError: it is none.
    """
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    plain = bool(bare) and not any(each.isspace() or each in "/@,%[]" for each in bare)
    if not plain or (":" in bare) is not host.startswith("["):
        raise InputError(f"{address} is no address; give it as host:port")
    if not port.isascii() or not port.isdecimal() or int(port) > PORT_MAX:
        raise InputError(f"{address} has no port from 0 to 65535; give it as host:port")
    return host, int(port)
