"""Who is let in: names of this machine, no pages of elsewhere, and the token where it is needed."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.api.guard import Access, access
from supervisor.api.token import Token, kept_token
from supervisor.config import ApiSection
from supervisor.errors import StateDirectoryError
from supervisor.route import Asked, Nothing, Route
from tests.api.serving import Host, answer, serving

TOKEN = "0123456789abcdefghij-_.~+/=="
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def acted(asked: Asked) -> Nothing:
    return Nothing()


ACT = Route(method="POST", path="/api/act", summary="Acts.", answer=Nothing, call=acted)


@pytest.fixture
def token(tmp_path: Path) -> Token:
    return Token(tmp_path / "token", TOKEN)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(Host([ACT])) as server, aiohttp.ClientSession(server.url) as session:
        yield session


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:8470", "192.0.2.1", "127.0.0.1.evil.example", "", "[", "a@b", "x" * 5_000],
)
async def test_a_page_of_elsewhere_that_was_bound_to_this_machine_is_refused(
    client: aiohttp.ClientSession, name: str
) -> None:
    code, media_type, document = await answer(client, "/api/status", headers={"Host": name})
    assert (code, media_type, document["title"]) == (403, "application/problem+json", "Forbidden")
    assert "127.0.0.1, localhost; api.names adds others" in document["detail"]
    assert "box" not in str(document)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "127.8.8.8", "[::1]:8470"])
async def test_every_name_of_this_machine_is_served(client: aiohttp.ClientSession, name: str) -> None:
    assert (await answer(client, "/api/status", headers={"Host": name}))[0] == 200


@pytest.mark.parametrize(
    ("settings", "served", "refused"),
    [
        (ApiSection(names=("Gpu.example",)), ["gpu.example", "GPU.example:80", "localhost"], ["box", "192.0.2.1"]),
        (ApiSection(host="box"), ["box:8470", "192.0.2.1", "[2001:db8::1]:1", "127.0.0.1"], ["evil.example"]),
        (
            ApiSection(host="0.0.0.0", names=("box",)),
            ["box", "10.0.0.7:8470"],
            ["evil.example", "10.0.0.7.evil.example"],
        ),
    ],
)
async def test_the_configuration_adds_names(
    token: Token, settings: ApiSection, served: list[str], refused: list[str]
) -> None:
    """Where others may ask, they may ask by address: nobody can bind a name to it."""
    async with serving(Host(access=access(settings, token))) as server, aiohttp.ClientSession(server.url) as client:
        for name in served:
            assert (await answer(client, "/api/status", headers={"Host": name, **RIGHT}))[0] == 200, name
        for name in refused:
            assert (await answer(client, "/api/status", headers={"Host": name, **RIGHT}))[0] == 403, name


# -- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost:1", "ftp://localhost:8470"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_a_page_of_another_origin_is_refused(client: aiohttp.ClientSession, method: str, origin: str) -> None:
    path = "/api/act" if method == "POST" else "/api/status"
    async with client.request(method, path, headers={"Host": "localhost:8470", "Origin": origin}) as response:
        assert response.status == 403
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert "is not the origin of this server" in (await response.json(content_type=None))["detail"]


@pytest.mark.parametrize("origin", ["http://localhost:8470", "https://LOCALHOST:8470"])
async def test_our_own_page_is_served(client: aiohttp.ClientSession, origin: str) -> None:
    headers = {"Host": "localhost:8470", "Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert (await answer(client, "/api/act", "POST", headers=headers))[0] == 200


@pytest.mark.parametrize(
    ("fetch", "code"),
    [
        ({"Site": "cross-site", "Mode": "no-cors", "Dest": "image"}, 403),
        ({"Site": "same-site", "Mode": "cors", "Dest": "empty"}, 403),
        ({"Site": "cross-site", "Mode": "navigate", "Dest": "iframe"}, 403),
        ({"Site": "cross-site", "Mode": "navigate", "Dest": "document"}, 200),
        ({"Site": "none", "Mode": "navigate", "Dest": "document"}, 200),
        ({"Site": "same-origin", "Mode": "cors", "Dest": "empty"}, 200),
    ],
)
async def test_what_a_browser_says_of_itself_counts(
    client: aiohttp.ClientSession, fetch: dict[str, str], code: int
) -> None:
    headers = {f"Sec-Fetch-{name}": value for name, value in fetch.items()}
    assert (await answer(client, "/api/status", headers=headers))[0] == code


async def test_a_form_of_elsewhere_is_refused_even_as_a_navigation(client: aiohttp.ClientSession) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await answer(client, "/api/act", "POST", headers=headers))[0] == 403


# -- the token -----------------------------------------------------------------------------------------------------

WRONG: list[dict[str, str]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": f"Bearer {TOKEN[:-1]}"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": TOKEN},
    {"Authorization": "Bearer ÿ\u20ac"},
]


@pytest.mark.parametrize("headers", WRONG)
async def test_a_change_needs_the_token(token: Token, headers: dict[str, str]) -> None:
    host = Host([ACT], Access(needs_token="changes", token=token))
    async with serving(host) as server, aiohttp.ClientSession(server.url) as client:
        async with client.post("/api/act", headers=headers) as response:
            assert (response.status, response.content_type) == (401, "application/problem+json")
            assert response.headers["WWW-Authenticate"].startswith('Bearer realm="flyball"')
            assert ("invalid_token" in response.headers["WWW-Authenticate"]) == bool(headers.get("Authorization"))
            detail = (await response.json(content_type=None))["detail"]
        assert str(token.path) in detail
        assert TOKEN[:-1] not in detail
        assert (await answer(client, "/api/act", "POST", headers=RIGHT))[0] == 200
        assert (await answer(client, "/api/act", "POST", headers={"authorization": f"bearer  {TOKEN}"}))[0] == 200


async def test_to_look_needs_none_unless_others_may_ask(token: Token) -> None:
    looks = ["/api/status", "/", "/openapi.json", "/readyz", "/livez"]
    async with (
        serving(Host(access=Access(needs_token="changes", token=token))) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        assert [(await client.get(path)).status for path in looks] == [200] * 5
    async with (
        serving(Host(access=access(ApiSection(host="box", auth="changes"), token))) as server,
        aiohttp.ClientSession(server.url) as client,
    ):
        assert [(await client.get(path)).status for path in looks] == [401, 401, 401, 200, 200]
        assert [(await client.get(path, headers=RIGHT)).status for path in looks] == [200] * 5
        assert (await client.get("/nowhere")).status == 401


async def test_what_is_not_there_is_told_before_anybody_is_asked(token: Token) -> None:
    host = Host([ACT], Access(needs_token="changes", token=token))
    async with serving(host) as server, aiohttp.ClientSession(server.url) as client:
        assert (await answer(client, "/nowhere", "POST"))[0] == 404
        assert (await answer(client, "/api/act", "DELETE"))[0] == 405


async def test_where_nobody_is_asked_anybody_may(token: Token) -> None:
    host = Host([ACT], access(ApiSection(auth="none"), token))
    async with serving(host) as server, aiohttp.ClientSession(server.url) as client:
        assert (await answer(client, "/api/act", "POST"))[0] == 200


async def test_the_comparison_is_one_of_constant_time(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every header is compared in full, whatever it begins with."""
    compared: list[tuple[bytes, bytes]] = []

    def note(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr("supervisor.api.token.hmac.compare_digest", note)
    assert [token.opens(header) for header in (f"Bearer {TOKEN}", "Bearer 0", "", "Basic x")] == [True, *[False] * 3]
    assert [expected for _, expected in compared] == [TOKEN.encode()] * 4


# -- its file ------------------------------------------------------------------------------------------------------


def test_a_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    token = kept_token(tmp_path)
    text = token.path.read_text().strip()
    assert stat.S_IMODE(token.path.stat().st_mode) == 0o600
    assert len(text) >= 40
    assert token.opens(f"Bearer {text}")
    assert kept_token(tmp_path).opens(f"Bearer {text}")
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    assert text not in repr(token) + str(token)
    (tmp_path / "other").mkdir()
    assert not kept_token(tmp_path / "other").opens(f"Bearer {text}")


def test_a_token_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the power may go in between, and leave an empty file that no start can use."""
    written: list[tuple[int, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        written.append((found.st_size if stat.S_ISREG(found.st_mode) else -1, (tmp_path / "token").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    token = kept_token(tmp_path)
    assert written == [(token.path.stat().st_size, False), (-1, True)]


def test_a_token_that_everybody_may_read_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "token").chmod(0o644)
    assert kept_token(tmp_path).opens(f"Bearer {TOKEN}")
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


def test_what_a_killed_start_left_behind_does_not_hurt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervisor.api.token.os.getpid", lambda: 7)
    (tmp_path / ".token.7").write_text("half a tok")
    assert len(kept_token(tmp_path).path.read_text()) >= 40


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short", b"has a space in the middle of it", b"\xff" * 40, b"x" * 600]
)
def test_a_file_that_holds_no_token_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(StateDirectoryError) as raised:
        kept_token(tmp_path)
    assert str(tmp_path / "token") in raised.value.what
    assert "Delete the file" in raised.value.hint
    assert "short" not in str(raised.value)


def test_a_token_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateDirectoryError) as raised:
        kept_token(tmp_path / "nowhere")
    assert raised.value.exit_code == 2


async def test_the_token_is_never_logged(
    token: Token, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(asked: Asked) -> Any:
        raise RuntimeError("broken")

    caplog.set_level("DEBUG")
    route = Route(method="POST", path="/api/broken", summary="Breaks.", answer=Nothing, call=broken)
    host = Host([route], Access(needs_token="changes", token=token))
    async with serving(host) as server, aiohttp.ClientSession(server.url) as client:
        assert (await answer(client, "/api/broken", "POST", headers=RIGHT))[0] == 500
    assert "broken" in caplog.text
    assert TOKEN not in caplog.text + "".join(capsys.readouterr())
