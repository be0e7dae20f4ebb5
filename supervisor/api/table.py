"""The routes that the supervisor itself brings; those of the handlers come beside them."""

from collections.abc import Callable, Sequence

from schemas.status import Status
from supervisor.api import gpu, settings, state, targets
from supervisor.api import monitoring as switch
from supervisor.route import Route
from supervisor.runtime.live import Live
from supervisor.runtime.monitoring import Monitoring


def own_routes(
    *,
    status: Callable[[], Status],
    standing: gpu.Targets,
    ask: targets.Ask,
    monotonic_s: Callable[[], float],
    live: Live,
    monitoring: Monitoring,
) -> Sequence[Route]:
    """All of them, from what each module's `routes` asks for."""
    return [
        *state.routes(status),
        *gpu.routes(standing, monotonic_s),
        *targets.routes(ask),
        *settings.routes(live),
        *switch.routes(monitoring),
    ]
