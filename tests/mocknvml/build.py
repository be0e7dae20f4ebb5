"""Compiles the mock driver library, once for each version of its source."""

import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_name("nvml.c")
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-Wl,-soname,libnvidia-ml.so.1")
#: pytest's own cache directory, so that it is ignored and cleaned like the rest of it.
_CACHE: Final = Path(__file__).parents[2] / ".pytest_cache" / "d" / "mocknvml"


def build_library(cache: Path = _CACHE) -> Path:
    """The directory that holds `libnvidia-ml.so.1`, for LD_LIBRARY_PATH; compiled with gcc if it is not there yet.

    Builds are kept in `cache` by the digest of source, flags and machine. Safe to call from several processes at once.

    :raises FileNotFoundError: without gcc.
    :raises subprocess.CalledProcessError: when the source does not compile.
    """
    inputs = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), platform.machine().encode())
    directory = cache / hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]
    library = directory / "libnvidia-ml.so.1"
    if not library.exists():
        directory.mkdir(parents=True, exist_ok=True)
        fresh = directory / f".{os.getpid()}.so"
        subprocess.run(["gcc", *_FLAGS, "-o", str(fresh), str(_SOURCE)], check=True)
        fresh.replace(library)
    return directory
