"""The daemon and its bus are killed in turn, and no promise is broken; `tests/shows/kills.py` does it 20 times."""

import pytest

from tests.shows import kills
from tests.tools import require_tool


@pytest.mark.parametrize("seed", [1, 2])
def test_no_kill_breaks_a_promise(seed: int) -> None:
    """Six kills at any moment; each time it goes on, and nothing is missing, doubled or contradicted in the end."""
    require_tool("gcc")
    said: list[str] = []
    kills.play(6, said.append, seed=seed)
    assert sum(line.startswith("kill ") for line in said) == 6
