"""Every error that Flyball raises on purpose; each says what is wrong, why, and one thing to do.

FlyballError
├── ConfigurationError      exit 2: the configuration, flags or environment; all problems at once
├── StateDirectoryError     exit 2: cannot be created, locked or written
├── HostTaken               exit 2: another supervisor looks after this host
├── BusError
│   ├── BusLost             retryable: the connection broke or timed out; what was sent may or may not have arrived
│   ├── BusRefused          permanent: password, ACL, or a server that is too old
│   ├── BusFull             retryable once there is room: the server is over its memory limit
│   └── Fenced              permanent: another supervisor took the lease; say nothing more
└── SpoolError              the disk spool cannot be written: keep results in memory and try again
"""

from typing import ClassVar


class FlyballError(Exception):
    """Base of all; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        """`what` is wrong, `why` (as far as known), and one thing to do: `hint`."""
        # foreign texts may end with a stop; ours go on, as in "…; starting without it"
        self.what, self.why, self.hint = (part.rstrip(" .") for part in (what, why, hint))
        trouble = ": ".join(part for part in (self.what, self.why) if part)
        super().__init__(f"{trouble}. {self.hint}" if self.hint else trouble)


class ConfigurationError(FlyballError):
    """The configuration cannot be used; `problems` holds all, each `path: what is wrong, what would be right`."""

    exit_code = 2

    def __init__(self, problems: list[str], *, source: str = "configuration") -> None:
        """`source` names the file or layer."""
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source} has {count}:\n  " + "\n  ".join(problems))


class StateDirectoryError(FlyballError):
    """The state directory cannot be created, locked or written."""

    exit_code = 2


class HostTaken(FlyballError):
    """Another supervisor looks after this host; `holder` names it."""

    exit_code = 2

    def __init__(self, holder: str, *, why: str = "", hint: str = "") -> None:
        """`holder` is a phrase such as `pid 812 of gpu-box since 12:03`."""
        self.holder = holder
        super().__init__(f"this host already has a supervisor: {holder}", why=why, hint=hint)


class BusError(FlyballError):
    """Something about the bus."""


class BusLost(BusError):
    """The connection broke or timed out; what was sent may or may not have arrived."""


class BusRefused(BusError):
    """The server refuses us for good: password, ACL, or too old."""

    exit_code = 2


class BusFull(BusError):
    """The server is over its memory limit and refused the write."""


class Fenced(BusError):
    """Another supervisor took the lease of this host; nothing more may be said."""

    exit_code = 2


class SpoolError(FlyballError):
    """The disk spool cannot be read or written; what was to be added is not in it."""
