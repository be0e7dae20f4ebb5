"""The server of the tests of one resource."""

from collections.abc import AsyncIterator

import pytest

from tests.sampling_counters.serving import Server, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Answers with an empty body until told otherwise."""
    async with serving() as server:
        yield server
