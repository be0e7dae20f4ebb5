"""The redis-cli line with which a person reaches the bus."""

from shlex import quote
from urllib.parse import parse_qs, unquote, urlsplit


def line(url: str, *, ask_password: bool = False) -> str:
    """A redis-cli line that reaches the bus at `url`, without its password; a command is to be put behind it.

    Its `-u` takes a lone user name for a password, so the parts stand as options.

    >>> line("redis://flyball:hunter2@box:6379/3", ask_password=True)
    'redis-cli -h box -p 6379 -n 3 --user flyball --askpass'
    """
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    database = options.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    user = unquote(parts.username or "") or options.get("username", "")
    words = ["redis-cli"]
    if parts.scheme == "unix":
        words += ["-s", quote(unquote(parts.path))]
    else:
        words += ["-h", quote(parts.hostname or "localhost"), "-p", str(parts.port or 6379)]
        words += ["--tls"] if parts.scheme == "rediss" else []
    if database and database != "0":
        words += ["-n", quote(database)]
    if user:
        words += ["--user", quote(user)]
    return " ".join([*words, *(["--askpass"] if ask_password else [])])
