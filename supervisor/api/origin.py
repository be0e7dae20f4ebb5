"""Refuses what a page of another origin asks: it may not read our answers, and need not be let try to change anything.

There are no CORS headers, so a browser keeps the answer from such a page; the request itself would still arrive.
"""

from collections.abc import Mapping

from multidict import MultiMapping


def foreign_page(method: str, headers: MultiMapping[str]) -> str:
    """The origin of the page behind a request where that is not ours, as the browser tells; empty otherwise.

    Whoever follows a link to us is let in: a browser shows what it gets, and no page can read it.
    """
    hosts = headers.getall("Host", [])
    for origin in headers.getall("Origin", []):
        if not any(origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") for host in hosts):
            return origin or "an empty origin"
    site = headers.get("Sec-Fetch-Site", "none")
    if site in ("same-origin", "none") or _follows_a_link(method, headers):
        return ""
    return f"a page of {site}"


def _follows_a_link(method: str, headers: Mapping[str, str]) -> bool:
    shown = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return shown and method in ("GET", "HEAD")
