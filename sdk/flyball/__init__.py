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

from flyball.wire import Action, Cleanup, Directive, OnSilence
from flyball.workload import VERSION, Workload

__all__ = ["Action", "Cleanup", "Directive", "OnSilence", "Workload", "__version__"]

__version__ = VERSION
