"""`/api/gpu/config`: every setting, where it came from, and the way to change it while Flyball runs."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from schemas.config import Configuration, ConfigurationChanged
from supervisor.api.problems import Fault
from supervisor.configuration.catalogue import SEED_NAMES, Catalogue
from supervisor.errors import ConfigurationError
from supervisor.route import Answered, Asked, Example, Refusal, Route
from supervisor.runtime.live import Live, Stale, version_of

_PATH: Final = "/api/gpu/config"


def routes(live: Live) -> list[Route]:
    """Shows and changes the settings of `live`."""

    def show(asked: Asked) -> Answered:
        now = live.document()
        return Answered(body=now, headers={"ETag": _etag(version_of(now))})

    async def change(asked: Asked) -> Answered:
        wanted = asked.headers.get("If-Match")
        try:
            changed = await live.change(asked.body, asked.who, lambda version: _matches(wanted, version))
        except Stale as stale:
            etag = _etag(stale.version)
            what = f"the settings have changed since: they are {etag} now, not {wanted}; read them again, then ask anew"
            raise Refusal(412, what, {"etag": etag}, {"ETag": etag}) from stale
        except ConfigurationError as error:
            faults = [Fault(detail=problem) for problem in error.problems]
            raise Refusal(422, f"nothing was changed: {'; '.join(error.problems)}", {"errors": faults}) from error
        except OSError as error:
            why = f"{error.strerror or error}; nothing was changed, see to the disk of the state directory"
            raise Refusal(503, f"the settings cannot be kept: {why}") from error
        now = live.document()
        answer = ConfigurationChanged(values=now.values, settings=now.settings, changed=changed)
        return Answered(body=answer, headers={"ETag": _etag(version_of(now))})

    return [
        Route(
            method="GET", path=_PATH, summary="Every setting: its value, its default, and where it came from.",
            answer=Configuration, call=show,
        ),
        Route(
            method="PUT", path=_PATH,
            summary="Change some settings, all or none; the rest stays. null takes back what was set here.",
            body=_request(live.catalogue), answer=ConfigurationChanged, call=change,
            headers={"If-Match": "the ETag of the settings that the change is meant for"},
            problems={
                412: "The settings have changed since they had the ETag in If-Match.",
                422: "A setting is unknown or wrong, does not go with the others, or is set in the file only.",
                503: "The settings cannot be kept.",
            },
            example=Example(body={"throttle": {"temp_normal": 70}}),
        ),
    ]  # fmt: skip


def _etag(version: str) -> str:
    return f'"{version}"'


def _matches(wanted: str | None, version: str) -> bool:
    """Whether `If-Match` allows a change of this version; RFC 9110 compares strongly, so a weak tag is never it."""
    if wanted is None or wanted.strip() == "*":
        return True
    return _etag(version) in [tag.strip() for tag in wanted.split(",")]


def _request(catalogue: Catalogue) -> Any:
    """The type of a request: tables of settings, dotted keys, or the names of old."""
    tables: dict[str, Any] = {}
    flat: dict[str, Any] = {}
    for entry in catalogue:
        if entry.changes != "in the file only":
            table, _, key = entry.key.partition(".")
            schema = {"anyOf": [_schema(entry.setting.kind), {"type": "null"}], "description": entry.setting.meaning}
            tables.setdefault(table, {"type": ["object", "null"], "properties": {}, "additionalProperties": False})
            tables[table]["properties"][key] = flat[entry.key] = schema
    old = {name: flat[keys[0]] for name in SEED_NAMES if (keys := catalogue.named(name)) and keys[0] in flat}
    properties = {**tables, **flat, **old}
    meta = Meta(min_length=1, extra_json_schema={"properties": properties, "additionalProperties": False})
    return Annotated[dict[str, Any], meta]


def _schema(kind: Any) -> dict[str, Any]:
    """The schema of a setting's type; of one that is too intricate to stand alone, none."""
    schema = msgspec.json.schema(kind)
    return {} if "$defs" in schema else schema
