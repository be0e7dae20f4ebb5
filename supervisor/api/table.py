"""The routes that the supervisor itself brings; those of the handlers come beside them."""

from collections.abc import Callable, Sequence

from schemas.status import Status
from supervisor.api import gpu, state, targets
from supervisor.route import Route


def own_routes(
    *, status: Callable[[], Status], standing: gpu.Targets, ask: targets.Ask, monotonic_s: Callable[[], float]
) -> Sequence[Route]:
    """All of them, from what each module's `routes` asks for."""
    return [*state.routes(status), *gpu.routes(standing, monotonic_s), *targets.routes(ask)]
