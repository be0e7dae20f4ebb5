"""`/api/status`: the latest state of this host, the same document as `flyball status --json`."""

from collections.abc import Callable

from schemas.status import Status
from supervisor.route import Route


def routes(status: Callable[[], Status]) -> list[Route]:
    """`status` is asked for every request."""
    return [
        Route(
            method="GET",
            path="/api/status",
            summary="The latest state of this host: cards, targets, workloads, handlers, and what is wrong.",
            answer=Status,
            call=lambda asked: status(),
        )
    ]
