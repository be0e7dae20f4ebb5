"""A workload of its own that does nothing but hear: it writes when its callback was called to the descriptor it got.

FLYBALL_URL=… python -m bench.listener DESCRIPTOR HOST
"""

import os
import struct
import sys
import time
from typing import Final

import flyball

#: seconds of CLOCK_MONOTONIC, which all processes share
STAMP: Final = struct.Struct("d")


def main(descriptor: int, host: str) -> None:
    """Listen until standard input ends."""
    with flyball.Workload("listener", gpus=[0], host=host, host_memory=False) as workload:
        workload.on_change(lambda directive: os.write(descriptor, STAMP.pack(time.monotonic())))
        os.write(descriptor, STAMP.pack(0.0))
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
