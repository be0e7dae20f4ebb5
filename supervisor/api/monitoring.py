"""`/api/gpu/monitoring/start` and `…/stop`: whether GPUs are read."""

from typing import Annotated

from msgspec import Meta, Struct

from supervisor.route import Asked, Example, Route
from supervisor.runtime.monitoring import Monitoring, MonitoringState


class MonitoringRequest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why, for those who find it so."""

    reason: Annotated[
        str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)", description="text without line breaks")
    ] = ""


def routes(monitoring: Monitoring) -> list[Route]:
    """Both answer how it is now, and since when; asked for what is so already, nothing changes."""

    def start(asked: Asked) -> MonitoringState:
        return monitoring.start(asked.who, asked.body.reason)

    def stop(asked: Asked) -> MonitoringState:
        return monitoring.stop(asked.who, asked.body.reason)

    return [
        Route(
            method="POST", path="/api/gpu/monitoring/start", summary="Read GPUs again, after they were not to be read.",
            body=MonitoringRequest, answer=MonitoringState, call=start,
            example=Example(body=MonitoringRequest(reason="the driver was updated")),
        ),
        Route(
            method="POST", path="/api/gpu/monitoring/stop",
            summary="Read no GPU until it is started again: every card is BLIND, and nothing speeds up.",
            body=MonitoringRequest, answer=MonitoringState, call=stop,
        ),
    ]  # fmt: skip
