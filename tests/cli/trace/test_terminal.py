"""What is shown while it goes on: a line that is rewritten on a terminal, and hardly anything elsewhere."""

import os
import re

import pytest

from tests.cli.trace.conftest import Trace, program
from tests.cli.trace.test_ending import on_a_terminal

ERASE = b"\r\x1b[K"


def test_a_terminal_has_one_line_that_is_rewritten(trace: Trace) -> None:
    words = program("say(add=1)\ntime.sleep(0.6)\nprint('hello', file=sys.stderr, flush=True)\ntime.sleep(1)")
    said, status = on_a_terminal(trace.words(["-o", str(trace.file), "--interval", "0.1", "--", *words]), b"", b"")
    assert os.waitstatus_to_exitcode(status) == 0
    assert re.search(rb"\r\x1b\[K1 s \xc2\xb7 \d+\.\d MB \xc2\xb7 1 threads \xc2\xb7 \d+ handles \xc2\xb7 add 1", said)
    # what the command says stands on a line of its own
    assert ERASE + b"hello\r\n" in said
    before_verdict = said[: said.index(b"Next: ")]
    lines = before_verdict.split(b"\r\n")
    assert not any(b"handles" in line.rpartition(b"\x1b[K")[2] for line in lines[1:] if b"process" in line)


@pytest.mark.parametrize("quiet", [True, False])
def test_elsewhere_there_is_no_progress_of_a_short_trace(trace: Trace, quiet: bool) -> None:
    words = ["-o", str(trace.file), "--interval", "0.1", *(["--quiet"] if quiet else []), "--", "sleep", "1"]
    shown = trace.run(*words)
    assert "\x1b" not in shown.stderr
    assert "flyball:" not in shown.stderr
