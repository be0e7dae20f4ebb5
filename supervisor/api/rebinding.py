"""Refuses what a page of elsewhere asks through a name that it has bound to this machine (DNS rebinding).

A browser keeps pages apart by name, not by address: `evil.example`, resolved to 127.0.0.1, may read what we answer. The
Host header then still says evil.example, so only the names that this machine is known by are served. An address in its
place was bound by nobody; where others may ask, they may ask by address.
"""

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from urllib.parse import urlsplit

from supervisor.loopback import is_loopback


def known_hosts(names: Collection[str], *, addresses: bool) -> Callable[[Iterable[str]], str]:
    """What tells the first Host header that is none of ours, empty where all are; without one it is no browser.

    Those of loopback are ours, `names` too, and with `addresses` every address.
    """
    known = {name.lower() for name in names}

    @lru_cache(128)
    def is_ours(host: str) -> bool:
        name = name_in(host)
        return name in known or is_loopback(name) or (addresses and _is_address(name))

    def stranger(hosts: Iterable[str]) -> str:
        return next((host or "an empty name" for host in hosts if len(host) > 300 or not is_ours(host)), "")

    return stranger


def name_in(host: str) -> str:
    """The name in `name:port` or `[address]:port`, in lower case; empty where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    from ipaddress import ip_address

    try:
        ip_address(name)
    except ValueError:
        return False
    return True
