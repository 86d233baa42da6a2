from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AskRequest(_message.Message):
    __slots__ = ("secret", "role", "name", "key", "csr", "signature")
    SECRET_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CSR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    secret: bytes
    role: str
    name: str
    key: bytes
    csr: bytes
    signature: bytes
    def __init__(self, secret: _Optional[bytes] = ..., role: _Optional[str] = ..., name: _Optional[str] = ..., key: _Optional[bytes] = ..., csr: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AskReply(_message.Message):
    __slots__ = ("standing",)
    STANDING_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("name", "key", "time_ms", "signature")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    name: str
    key: bytes
    time_ms: int
    signature: bytes
    def __init__(self, name: _Optional[str] = ..., key: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("standing",)
    STANDING_FIELD_NUMBER: _ClassVar[int]
    standing: Standing
    def __init__(self, standing: _Optional[_Union[Standing, _Mapping]] = ...) -> None: ...

class Standing(_message.Message):
    __slots__ = ("approved", "needed", "certificate", "registry", "fleet")
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    REGISTRY_FIELD_NUMBER: _ClassVar[int]
    FLEET_FIELD_NUMBER: _ClassVar[int]
    approved: _containers.RepeatedScalarFieldContainer[str]
    needed: int
    certificate: bytes
    registry: str
    fleet: str
    def __init__(self, approved: _Optional[_Iterable[str]] = ..., needed: _Optional[int] = ..., certificate: _Optional[bytes] = ..., registry: _Optional[str] = ..., fleet: _Optional[str] = ...) -> None: ...
