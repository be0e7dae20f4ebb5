"""schemathesis, a program of its own, over the OpenAPI document of a running daemon: all checks that it has."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CONFIGURATION: Final = Path(__file__).parent / "schemathesis.toml"
_COMMAND: Final = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"


def fuzz(
    url: str, token: str, examples: int, *, seed: int | None = None, within_s: float
) -> subprocess.CompletedProcess[str]:
    """Try `examples` requests of each operation, beside those that are to be tried of each; exit code 0: none failed.

    :raises subprocess.TimeoutExpired: it takes longer than `within_s`.
    """
    seeded = [] if seed is None else [f"--seed={seed}"]
    with tempfile.TemporaryDirectory() as directory:  # it keeps what it found where it runs
        return subprocess.run(
            [
                sys.executable, "-c", _COMMAND, f"--config-file={CONFIGURATION}", "run", f"{url}/openapi.json",
                "--checks=all", f"--max-examples={examples}", f"--header=Authorization:Bearer {token}", "--no-color",
                *seeded,
            ],
            cwd=directory, capture_output=True, text=True, timeout=within_s, check=False,
        )  # fmt: skip
