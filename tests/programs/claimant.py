"""A program that wants memory and does not give up: it asks until it is told, whatever dies meanwhile.

`claimant.py http|inbox STATE HOST PORT MIB` reads `reserve NAME` and `release NAME` from its standard input, and writes
`<name> reserved|denied|released` to its standard output. It knows nothing but the standard library and the wire, so
that fifty of them are small.
"""

import json
import os
import socket
import sys
import time
import uuid
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

#: After so long without an answer it asks again.
_SILENCE_S = 2.0
_PAUSE_S = 0.05
_GIVE_UP_S = 40.0


class Wire:
    """One connection to the bus, in RESP2."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SILENCE_S)
        self._socket.connect(path)
        self._file = self._socket.makefile("rb")

    def send(self, *words: str) -> None:
        parts = [b"*%d\r\n" % len(words)]
        for word in (word.encode() for word in words):
            parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
        self._socket.sendall(b"".join(parts))

    def read(self) -> Any:
        """One reply; an error is an exception."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the bus hung up")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+" | b":":
                return rest
            case b"-":
                raise ConnectionError(rest.decode())
            case b"$":
                return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
        return [self.read() for _ in range(int(rest))]

    def ask(self, *words: str) -> Any:
        self.send(*words)
        return self.read()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Inbox:
    """Asks through the inbox, and listens to what the ledger answers."""

    def __init__(self, state: Path, host: str, mib: int, me: dict[str, Any]) -> None:
        self._path, self._host = str(state / "bus.sock"), host
        self._wanted = {"owner": f"claimant-{os.getpid()}", "parts": {"gpu0": mib << 20}, **me}
        self._wires: tuple[Wire, Wire] | None = None
        self._asked: set[str] = set()

    def reserve(self, name: str) -> str:
        return self._until_told("flyball.memory.reserve", {"allocation_id": name, **self._wanted})

    def release(self, name: str) -> str:
        return self._until_told("flyball.memory.release", {"allocation_id": name})

    def _until_told(self, kind: str, data: dict[str, Any]) -> str:
        self._asked.clear()
        while True:
            try:
                ears, mouth = self._wires = self._wires or self._connected()
                request = uuid.uuid4().hex
                self._asked.add(request)
                mouth.ask(*self._entry(request, kind, data))
                return self._outcome(self._answer(ears, request))
            except OSError:
                self._hang_up()
                yield_to_others()

    def _answer(self, ears: Wire, request: str) -> dict[str, Any]:
        """That to the last request: by then those before it have been answered, too."""
        while True:
            answer: dict[str, Any] = json.loads(ears.read()[2])
            if answer["request"] == request:
                return answer

    def _outcome(self, answer: dict[str, Any]) -> str:
        outcome: str = answer["outcome"]
        if outcome == "duplicate":
            return "reserved" if answer["reservation"]["pid"] == os.getpid() else "denied"
        return "released" if outcome in ("unknown", "expired") else outcome

    def _entry(self, request: str, kind: str, data: dict[str, Any]) -> list[str]:
        source = f"{self._host}/claimant"
        fields = {
            "id": request, "type": kind, "source": source, "subject": "", "time": "2026-11-21T12:00:00.000Z",
            "text": "", "data": json.dumps(data),
        }  # fmt: skip
        return [
            "XADD",
            "flyball:inbox:{0}",
            "MAXLEN",
            "~",
            "10000",
            "*",
            *(word for pair in fields.items() for word in pair),
        ]

    def _connected(self) -> tuple[Wire, Wire]:
        ears, mouth = Wire(self._path), Wire(self._path)
        ears.ask("SUBSCRIBE", f"flyball:memory:{self._host}")
        return ears, mouth

    def _hang_up(self) -> None:
        for wire in self._wires or ():
            wire.close()
        self._wires = None


class Http:
    """Asks the API."""

    def __init__(self, state: Path, port: int, mib: int) -> None:
        self._token, self._port, self._mib = state / "token", port, mib

    def reserve(self, name: str) -> str:
        body = {"allocation_id": name, "size_mb": self._mib, "pid": os.getpid()}
        status, answer = self._until_told("allocate", body)
        if status == 201:
            return "reserved"
        there = answer.get("reservation") or {}
        return "reserved" if there.get("pid") == os.getpid() else "denied"

    def release(self, name: str) -> str:
        self._until_told("deallocate", {"allocation_id": name})
        return "released"  # or it was, unheard

    def _until_told(self, what: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        while True:
            try:
                connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
                try:
                    headers = {
                        "Content-Type": "application/json",
                        "Authorization": f"Bearer {self._token.read_text().strip()}",
                    }
                    connection.request("POST", f"/api/gpu/memory/{what}", json.dumps(body), headers)
                    response = connection.getresponse()
                    status, answer = response.status, json.loads(response.read())
                finally:
                    connection.close()
                if status not in (500, 502, 503):
                    return status, answer
            except (OSError, HTTPException, ValueError):
                pass  # it died in the middle of it, and is started again
            yield_to_others()


_since_s = time.monotonic()


def yield_to_others() -> None:
    """Wait a little, and not for ever."""
    if time.monotonic() - _since_s > _GIVE_UP_S:
        sys.exit(f"claimant {os.getpid()} was not told within {_GIVE_UP_S:g} s")
    time.sleep(_PAUSE_S)


def main() -> None:
    """Do what the standard input says."""
    global _since_s  # noqa: PLW0603 - one deadline, for one thing at a time
    kind, state, host, port, mib = sys.argv[1:]
    started_ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    me = {"pid": os.getpid(), "start_time_s": started_ticks / os.sysconf("SC_CLK_TCK")}
    claimant = Http(Path(state), int(port), int(mib)) if kind == "http" else Inbox(Path(state), host, int(mib), me)
    for line in sys.stdin:
        verb, name = line.split()
        _since_s = time.monotonic()
        print(name, claimant.reserve(name) if verb == "reserve" else claimant.release(name), flush=True)


if __name__ == "__main__":
    main()
