"""Argument lists that are really run."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from handlers.restart.effects import OUTPUT_BYTES, environment, run


async def test_what_ends_well_says_nothing() -> None:
    assert await run(["true"], 5.0) == ""


async def test_what_fails_is_told_with_its_last_words() -> None:
    said = await run(["sh", "-c", "echo so far so good; echo no such unit >&2; exit 3"], 5.0)
    assert said == "'sh' ended with code 3: so far so good no such unit"


async def test_what_is_not_there_or_may_not_be_run_is_told(tmp_path: Path) -> None:
    assert await run(["/no/such/program"], 5.0) == "'/no/such/program' cannot be run: No such file or directory"
    (tmp_path / "x").write_text("")
    assert "Permission denied" in await run([str(tmp_path / "x")], 5.0)
    assert "cannot be run" in await run(["a\0b"], 5.0)


async def test_nothing_is_read_by_a_shell(tmp_path: Path) -> None:
    said = await run([sys.executable, "-c", "import sys; sys.exit(sys.argv[1])", f"$(touch {tmp_path}/x); `id`"], 5.0)
    assert said.endswith(f"ended with code 1: $(touch {tmp_path}/x); `id`")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    said = await run(["sh", "-c", f"sleep 60 & echo $! > {child}; echo waiting; wait"], 0.5)
    assert said.startswith("'sh' was killed because it took longer than 0.5 s; it must come back")
    assert said.endswith(": waiting")
    assert _is_gone(int(child.read_text()))


async def test_what_it_leaves_in_the_background_lives_on_and_may_write(tmp_path: Path) -> None:
    script = "(while ! test -e go; do sleep 0.02; done; echo late && echo late >&2 && echo $? > wrote) &"
    assert await run(["sh", "-c", f"cd {tmp_path}; {script}"], 5.0) == ""
    (tmp_path / "go").touch()
    for _ in range(500):
        if (tmp_path / "wrote").exists() and (tmp_path / "wrote").read_text():
            break
        await asyncio.sleep(0.01)
    assert (tmp_path / "wrote").read_text() == "0\n"


async def test_a_flood_of_words_fills_nothing() -> None:
    flood = f"import os\nfor n in range(100): os.write(1, b'x' * {OUTPUT_BYTES // 10})"
    said = await run([sys.executable, "-c", flood], 10.0)
    assert "ended with code 1" in said  # what it may not write is an error of its own
    assert len(said) < 500


async def test_secrets_are_neither_passed_on_nor_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYBALL_BUS__URL", "redis://:hidden@h")
    assert await run(["sh", "-c", 'test -z "$FLYBALL_BUS__URL" && test -n "$PATH"'], 5.0) == ""
    assert "hidden" not in await run(["sh", "-c", "echo redis://:hidden@h; exit 1"], 5.0)
    said = await run(["sh", "-c", "echo 'API_KEY=hidden --token=hidden url?Secret=hidden&x=1'; exit 1"], 5.0)
    assert said.endswith(": API_KEY=*** --token=*** url?Secret=***&x=1")
    assert environment({"PATH": "p", "LC_ALL": "C", "TOKEN": "x"}) == {"PATH": "p", "LC_ALL": "C"}


async def test_it_is_in_a_session_of_its_own() -> None:
    code = f"import os, sys; sys.exit(0 if os.getsid(0) == os.getpid() != {os.getsid(0)} else 1)"
    assert await run([sys.executable, "-c", code], 5.0) == ""


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
