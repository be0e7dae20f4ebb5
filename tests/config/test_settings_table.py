"""The settings table and the example are what the Structs say, and the example loads."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from msgspec import NODEFAULT

from supervisor.configuration.layers import load
from supervisor.configuration.reference import Section, reference
from supervisor.configuration.table import EXAMPLE, TABLE, example, table
from supervisor.installed import handler_sections

ROOT = Path(__file__).parent.parent.parent
STALE = "is stale; run `python -m supervisor.configuration.table --write`"


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    """The core's sections and those of every handler in pyproject.toml."""
    return reference(handler_sections())


def test_the_table_is_up_to_date(sections: list[Section]) -> None:
    assert (ROOT / TABLE).read_text("utf-8") == table(sections), f"{TABLE} {STALE}"


def test_the_example_is_up_to_date(sections: list[Section]) -> None:
    assert (ROOT / EXAMPLE).read_text("utf-8") == example(sections), f"{EXAMPLE} {STALE}"


def test_every_key_has_a_meaning(sections: list[Section]) -> None:
    assert [f"{one.header} {key.key}" for one in sections for key in one.settings if not key.meaning] == []


def test_the_example_loads_as_it_is_and_changes_nothing() -> None:
    kinds = handler_sections()
    assert load(environ={}, path=ROOT / EXAMPLE, sections=kinds) == load(
        environ={}, path=Path("/dev/null"), sections=kinds
    )


def test_the_example_loads_with_every_line_uncommented_and_names_every_key(
    sections: list[Section], tmp_path: Path
) -> None:
    text = re.sub(r"(?m)^#(?=[\[a-z])", "", (ROOT / EXAMPLE).read_text("utf-8"))
    file = tmp_path / "flyball.toml"
    file.write_text(text, "utf-8")
    config = load(environ={}, path=file, sections=handler_sections())
    assert [one.name for one in config.workload] == ["trainer"]
    document = tomllib.loads(text)
    for section in sections:
        found: Any = document
        for part in section.header.strip("[]").split(".") if section.header else ():
            found = found[part][0] if isinstance(found[part], list) else found[part]
        for setting in section.settings:
            value = found
            for part in setting.key.split("."):
                value = value[part]
            assert setting.default in (NODEFAULT, value, tuple(value) if isinstance(value, list) else value) or (
                section.header.startswith("[[")
            )
