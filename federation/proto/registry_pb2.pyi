from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LedgersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LedgersReply(_message.Message):
    __slots__ = ("federation", "ledgers")
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    federation: str
    ledgers: _containers.RepeatedCompositeFieldContainer[Ledger]
    def __init__(self, federation: _Optional[str] = ..., ledgers: _Optional[_Iterable[_Union[Ledger, _Mapping]]] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("origin", "owner", "role", "size", "key")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    origin: str
    owner: str
    role: str
    size: int
    key: str
    def __init__(self, origin: _Optional[str] = ..., owner: _Optional[str] = ..., role: _Optional[str] = ..., size: _Optional[int] = ..., key: _Optional[str] = ...) -> None: ...

class CheckpointRequest(_message.Message):
    __slots__ = ("origin",)
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    origin: str
    def __init__(self, origin: _Optional[str] = ...) -> None: ...

class CheckpointReply(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: bytes
    def __init__(self, note: _Optional[bytes] = ...) -> None: ...

class EntriesRequest(_message.Message):
    __slots__ = ("origin", "start", "count")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    start: int
    count: int
    def __init__(self, origin: _Optional[str] = ..., start: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class EntriesReply(_message.Message):
    __slots__ = ("start", "leaves")
    START_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    start: int
    leaves: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, start: _Optional[int] = ..., leaves: _Optional[_Iterable[bytes]] = ...) -> None: ...

class InclusionRequest(_message.Message):
    __slots__ = ("origin", "index", "size")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    index: int
    size: int
    def __init__(self, origin: _Optional[str] = ..., index: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class ConsistencyRequest(_message.Message):
    __slots__ = ("origin", "old", "new")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    OLD_FIELD_NUMBER: _ClassVar[int]
    NEW_FIELD_NUMBER: _ClassVar[int]
    origin: str
    old: int
    new: int
    def __init__(self, origin: _Optional[str] = ..., old: _Optional[int] = ..., new: _Optional[int] = ...) -> None: ...

class ProofReply(_message.Message):
    __slots__ = ("hashes",)
    HASHES_FIELD_NUMBER: _ClassVar[int]
    hashes: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, hashes: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CosignRequest(_message.Message):
    __slots__ = ("origin", "size", "line")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    size: int
    line: str
    def __init__(self, origin: _Optional[str] = ..., size: _Optional[int] = ..., line: _Optional[str] = ...) -> None: ...

class BudgetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BudgetsReply(_message.Message):
    __slots__ = ("time_ms", "budgets", "unreadable")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    budgets: _containers.RepeatedCompositeFieldContainer[Budget]
    unreadable: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, time_ms: _Optional[int] = ..., budgets: _Optional[_Iterable[_Union[Budget, _Mapping]]] = ..., unreadable: _Optional[_Iterable[str]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("member", "dataset", "unit", "cohort", "delta", "period_days", "releases", "runs", "coordinator", "solo", "colluders")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    PERIOD_DAYS_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    SOLO_FIELD_NUMBER: _ClassVar[int]
    COLLUDERS_FIELD_NUMBER: _ClassVar[int]
    member: str
    dataset: str
    unit: str
    cohort: str
    delta: float
    period_days: float
    releases: int
    runs: int
    coordinator: Spending
    solo: Spending
    colluders: int
    def __init__(self, member: _Optional[str] = ..., dataset: _Optional[str] = ..., unit: _Optional[str] = ..., cohort: _Optional[str] = ..., delta: _Optional[float] = ..., period_days: _Optional[float] = ..., releases: _Optional[int] = ..., runs: _Optional[int] = ..., coordinator: _Optional[_Union[Spending, _Mapping]] = ..., solo: _Optional[_Union[Spending, _Mapping]] = ..., colluders: _Optional[int] = ...) -> None: ...

class Spending(_message.Message):
    __slots__ = ("order", "spent", "pending", "cap", "left")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SPENT_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    CAP_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    order: int
    spent: float
    pending: float
    cap: float
    left: float
    def __init__(self, order: _Optional[int] = ..., spent: _Optional[float] = ..., pending: _Optional[float] = ..., cap: _Optional[float] = ..., left: _Optional[float] = ...) -> None: ...

class BundleRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BundleReply(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...
