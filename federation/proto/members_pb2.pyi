from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class MeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MeReply(_message.Message):
    __slots__ = ("role", "name", "tls", "key_exchange", "time_ms", "version", "federation", "expires_ms", "fleet")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    KEY_EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FEDERATION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_MS_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    role: str
    name: str
    tls: str
    key_exchange: str
    time_ms: int
    version: str
    federation: str
    expires_ms: int
    fleet: str
    def __init__(self, role: _Optional[str] = ..., name: _Optional[str] = ..., tls: _Optional[str] = ..., key_exchange: _Optional[str] = ..., time_ms: _Optional[int] = ..., version: _Optional[str] = ..., federation: _Optional[str] = ..., expires_ms: _Optional[int] = ..., fleet: _Optional[str] = ...) -> None: ...

class MembershipRequest(_message.Message):
    __slots__ = ("skip",)
    SKIP_FIELD_NUMBER: _ClassVar[int]
    skip: int
    def __init__(self, skip: _Optional[int] = ...) -> None: ...

class MembershipReply(_message.Message):
    __slots__ = ("leaves", "more", "note")
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    leaves: _containers.RepeatedScalarFieldContainer[bytes]
    more: bool
    note: bytes
    def __init__(self, leaves: _Optional[_Iterable[bytes]] = ..., more: _Optional[bool] = ..., note: _Optional[bytes] = ...) -> None: ...

class ActRequest(_message.Message):
    __slots__ = ("kind", "body")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    body: bytes
    def __init__(self, kind: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class ActReply(_message.Message):
    __slots__ = ("index", "admitted")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ADMITTED_FIELD_NUMBER: _ClassVar[int]
    index: int
    admitted: bool
    def __init__(self, index: _Optional[int] = ..., admitted: _Optional[bool] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("body", "csr")
    BODY_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    csr: bytes
    def __init__(self, body: _Optional[bytes] = ..., csr: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...
