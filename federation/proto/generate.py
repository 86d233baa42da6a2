"""Make the Python code of every `.proto` beside this file: `python generate.py [FOLDER]`.

The code must load under the pinned protobuf (6.33), whose major version grpcio-tools 1.82 left
behind; so grpcio-tools is held at 1.81 (constraints.txt). tests/architecture/test_proto.py finds
code that is not what this makes.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.proto")))
GENERATED = tuple(
    f"{source}{ending}" for source in SOURCES for ending in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
)


def generate(folder: Path) -> None:
    """Write `GENERATED` below `folder`, in federation/proto.

    Raises:
        RuntimeError: the compiler refuses a source.
    """
    options = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    sources = [f"federation/proto/{source}.proto" for source in SOURCES]
    # in a process of its own: where the compiler was loaded, loading TenSEAL may end the process
    compiler = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT}"]
    if subprocess.run([*compiler, *options, *sources], check=False).returncode:  # noqa: S603
        raise RuntimeError(f"{', '.join(sources)} cannot be compiled")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
