"""How much of its time a program may be watched, whoever asks: on some buses that is anybody."""

from typing import Final

#: In a minute, about; three of the longest looks. A look that has begun is not cut short.
BUDGET_S: Final = 15.0
_PERIOD_S: Final = 60.0


class Budget:
    """The looks of the last minute; all times are CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        """Nothing is spent."""
        self._looks: list[tuple[float, float]] = []

    def spend(self, began_s: float, ended_s: float) -> None:
        """A look."""
        self._looks.append((began_s, ended_s))

    def wait_s(self, now_s: float) -> float:
        """How long until there is some left; 0 where there is."""
        self._looks = [look for look in self._looks if look[1] + _PERIOD_S > now_s]
        spent_s, until_s = sum(ended_s - began_s for began_s, ended_s in self._looks), now_s
        for began_s, ended_s in self._looks:
            if spent_s < BUDGET_S:
                break
            spent_s -= ended_s - began_s
            until_s = ended_s + _PERIOD_S
        return until_s - now_s
