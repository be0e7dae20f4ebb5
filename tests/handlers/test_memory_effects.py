"""What can be told of a process that asks for memory, also where the kernel hides those of others."""

import os
from pathlib import Path

import pytest

from handlers.memory.effects import start_time_s
from supervisor.process import process_start_s


def test_a_process_started_when_a_sample_says() -> None:
    assert start_time_s(os.getpid()) == process_start_s(os.getpid()) is not None
    assert start_time_s(4_999_812) is None


def test_one_that_may_not_be_read_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert start_time_s(1) is None
