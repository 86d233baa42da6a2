"""The committed code of the wire is what its definition makes, and loads under what is pinned."""

import re
from pathlib import Path

import google.protobuf
import pytest

from federation.proto import registry_pb2
from federation.proto.generate import GENERATED, ROOT, generate

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


def test_the_code_is_not_newer_than_the_protobuf_that_is_pinned() -> None:
    text = (PROTO / "registry_pb2.py").read_text()
    found = re.search(r"Protobuf Python Version: ([0-9.]+)", text)
    assert found is not None
    made_for = tuple(int(part) for part in found[1].split("."))
    here = tuple(int(part) for part in google.protobuf.__version__.split("."))
    assert made_for <= here
    assert made_for[0] == here[0]


def test_every_call_has_a_request_of_its_own() -> None:
    methods = registry_pb2.DESCRIPTOR.services_by_name["Registry"].methods
    assert [one.input_type.name for one in methods] == [f"{one.name}Request" for one in methods]
