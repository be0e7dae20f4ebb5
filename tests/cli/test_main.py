"""The front door: help, errors, exit codes, and that nothing is imported that is not needed."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import click
import pytest

from supervisor.cli import main
from supervisor.config import Config
from tests.cli.conftest import Flyball, Supervisor, a_status


@pytest.mark.parametrize("word", main.COMMANDS)
def test_every_command_has_a_help_with_an_example(word: str) -> None:
    command = import_module(f"supervisor.cli.{word}").command
    help = command.get_help(click.Context(command, info_name=f"flyball {word}"))
    assert f"Example: flyball {word}" in help
    assert "--json" in help


@pytest.mark.parametrize("word", main.COMMANDS)
def test_the_help_of_a_command_as_a_process(alone: Flyball, word: str) -> None:
    shown = alone.run(word, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"Usage: flyball {word} ")


def test_the_list_of_commands(alone: Flyball) -> None:
    shown = alone.run("--help")
    assert shown.returncode == 0
    for word, what in main.COMMANDS.items():
        assert re.search(rf"^  {word} +{re.escape(what)}$", shown.stdout, re.MULTILINE)
    brought = r"^  trace +Trace a program: memory, threads, handles, and what drives them\.$"
    assert re.search(brought, shown.stdout, re.MULTILINE)
    assert "./flyball test runs every test" in shown.stdout


@pytest.mark.parametrize("word", ["run", "demo"])
@pytest.mark.parametrize("as_json", [True, False])
def test_the_main_job_is_told_how_to_greet(monkeypatch: pytest.MonkeyPatch, word: str, as_json: bool) -> None:
    asked: list[tuple[bool, bool]] = []

    def job(config: Config, *, demo: bool, as_json: bool) -> int:
        asked.append((demo, as_json))
        return 0

    monkeypatch.setattr("supervisor.runtime.main.run", job)
    assert run(monkeypatch, word, *(["--json"] if as_json else []), "--config", "/dev/null") == 0
    assert asked == [(word == "demo", as_json)]


@pytest.mark.parametrize("words", [["--help"], ["status"], ["check"], ["events"], ["status", "--json"]])
def test_nothing_heavy_is_imported(flyball: Flyball, supervisor: Supervisor, words: list[str]) -> None:
    supervisor.report(a_status())
    shown = flyball.run(*words, PYTHONPROFILEIMPORTTIME="1")
    assert shown.returncode == 0
    imported = {
        line.rpartition("|")[2].strip() for line in shown.stderr.splitlines() if line.startswith("import time:")
    }
    assert "click" in imported
    heavy = {"asyncio", "aiohttp", "redis", "numpy", "psutil"}
    # the help alone looks for what handlers bring
    assert imported & (heavy if words == ["--help"] else heavy | {"handlers", "importlib.metadata"}) == set()


def test_an_unknown_word_is_a_message(alone: Flyball) -> None:
    shown = alone.run("zigzag")
    assert shown.returncode == 2
    assert "No such command 'zigzag'.\n" in shown.stderr


@pytest.mark.parametrize(("word", "meant"), [("staus", "status"), ("trcae", "trace")])
def test_a_typing_error_is_answered_with_what_was_meant(alone: Flyball, word: str, meant: str) -> None:
    """What handlers bring is meant as much as our own."""
    shown = alone.run(word)
    assert shown.returncode == 2
    assert re.search(rf"No such command '{word}'\. .*Did you mean .*'{meant}'", shown.stderr)


def brought(name: str, value: str) -> EntryPoints:
    return EntryPoints([EntryPoint(name, value, main.ENTRY_POINTS)])


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The words that are looked up among the entry points, of which `leak` is one."""
    words: list[str] = []

    def entry_points(*, group: str, name: str = "") -> EntryPoints:
        assert group == "flyball.commands"
        found = {"leak": "supervisor.cli.status:command", "broken": "supervisor.nowhere:command"}
        if not name:
            return EntryPoints(each for word, value in found.items() for each in brought(word, value))
        words.append(name)
        return brought(name, found[name]) if name in found else EntryPoints()

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    yield words


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["flyball", *words])
    with pytest.raises(SystemExit) as exit:
        main.main()
    return exit.value.code


def test_a_handlers_command_is_found_only_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], looked_up: list[str]
) -> None:
    assert run(monkeypatch, "status", "--help") == 0
    assert looked_up == []
    assert run(monkeypatch, "leak", "--help") == 0
    assert looked_up == ["leak"]
    assert "Usage: flyball leak" in capsys.readouterr().out


def test_a_handlers_command_that_cannot_be_loaded_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], looked_up: list[str]
) -> None:
    assert run(monkeypatch, "broken") == 1
    assert "flyball: the command broken cannot be loaded" in capsys.readouterr().err


def test_a_handlers_command_that_cannot_be_loaded_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], looked_up: list[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  broken +\(the command broken cannot be loaded: No module", shown, re.MULTILINE)
    assert re.search(r"^  leak +Show what this host looks like now\.", shown, re.MULTILINE)


def test_every_problem_of_the_configuration_is_one_message(alone: Flyball, tmp_path: Path) -> None:
    file = tmp_path / "flyball.toml"
    file.write_text("[api]\nport = 'x'\n[bus]\nurl = 'http://:hunter2@box'\n")
    shown = alone.run("status", "--config", str(file), "--set", "bus.shard=-1")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith(f"flyball: {file} has 3 problems:\n")
    assert "hunter2" not in shown.stderr


def test_a_setting_needs_a_key_and_a_value(alone: Flyball) -> None:
    shown = alone.run("status", "--set", "api.port")
    assert shown.returncode == 2
    assert "'api.port' is not KEY=VALUE" in shown.stderr


def test_a_state_directory_too_deep_for_a_socket_is_a_message(alone: Flyball, tmp_path: Path) -> None:
    shown = alone.run("status", FLYBALL_STATE_DIR=str(tmp_path / ("x" * 100)))
    assert shown.returncode == 2
    assert "lies too deep for a socket" in shown.stderr
    assert "FLYBALL_STATE_DIR" in shown.stderr


def test_one_sample_needs_no_bus(alone: Flyball) -> None:
    shown = alone.run("sample", "--once", "--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    document = json.loads(shown.stdout)
    assert (document["host"], document["tick"]) == ("box", 0)
    assert document["host_figures"]["memory_total_bytes"] > 0
    assert document["gpu_backend"]["state"] in ("ok", "unavailable")
    text = alone.run("sample", "--once")
    assert text.stdout.startswith("box at ")
    assert "memory  " in text.stdout


def test_samples_go_on_until_ctrl_c(alone: Flyball) -> None:
    with alone.start("sample", "--json", "--set", "sampling.interval_s=0.1") as process:
        assert process.stdout is not None and process.stderr is not None
        ticks = [json.loads(process.stdout.readline())["tick"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""
    assert ticks == [0, 1, 2]


@pytest.mark.parametrize("word", ["run", "demo"])
def test_the_main_job_starts_nothing_with_a_wrong_configuration(alone: Flyball, tmp_path: Path, word: str) -> None:
    """The handlers' own sections are checked, too."""
    state = tmp_path / "state"
    environ = {"FLYBALL_STATE_DIR": str(state), "FLYBALL_THROTTLE__TEMP_NORMAL": "90"}
    shown = alone.run(word, "--set", "trottle.x=1", **environ)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "trottle: no such key; did you mean throttle?" in shown.stderr
    assert "throttle.temp_normal: 90 is not below temp_throttle (85)" in shown.stderr
    assert not state.exists()
