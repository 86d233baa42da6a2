"""Who may call what: a table, and nothing that is not in it."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from federation.evidence import LedgerView


class Role(Enum):
    """What a participant is; the spelling is that of certificates."""

    OPERATOR = "operator"
    MANUFACTURER = "manufacturer"
    INSURER = "insurer"
    BANK = "bank"
    REGULATOR = "regulator"


class Method(Enum):
    """What can be asked; the spelling is that of the wire."""

    LEDGERS = "Ledgers"
    CHECKPOINT = "Checkpoint"
    ENTRIES = "Entries"
    INCLUSION = "Inclusion"
    CONSISTENCY = "Consistency"
    COSIGN = "Cosign"
    BUDGETS = "Budgets"
    BUNDLE = "Bundle"
    # federation/proto/members.proto
    ME = "Me"
    MEMBERSHIP = "Membership"
    ACT = "Act"
    RENEW = "Renew"
    # federation/proto/runs.proto
    LAUNCH = "Launch"
    RUNS = "Runs"
    WATCH = "Watch"
    STOP = "Stop"
    RESUME = "Resume"
    REPORT = "Report"


class Scope(Enum):
    """Of which ledgers, or of which runs.

    Attributes:
        ALL: Of every one.
        OWN: Of the coordinator's, which is about all, and of the caller's own; of runs, those that
            the caller launched or is a member of, and to end or report one, those it launched.
        NONE: The call is refused.
    """

    ALL = "all"
    OWN = "own"
    NONE = "none"


def _row(**scopes: Scope) -> Mapping[Method, Scope]:
    return MappingProxyType({Method[name]: scope for name, scope in scopes.items()})


# Other members' states and proofs hold nothing but hashes, and who witnesses them needs them.
# Their entries say what they spent.
_MEMBER = _row(
    LEDGERS=Scope.ALL,
    CHECKPOINT=Scope.ALL,
    ENTRIES=Scope.OWN,
    INCLUSION=Scope.ALL,
    CONSISTENCY=Scope.ALL,
    COSIGN=Scope.ALL,
    BUDGETS=Scope.OWN,
    ME=Scope.ALL,
    MEMBERSHIP=Scope.ALL,
    ACT=Scope.ALL,
    RENEW=Scope.OWN,
    RUNS=Scope.OWN,
    WATCH=Scope.OWN,
)
# Who lends or insures asks for models; who has the machines agrees or not.
_LAUNCHER = _row(
    LAUNCH=Scope.OWN,
    STOP=Scope.OWN,
    RESUME=Scope.OWN,
    REPORT=Scope.OWN,
)
TABLE: Final[Mapping[Role, Mapping[Method, Scope]]] = MappingProxyType(
    {
        # It keeps the coordinator's ledger. It witnesses nothing: its word on it is no news.
        Role.OPERATOR: _row(
            LEDGERS=Scope.ALL,
            CHECKPOINT=Scope.ALL,
            ENTRIES=Scope.OWN,
            INCLUSION=Scope.ALL,
            CONSISTENCY=Scope.ALL,
            ME=Scope.ALL,
            MEMBERSHIP=Scope.ALL,
            ACT=Scope.ALL,
            RENEW=Scope.OWN,
            RUNS=Scope.ALL,
            WATCH=Scope.ALL,
            STOP=Scope.ALL,
            RESUME=Scope.ALL,
        ),
        Role.MANUFACTURER: _MEMBER,
        Role.INSURER: MappingProxyType({**_MEMBER, **_LAUNCHER}),
        Role.BANK: MappingProxyType({**_MEMBER, **_LAUNCHER}),
        # It reads everything and changes nothing; a cosignature adds a line below a checkpoint.
        Role.REGULATOR: _row(
            LEDGERS=Scope.ALL,
            CHECKPOINT=Scope.ALL,
            ENTRIES=Scope.ALL,
            INCLUSION=Scope.ALL,
            CONSISTENCY=Scope.ALL,
            COSIGN=Scope.ALL,
            BUDGETS=Scope.ALL,
            BUNDLE=Scope.ALL,
            ME=Scope.ALL,
            MEMBERSHIP=Scope.ALL,
            RENEW=Scope.OWN,
            RUNS=Scope.ALL,
            WATCH=Scope.ALL,
        ),
    }
)
MEMBERS: Final = frozenset({Role.MANUFACTURER, Role.INSURER, Role.BANK})


def scope_of(role: Role, method: Method) -> Scope:
    """Return of which ledgers `role` may ask `method`; what the table lacks is refused."""
    return TABLE.get(role, {}).get(method, Scope.NONE)


def may_see(scope: Scope, view: LedgerView, *, role: Role, name: str) -> bool:
    """Whether a ledger is within a scope of the caller's.

    Args:
        scope: What the table gives.
        view: The ledger.
        role: The caller's; only a member has a node's ledger of its own.
        name: The caller's, as its certificate says it.
    """
    if scope is Scope.OWN:
        own = role in MEMBERS and view.role == "node" and view.owner == name
        return own or view.role == "coordinator"
    return scope is Scope.ALL
