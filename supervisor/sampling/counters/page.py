"""Reads figures from a resource over HTTP; what the answer is taken for does not depend on its content type."""

import os
from collections.abc import Callable
from functools import partial
from typing import Final

from supervisor.configuration.counters import CounterSection
from supervisor.masking import masked
from supervisor.sampling.counters import exposition, paths
from supervisor.sampling.counters.aside import Aside
from supervisor.sampling.counters.client import Client
from supervisor.sampling.counters.regular import open_regular
from supervisor.sampling.counters.source import Told, Untold
from supervisor.selector import selector

#: The largest `Authorization` that servers accept.
_LARGEST_AUTHORIZATION: Final = 8192


class PageReader:
    """The `Reader` of the kinds json and prometheus."""

    def __init__(self, section: CounterSection, client: Client) -> None:
        """Uses `client`, which may be others' too."""
        self.name = f"{section.kind} {masked(section.url)}"
        self._section = section
        self._client = client
        self._aside = Aside(section.timeout_s)
        self._figures = _json(section) if section.kind == "json" else _prometheus(section)
        self._body = section.body.encode() if section.body else None
        self._headers = {
            "Accept": "application/json, */*;q=0.1" if section.kind == "json" else "text/plain;version=0.0.4"
        }
        if section.body:
            self._headers["Content-Type"] = "application/json"

    async def open(self) -> None:
        """Open the client."""
        await self._client.open()

    async def read(self) -> Told:
        """Ask once.

        :raises Untold: no figure came.
        """
        section = self._section
        try:
            body = await self._client.fetch(
                section.method or ("POST" if section.body else "GET"), section.url,
                body=self._body, headers=self._headers | await self._authorization(), timeout_s=section.timeout_s,
            )  # fmt: skip
            told = self._figures(body)
        except Untold as error:
            raise Untold(f"{self.name}: {error}") from None
        return Told(tally=told.tally, missing=f"{self.name}: {told.missing}") if told.missing else told

    async def close(self) -> None:
        """Close the client, unless others use it."""
        await self._client.close()

    async def _authorization(self) -> dict[str, str]:
        """Read anew at each poll, for tokens are renewed."""
        file = self._section.authorization_file
        if not file:
            return {}
        try:
            content = await self._aside.look(partial(_content, file))
        except Untold as error:
            raise Untold(f"authorization_file {file}: {error}") from None
        except OSError as error:
            raise Untold(f"authorization_file {file} cannot be read: {error.strerror}") from None
        if not content.isprintable() or not content:
            raise Untold(f"authorization_file {file} does not hold one line of text, such as: Bearer TOKEN")
        return {"Authorization": content}


def _content(file: str) -> str:
    descriptor = open_regular(file)
    try:
        return os.read(descriptor, _LARGEST_AUTHORIZATION).decode("latin-1").strip()
    finally:
        os.close(descriptor)


def _json(section: CounterSection) -> Callable[[bytes], Told]:
    return lambda body: paths.figures(body, section.counts, section.gauges)


def _prometheus(section: CounterSection) -> Callable[[bytes], Told]:
    counts = {name: selector(metric) for name, metric in section.counts.items()}
    gauges = {name: selector(metric) for name, metric in section.gauges.items()}
    return lambda body: exposition.figures(body, counts, gauges)
