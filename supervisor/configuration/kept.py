"""What was set through the API, kept in the state directory so that it outlives a restart."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.paths import sync_directory

FILE: Final = "api.json"
_LARGEST_FILE: Final = 1024 * 1024


class Kept:
    """The file `api.json`: dotted key → value, for people to read; readable by its owner only."""

    def __init__(self, state: Path) -> None:
        """Nothing is read yet."""
        self.path = state / FILE

    def read(self) -> dict[str, Any]:
        """What is in it; nothing where there is none.

        :raises ConfigurationError: it cannot be read, or is damaged.
        """
        try:
            with self.path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror or error}") from error
        try:
            return msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._unusable(f"is damaged: {error}") from error

    def write(self, values: Mapping[str, Any]) -> None:
        """Put `values` in its place: whole or not at all, whenever we are killed.

        :raises OSError: it cannot be written, and is as it was.
        """
        draft = self.path.with_name(f".{FILE}")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:  # a bare os.write may write less than it is asked to
            file.write(msgspec.json.format(msgspec.json.encode(values, order="sorted"), indent=2) + b"\n")
            file.flush()
            os.fsync(descriptor)
        draft.replace(self.path)
        sync_directory(self.path.parent)

    def _unusable(self, why: str) -> ConfigurationError:
        what = f"{self.path}: {why}; mend it, or remove it, which takes back what was set through the API"
        return ConfigurationError([what], source="what was set through the API")
