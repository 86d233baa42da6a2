"""How a connection's keys were agreed on, for whoever thinks of recordings and years to come."""

from federation.node_points.point import Point


def exchange_point(title: str, group: str, *, hybrid: bool) -> Point:
    """Say which group it was, and whether it is hybrid: classical and post-quantum in one."""
    if hybrid:
        return Point(
            title, "ok", f"TLS 1.3 with {group}: hybrid, closed to a quantum computer too."
        )
    return Point(
        title,
        "ok",
        f"TLS 1.3 with {group}: classical, so who records it today may open it with a quantum "
        "computer of tomorrow.",
        "For a hybrid key exchange, use OpenSSL 3.5 or later at both ends.",
    )
