"""Make the Python code of `registry.proto`: `python federation/proto/generate.py [FOLDER]`.

The code must load under the pinned protobuf (6.33), whose major version grpcio-tools 1.82 left
behind; so grpcio-tools is held at 1.81 (constraints.txt). tests/architecture/test_proto.py finds
code that is not what this makes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = "federation/proto/registry.proto"
GENERATED = ("registry_pb2.py", "registry_pb2.pyi", "registry_pb2_grpc.py")


def generate(folder: Path) -> None:
    """Write `GENERATED` below `folder`, in federation/proto.

    Raises:
        RuntimeError: the compiler refuses the source.
    """
    from grpc_tools import protoc

    options = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"--proto_path={ROOT}", *options, SOURCE]):
        raise RuntimeError(f"{SOURCE} cannot be compiled")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
