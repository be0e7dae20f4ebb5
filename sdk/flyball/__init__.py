"""Flyball's workload SDK: a program that uses a GPU hears when it should slow down, pause or free memory, and does so.

```python
import flyball

with flyball.Workload("trainer", gpus=[0]) as workload:
    for batch in workload.pace(batches):
        train(batch)
```

Without a supervisor it costs one warning (logger `flyball`) and nothing else: full speed, and never an exception.
Nothing happens at import; the Redis client is imported once a bus was found.
"""

from flyball.orders import State
from flyball.reservation import MemoryUnavailable, Reservation, reserve
from flyball.supply import available
from flyball.wire import Action, Cleanup, Directive, LedgerAnswer, OnSilence
from flyball.workload import VERSION, Workload

__all__ = [
    "Action", "Cleanup", "Directive", "LedgerAnswer", "MemoryUnavailable", "OnSilence", "Reservation", "State",
    "Workload", "__version__", "available", "reserve",
]  # fmt: skip

__version__ = VERSION
