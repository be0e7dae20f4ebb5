"""Which addresses are this machine's own: what listens there is reached by nobody else."""

from typing import Final

#: Names and addresses that need no further thought, nor a resolver.
_USUAL: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def is_loopback(host: str) -> bool:
    """Whether `host` is in 127.0.0.0/8, `::1` or `localhost`; no other name is believed, whatever it resolves to."""
    if host.lower() in _USUAL:
        return True
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
