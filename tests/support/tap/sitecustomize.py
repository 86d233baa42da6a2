"""Keeps what a process sends and is sent, before TLS, in a file of its own below `TACIT_TAP`.

Python reads this by itself where its folder is on PYTHONPATH. gRPC's messages are kept as they are
given to it and as they come from it, and the bytes of Python's own TLS likewise.
"""

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_LOCK = threading.Lock()
_WATCHED = {"grpc._channel", "ssl"}


def keep(data: Any) -> None:  # noqa: ANN401 - whatever is sent
    """Add to this process's file."""
    with _LOCK, (Path(os.environ["TACIT_TAP"]) / f"{os.getpid()}.bin").open("ab") as file:
        file.write(bytes(data))


def _grpc(module: ModuleType) -> None:
    for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
        whole = getattr(module.Channel, name)

        @functools.wraps(whole)
        def tapped(
            self: Any,  # noqa: ANN401 - a channel
            method: str,
            request_serializer: Callable[[Any], bytes] | None = None,
            response_deserializer: Callable[[bytes], Any] | None = None,
            *rest: Any,  # noqa: ANN401 - as gRPC has it
            _whole: Callable[..., Any] = whole,
            **named: Any,  # noqa: ANN401 - as gRPC has it
        ) -> Any:  # noqa: ANN401 - a callable of gRPC's
            def sent(message: Any) -> bytes:  # noqa: ANN401 - any message
                data = message if request_serializer is None else request_serializer(message)
                keep(data)
                return bytes(data)

            def came(data: bytes) -> Any:  # noqa: ANN401 - any message
                keep(data)
                return data if response_deserializer is None else response_deserializer(data)

            return _whole(self, method, sent, came, *rest, **named)

        setattr(module.Channel, name, tapped)


def _ssl(module: ModuleType) -> None:
    for kind, names in (
        (module.SSLSocket, ("send", "sendall", "write")),
        (module.SSLObject, ("write",)),
    ):
        for name in names:
            whole = getattr(kind, name)

            @functools.wraps(whole)
            def tapped(
                self: Any,  # noqa: ANN401 - a socket
                data: Any,  # noqa: ANN401 - a buffer
                *rest: Any,  # noqa: ANN401 - flags
                _whole: Callable[..., Any] = whole,
            ) -> Any:  # noqa: ANN401 - as ssl has it
                keep(data)
                return _whole(self, data, *rest)

            setattr(kind, name, tapped)


class _Patched(importlib.abc.Loader):
    """Loads a module as it is, and then taps it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        (_ssl if module.__name__ == "ssl" else _grpc)(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds what is tapped, where Python finds it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patched(spec.loader)
        return spec


if os.environ.get("TACIT_TAP"):
    sys.meta_path.insert(0, _Finder())
