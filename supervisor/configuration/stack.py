"""The configuration of a running daemon: all layers, the API's on top; each change gives another stack."""

from collections.abc import Mapping
from typing import Any, Self

from msgspec import Struct

from schemas.config import Origin
from supervisor.config import Config
from supervisor.configuration.kept import Kept
from supervisor.configuration.layers import Effective, Layers, Sources


class Stack(Struct, frozen=True):
    """What was read, what was set through the API (`values`, by dotted key), and what the two come to."""

    sources: Sources
    kept: Kept
    layers: Layers
    values: Mapping[str, Any]
    effective: Effective

    @classmethod
    def read(cls, sources: Sources, kept: Kept) -> Self:
        """Everything anew.

        :raises ConfigurationError: with every problem of every layer.
        """
        layers, values = sources.read(), kept.read()
        return cls(sources, kept, layers, values, layers.under(values, str(kept.path)))

    @property
    def config(self) -> Config:
        """What all layers come to."""
        return self.effective.config

    def origin(self, key: str) -> Origin:
        """Where the value of a dotted key came from."""
        return self.effective.origin(key)

    def reread(self) -> Self:
        """With the file as it is now; environment, command line and what was set through the API are as they were.

        :raises ConfigurationError: with every problem.
        """
        layers = self.sources.read()
        return type(self)(self.sources, self.kept, layers, self.values, layers.under(self.values, str(self.kept.path)))

    def asked(self, wishes: Mapping[str, Any]) -> Self:
        """With other values of the API, by dotted key; None takes one back.

        :raises ConfigurationError: with every problem.
        """
        values = {key: value for key, value in {**self.values, **wishes}.items() if value is not None}
        effective = self.layers.under(values, str(self.kept.path), asked=True)
        return type(self)(self.sources, self.kept, self.layers, values, effective)
