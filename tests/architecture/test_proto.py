"""The committed code of the wire is what its definition makes, and loads under what is pinned."""

import importlib
import re
from pathlib import Path

import google.protobuf
import pytest

from federation.proto.generate import GENERATED, ROOT, SOURCES, generate

PROTO = ROOT / "federation" / "proto"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proto")
    generate(folder)
    return folder / "federation" / "proto"


@pytest.mark.parametrize("name", GENERATED)
def test_generated_code_is_current(made: Path, name: str) -> None:
    assert (PROTO / name).read_bytes() == (made / name).read_bytes(), (
        "run python federation/proto/generate.py"
    )


def test_nothing_else_is_generated(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == sorted(GENERATED)
    assert sorted(path.name for path in PROTO.glob("*_pb2*")) == sorted(GENERATED)


@pytest.mark.parametrize("source", SOURCES)
def test_the_code_is_not_newer_than_the_protobuf_that_is_pinned(source: str) -> None:
    text = (PROTO / f"{source}_pb2.py").read_text()
    found = re.search(r"Protobuf Python Version: ([0-9.]+)", text)
    assert found is not None
    made_for = tuple(int(part) for part in found[1].split("."))
    here = tuple(int(part) for part in google.protobuf.__version__.split("."))
    assert made_for <= here
    assert made_for[0] == here[0]


@pytest.mark.parametrize("source", SOURCES)
def test_every_call_has_a_request_of_its_own(source: str) -> None:
    services = importlib.import_module(f"federation.proto.{source}_pb2").DESCRIPTOR
    (service,) = services.services_by_name.values()
    assert service.methods
    assert [one.input_type.name for one in service.methods] == [
        f"{one.name}Request" for one in service.methods
    ]


def test_there_are_the_services_that_are_known() -> None:
    assert (
        {"door", "members", "registry"} <= set(SOURCES) <= {"door", "members", "registry", "runs"}
    )
