"""What can be told of a process, also where the kernel hides those of others."""

import os
from pathlib import Path

import pytest

from handlers.memory import effects


def test_this_process_lives_since_it_started() -> None:
    started_s = effects.start_time_s(os.getpid())
    assert started_s is not None and effects.lives(os.getpid(), started_s)
    assert not effects.lives(os.getpid(), started_s + 1)


def test_a_process_that_may_not_be_read_is_hidden_and_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under hidepid=1, where /proc shows a process of another user and lets nobody look into it."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert effects.start_time_s(1) is None
    assert effects.lives(1)
