"""The door of every command that a handler brings: what it may import from the supervisor besides `supervisor.handler`.

A command is a `click.Command` under the entry point group `flyball.commands`; it is imported only when it is asked for,
so what it needs of the supervisor is imported here when it is first used.
"""

from typing import TYPE_CHECKING, Any

from supervisor.errors import ConfigurationError, FlyballError

if TYPE_CHECKING:
    from supervisor.cli.options import Duration, as_json, configuration, configured
    from supervisor.cli.output import duration, painted, table
    from supervisor.clock import Clock, SystemClock
    from supervisor.configuration.counters import CounterSection
    from supervisor.sampling.counters.assemble import counter_source
    from supervisor.sampling.counters.lines import performance_of_line
    from supervisor.sampling.counters.source import CounterSource, Tally
    from supervisor.sampling.nvml.source import NvmlSource
    from supervisor.sampling.oneprocess import Look, ProcessTree

__all__ = [
    "Clock",
    "ConfigurationError",
    "CounterSection",
    "CounterSource",
    "Duration",
    "FlyballError",
    "Look",
    "NvmlSource",
    "ProcessTree",
    "SystemClock",
    "Tally",
    "as_json",
    "configuration",
    "configured",
    "counter_source",
    "duration",
    "painted",
    "performance_of_line",
    "table",
]

_WHERE = {
    **dict.fromkeys(("Duration", "as_json", "configuration", "configured"), "supervisor.cli.options"),
    **dict.fromkeys(("duration", "painted", "table"), "supervisor.cli.output"),
    **dict.fromkeys(("Clock", "SystemClock"), "supervisor.clock"),
    "CounterSection": "supervisor.configuration.counters",
    "counter_source": "supervisor.sampling.counters.assemble",
    "performance_of_line": "supervisor.sampling.counters.lines",
    **dict.fromkeys(("CounterSource", "Tally"), "supervisor.sampling.counters.source"),
    "NvmlSource": "supervisor.sampling.nvml.source",
    **dict.fromkeys(("Look", "ProcessTree"), "supervisor.sampling.oneprocess"),
}


def __getattr__(name: str) -> Any:
    """Import it when it is first asked for.

    :raises AttributeError: there is no such thing here.
    """
    from importlib import import_module

    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
