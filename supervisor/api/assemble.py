"""Puts the contents of the HTTP API of a daemon together: its own resources, and those that its handlers bring."""

from collections.abc import Callable, Sequence
from functools import partial
from logging import getLogger
from typing import Final

from msgspec import Struct

from supervisor.api import events, metrics
from supervisor.api.adapter import Facts
from supervisor.api.brought import brought
from supervisor.api.feed import Feed
from supervisor.api.guard import access
from supervisor.api.server import Contents
from supervisor.api.table import own_routes
from supervisor.api.token import Token
from supervisor.bus.connection import Connection
from supervisor.bus.keys import events_key
from supervisor.config import Config
from supervisor.handler import Handler
from supervisor.loopback import is_loopback
from supervisor.runtime.commands import Commands
from supervisor.runtime.desk import Desk
from supervisor.runtime.live import Live
from supervisor.runtime.monitoring import Monitoring
from supervisor.runtime.status import STALE_INTERVALS, Parts, current_status, not_ready
from supervisor.runtime.targets import Targets

_log: Final = getLogger(__name__)


class Sources(Struct, frozen=True, kw_only=True):
    """What the resources show and change; `connect` makes a connection to the bus."""

    config: Config
    parts: Parts
    handlers: Sequence[Handler]
    desk: Desk
    live: Live
    monitoring: Monitoring
    connect: Callable[[], Connection]
    token: Token


def contents(sources: Sources) -> Contents:
    """All that the server shows."""
    parts, api, shard = sources.parts, sources.config.api, sources.config.bus.shard
    clock, live = parts.clock, sources.live
    status = partial(current_status, parts)
    feed = Feed(sources.connect, events_key(shard), clock)
    own = own_routes(
        status=status, standing=Targets(parts), ask=Commands(sources.connect, parts.host, shard, clock).ask,
        monotonic_s=clock.monotonic, live=live, monitoring=sources.monitoring,
    )  # fmt: skip

    def stale_after_s() -> float:
        return STALE_INTERVALS * live.config.sampling.interval_s

    if not is_loopback(api.host):
        _log.warning("the API listens at %s unencrypted; let others in through a proxy with TLS", api.host)
    return Contents(
        facts=Facts(latest=parts.latest, settings=lambda: live.settings),
        ready=partial(not_ready, parts),
        routes=[*((route, None) for route in own), *brought(sources.handlers, own, sources.desk.decide)],
        plain=[*events.routes(feed), *metrics.routes(status, stale_after_s, dcgm_names=api.dcgm_metrics)],
        access=access(api, sources.token),
        closing=[feed.close],
    )
