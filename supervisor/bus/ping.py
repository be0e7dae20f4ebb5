"""One question to a server on a unix socket, in the plain protocol, before there is a client."""

import asyncio
from pathlib import Path
from typing import Final

__all__ = ["ask", "is_listening"]

_LONGEST_REPLY: Final = 1 << 20


async def ask(path: Path, *words: str, timeout_s: float = 1.0) -> str | None:
    """The reply to the command `words`: a simple reply with its mark (`+PONG`, `-LOADING …`), or a bulk reply's text.

    None where nobody answers, or not within `timeout_s`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LONGEST_REPLY)
            try:
                writer.write(b"*%d\r\n" % len(words))
                writer.writelines(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
                reply = (await reader.readuntil(b"\r\n"))[:-2]
                if reply.startswith(b"$"):
                    reply = await reader.readexactly(int(reply[1:]))
            finally:
                writer.close()
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
        return None
    return reply.decode(errors="replace")


async def is_listening(path: Path, *, timeout_s: float = 1.0) -> bool:
    """Whether any process takes connections on the socket `path`, whatever it speaks."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:  # its queue is full, or it does not let us in
        return True
    writer.close()
    return True
