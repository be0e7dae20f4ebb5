"""What is printed and drawn: it fits, says the same twice, needs nothing from elsewhere, and lets nothing in."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.cli.conftest import Flyball
from tests.cli.correlate.conftest import SERVER, Write, rows

pytestmark = pytest.mark.timeout(120)


def crowded() -> list[str]:
    """Many counters and gauges, long names, and a step every twenty rows."""
    counters = [f"calls.a_rather_long_name_of_a_method_{i}" for i in range(15)]
    gauges = [f"gauge.an_even_longer_name_of_a_queue_{i}" for i in range(9)]
    header = ",".join(["time", "rss_mb", "vms_mb", "threads", "fds", "vram_mb", *counters, *gauges])
    lines = []
    for i in range(280):
        step = i // 20
        levels = [1000.5 * step, 9999 + step, 10 + 30 * step, 50 * step, 123_456 + 900 * step]
        counts = [max(0, i - 7 * number) * (number + 1) for number in range(15)]
        lines.append(",".join(map(str, [i * 1000, *levels, *counts, *((i * number) % 17 for number in range(9))])))
    return [header, *lines, "Process 123 terminated", *(f"{i},garbled" for i in range(5)), "1,2"]


@pytest.mark.parametrize("file", ["server", "crowded", "script"])
def test_a_page_has_60_lines_of_100_letters_at_most(alone: Flyball, write: Write, file: str) -> None:
    path = {"server": lambda: SERVER, "crowded": lambda: write(crowded()), "script": lambda: write(rows())}[file]()
    shown = alone.run("correlate", str(path))
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert 10 < len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in shown.stdout


def test_json_is_one_object_and_says_the_same_twice(alone: Flyball) -> None:
    first = alone.run("correlate", str(SERVER), "--json").stdout
    assert first == alone.run("correlate", str(SERVER), "--json").stdout
    found = json.loads(first)
    assert (found["file"], found["rows"], found["folded"], found["duration_s"]) == ("server.csv.gz", 75, 1, 74.0)
    assert {column["role"] for column in found["columns"]} == {
        "time", "rss", "vms", "threads", "handles", "calls", "ignore",
    }  # fmt: skip


class Elements(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.defined: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "xlink:href", "src", "action", "data"):
                self.references.append(value or "")
            if name.startswith("on"):
                self.tags.append(name)
            if name == "id":
                self.defined.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(path: Path) -> Elements:
    found = Elements()
    found.feed(path.read_text())
    return found


def test_the_html_page_needs_nothing_from_elsewhere(alone: Flyball, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert alone.run("correlate", str(SERVER), "--html", str(page)).returncode == 0
    found = elements(page)
    assert found.tags.count("svg") == 3
    assert not {"script", "img", "link", "iframe", "object"} & set(found.tags)
    inner = [reference for reference in found.references if not reference.startswith("data:image/png;base64,")]
    assert {f"#{name}" for name in found.defined} >= set(inner)
    assert len(found.defined) == len(set(found.defined))
    assert not re.search(r"url\((?!#)|@import", page.read_text())
    assert "prefers-color-scheme: dark" in page.read_text()
    for shown in ("first call of add_sections", "32 → 66 (+34)", "1,163 → 2,550 (+1,387)", "0 → 1"):
        assert shown in found.text


def test_pictures_say_the_same_twice(alone: Flyball, tmp_path: Path) -> None:
    written = []
    for turn in "ab":
        directory = tmp_path / turn
        directory.mkdir()
        page, picture = directory / "report.html", directory / "report.png"
        ended = alone.run("correlate", str(SERVER), "--html", str(page), "--png", str(picture))
        assert ended.stdout.endswith(f"Written: {page}, {picture}\n")
        written.append((page.read_bytes(), picture.read_bytes()))
    assert written[0] == written[1]
    assert written[0][1].startswith(b"\x89PNG\r\n")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["report.html", "report.png"]


def test_names_are_names_and_nothing_else(alone: Flyball, write: Write, tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "a$b$c^{", "]]>--><b>", "日本語", "calls.<img src=x onerror=alert(2)>"]
    lines = [
        ",".join(map(str, [i, 20 + i // 3, 100 + i, *(i * n % 7 + (i if n == 4 else 0) for n in range(5))]))
        for i in range(60)
    ]
    path = write([",".join(["time", "threads", "rss_mb", *names]), *lines], name="<b>&.csv")
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    ended = alone.run("correlate", str(path), "--html", str(page), "--png", str(picture))
    assert (ended.returncode, ended.stderr) == (0, "")
    found = elements(page)
    assert not {"script", "b", "img", "onerror"} & set(found.tags)
    assert all(name.removeprefix("calls.") in found.text for name in names)
    assert "<b>&.csv" in found.text


@pytest.mark.parametrize(
    "lines", [["time,calls.x", "0,1", "1,2", "2,3"], ["time,threads", "0,5", "1,5", "2,5"], crowded()]
)
def test_whatever_is_read_can_be_drawn(alone: Flyball, write: Write, tmp_path: Path, lines: list[str]) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    files = ("--html", str(page), "--png", str(picture))
    ended = alone.run("correlate", str(write(lines)), *files, PYTHONWARNINGS="error")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_without_matplotlib_the_page_is_there_and_plots_say_what_to_install(alone: Flyball, tmp_path: Path) -> None:
    broken = tmp_path / "matplotlib"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libfreetype.so.6 is missing')\n")
    assert alone.run("correlate", str(SERVER), PYTHONPATH=str(tmp_path)).returncode == 0
    refused = alone.run("correlate", str(SERVER), "--png", str(tmp_path / "x.png"), PYTHONPATH=str(tmp_path))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "flyball: --html and --png need matplotlib: libfreetype.so.6 is missing. "
        "Install it: pip install 'matplotlib>=3.10'\n"
    )
