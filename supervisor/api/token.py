"""The bearer token: made at the first start, kept in the state directory, and never logged."""

import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from supervisor.errors import StateDirectoryError
from supervisor.paths import sync_directory

FILE: Final = "token"
#: What RFC 6750 lets stand behind `Bearer`; shorter ones can be guessed.
_USABLE: Final = re.compile(r"[A-Za-z0-9._~+/-]{20,512}=*")
_SCHEME: Final = "bearer "


class Token:
    """A token and where it lies; `str()` and errors show the place alone."""

    def __init__(self, path: Path, text: str) -> None:
        """The token `text` of the file `path`."""
        self.path = path
        self._expected = text.encode()

    def __repr__(self) -> str:
        return f"Token({str(self.path)!r})"

    def opens(self, authorization: str) -> bool:
        """Whether the header `authorization` holds it; how long that takes says nothing about the token."""
        scheme, given = authorization[: len(_SCHEME)], authorization[len(_SCHEME) :]
        fits = hmac.compare_digest(given.strip(" ").encode(errors="replace"), self._expected)
        return fits and scheme.lower() == _SCHEME


def kept_token(state: Path) -> Token:
    """The token in the state directory `state`; made at first, whole or not there, whenever all ends.

    :raises StateDirectoryError: it cannot be read or written, or what lies there is none.
    """
    path = state / FILE
    try:
        if not path.exists():
            _make(path)
        _keep_private(path)
        text = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not ASCII"
        raise StateDirectoryError(f"the token of the API in {path} cannot be used", why=why, hint=_HINT) from error
    if not _USABLE.fullmatch(text):
        why = "it is not 20 to 512 of the characters A-Z a-z 0-9 . _ ~ + / -"
        raise StateDirectoryError(f"the token of the API in {path} cannot be used", why=why, hint=_HINT)
    return Token(path, text)


_HINT: Final = "Delete the file, and the next start makes another token"


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe() + "\n")
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
    sync_directory(path.parent)


def _keep_private(path: Path) -> None:
    """Nobody else may read it: it is mended, since whoever could read it until now is not told apart."""
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
