"""Keeps passwords out of whatever people or other programs may read."""

import re
from typing import Final

_SECRET_NAME: Final = re.compile(r"(^|_)(password|passphrase|secret|token)$")
_QUERY_SECRET: Final = re.compile(r"(?i)((?:password|secret|token|key)=)[^&\s]*")
_CREDENTIALS: Final = re.compile(r"(?s)^(.*?://)?.*@")


def masked(text: str) -> str:
    """`text` without what may be a password: everything before the last `@`, and in a query `password=…` or a key's.

    >>> masked("redis://flyball:hunter2@box:6379/0")
    'redis://***@box:6379/0'
    """
    return _QUERY_SECRET.sub(r"\1***", _CREDENTIALS.sub(r"\1***@", text))


def is_secret(key: str) -> bool:
    """Whether the value of a field of this name is never shown."""
    return _SECRET_NAME.search(key) is not None
