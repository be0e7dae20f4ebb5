"""The server-side functions: loaded as a library, or as scripts where the server has no FUNCTION (before Redis 7)."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

#: One text, in this order.
_FILES: Final = ("flyball.lua", "ledger.lua")
FUNCTIONS: Final = ("acquire", "renew", "report", "publish", "commit", "announce")


class Script(NamedTuple):
    """One function: its name in the library, and its text and digest for EVALSHA."""

    function: str
    text: str
    sha1: str


@cache
def library() -> str:
    """The text for FUNCTION LOAD; the name carries a digest, so two versions of Flyball can share a server.

    `allow-oom`: a sample or a decision is never refused for lack of memory; housekeeping trims at 80 % instead.
    """
    body, name = _body(), library_name()
    registered = (
        f"redis.register_function{{function_name='{name}_{function}', callback={function}, flags={{'allow-oom'}}}}"
        for function in FUNCTIONS
    )
    return "\n".join([f"#!lua name={name}", body, *registered])


@cache
def scripts() -> dict[str, Script]:
    """Every function by name."""
    made = {}
    for function in FUNCTIONS:
        text = f"{_body()}\nreturn {function}(KEYS, ARGV)"
        sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        made[function] = Script(f"{library_name()}_{function}", text, sha1)
    return made


@cache
def _body() -> str:
    return "\n".join(files("supervisor.bus").joinpath(name).read_text("utf-8") for name in _FILES)


def library_name() -> str:
    """The name under which FUNCTION LIST shows it."""
    return "flyball_" + hashlib.sha1(_body().encode(), usedforsecurity=False).hexdigest()[:8]
