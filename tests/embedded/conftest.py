"""Real servers for the tests of this room."""

from tests.busservers import bus_server

__all__ = ["bus_server"]
