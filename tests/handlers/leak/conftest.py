"""The world of the runtime's tests."""

from tests.runtime.conftest import lasting_server, world

__all__ = ["lasting_server", "world"]
