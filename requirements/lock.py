"""Write requirements/*.lock anew from requirements/*.in with uv: `python3 requirements/lock.py [--upgrade] [NAME…]`.

A lock holds versions and hashes for every platform and no address, so that it works with whatever package index a user
has configured. Its first line carries a digest of its inputs: `is_stale` tells without a network whether someone
changed an input and forgot the lock.
Versions that still fit are kept; `--upgrade` takes the newest of everything.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
OLDEST_PYTHON = "3.11"
# In this order: test.in is constrained by run.lock.
LOCKS = {"run": ["build.in", "run.in"], "test": ["test.in"], "bench": ["bench.in"]}


def inputs(name: str) -> list[Path]:
    """The files that decide what is in the lock `name`, those that they include or are constrained by among them."""
    found: dict[Path, None] = {}

    def visit(path: Path) -> Iterator[Path]:
        yield path
        for line in path.read_text().splitlines():
            if include := re.match(r"-[rc]\s+(\S+)", line):
                yield from visit(path.parent / include[1])

    for source in LOCKS[name]:
        found.update(dict.fromkeys(visit(HERE / source)))
    return list(found)


def header(name: str) -> str:
    """The first line that a fresh lock `name` has."""
    digest = hashlib.sha256()
    for path in inputs(name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"# Written by requirements/lock.py from inputs with sha256 {digest.hexdigest()}"


def is_stale(name: str) -> bool:
    """Whether an input of the lock `name` has changed since the lock was written."""
    return (HERE / f"{name}.lock").read_text().partition("\n")[0] != header(name)


def write(name: str, uv: str, *, upgrade: bool) -> None:
    """Resolve the inputs of `name` and write its lock.

    :raises subprocess.CalledProcessError: uv found no set of versions that fits, or no index.
    """
    lock = HERE / f"{name}.lock"
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes"]
    command += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", "--output-file", lock.name]
    command += ["--upgrade"] if upgrade else []
    subprocess.run([*command, *LOCKS[name]], cwd=HERE, check=True, stdout=subprocess.DEVNULL)
    lock.write_text(f"{header(name)}\n{lock.read_text()}")


def main() -> int:
    """Write the locks that the command line names, all by default."""
    parser = argparse.ArgumentParser(description="Write requirements/*.lock anew from requirements/*.in with uv.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(LOCKS)}; all by default")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those that still fit")
    options = parser.parse_args()
    if unknown := set(options.names) - set(LOCKS):
        parser.error(f"no lock is called {', '.join(sorted(unknown))}; there are {', '.join(LOCKS)}")
    uv = shutil.which("uv")
    if uv is None:
        print("lock.py: uv resolves the versions and is not on PATH; try: pipx install uv", file=sys.stderr)
        return 1
    for name in LOCKS:
        if name in options.names or not options.names:
            try:
                write(name, uv, upgrade=options.upgrade)
            except subprocess.CalledProcessError as error:
                print(
                    f"lock.py: uv could not resolve {name}.lock (exit {error.returncode}); its reason is above",
                    file=sys.stderr,
                )
                return 1
            print(f"requirements/{name}.lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
