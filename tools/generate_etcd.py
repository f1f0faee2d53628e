"""Makes rpc_pb2.py and rpc_pb2.pyi of the etcd store anew, from the rpc.proto beside them.

It takes grpcio-tools, which nothing else needs: `.tools/bin/uv run --no-project --with grpcio-tools==1.71.2
tools/generate_etcd.py`. That version, because what it makes runs with protobuf 5.29, our oldest, and with
all later ones; what a newer one makes does not run with an older library.
"""

from __future__ import annotations

import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"
PROTO = "headcount/stores/etcd/rpc.proto"


def main() -> int:
    from grpc_tools import protoc

    return int(protoc.main(["protoc", f"-I{SOURCE}", f"--python_out={SOURCE}", f"--pyi_out={SOURCE}", PROTO]))


if __name__ == "__main__":
    sys.exit(main())
