"""The order of the layers, and what each kind of problem says."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from supervisor.config import Config
from supervisor.configuration.layers import load
from supervisor.errors import ConfigurationError


class Ladder(Struct, frozen=True, forbid_unknown_fields=True):
    """A handler's section with an order among its keys."""

    low: float = 65.0
    high: float = 85.0
    label: str = ""
    token: str = ""

    def problems(self) -> list[str]:
        """`low` must be below `high`."""
        return [] if self.low < self.high else [f"low: {self.low:g} is not below high ({self.high:g})"]


SECTIONS: dict[str, type[Struct]] = {"ladder": Ladder}


def configured(
    tmp_path: Path, text: str | bytes = "", environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> Config:
    """The configuration of a file with this text, and of these layers above it."""
    file = tmp_path / "flyball.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(environ=environ or {}, path=file, sections=SECTIONS, flags=flags)


def problems(
    tmp_path: Path, text: str | bytes = "", environ: dict[str, str] | None = None, flags: dict[str, Any] | None = None
) -> list[str]:
    """What is wrong with it."""
    with pytest.raises(ConfigurationError) as raised:
        configured(tmp_path, text, environ, flags)
    assert raised.value.exit_code == 2
    return raised.value.problems


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    text = "[api]\nport = 1\nhost = '127.0.0.3'\n[sampling]\ntop_processes = 1\n"
    environ = {"FLYBALL_API__PORT": "2", "FLYBALL_API__HOST": "127.0.0.2"}
    config = configured(tmp_path, text, environ, {"api.port": 3, "dry_run": None})
    assert (config.api.port, config.api.host) == (3, "127.0.0.2")
    assert (config.sampling.top_processes, config.sampling.interval_s, config.dry_run) == (1, 1.0, False)


def test_environment_values_are_toml_and_text_where_the_field_is_text(tmp_path: Path) -> None:
    environ = {
        "FLYBALL_API__ENABLED": "false",
        "FLYBALL_SAMPLING__INTERVAL_S": "2",
        "FLYBALL_BUS__PASSWORD_FILE": "12",
        "FLYBALL_SAMPLING__PROC_ROOT": '"quoted"',
        "FLYBALL_LADDER__LABEL": "true\nhigh = 3",
        "FLYBALL_DRY_RUN": "true",
    }
    config = configured(tmp_path, "", environ)
    assert (config.api.enabled, config.sampling.interval_s, config.dry_run) == (False, 2.0, True)
    assert (config.bus.password_file, config.sampling.proc_root) == ("12", "quoted")
    assert config.handlers["ladder"] == Ladder(label="true\nhigh = 3")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "box"])
def test_the_api_is_not_opened_to_others_without_the_token(tmp_path: Path, host: str) -> None:
    assert configured(tmp_path, f"[api]\nhost = '{host}'\n").api.needs_token == "all"
    assert problems(tmp_path, f"[api]\nhost = '{host}'\nauth = 'none'\n") == [
        f"""api.auth: "none" would let everybody in at '{host}'; it needs host 127.0.0.1, ::1 or localhost"""
    ]


@pytest.mark.parametrize("auth", ["changes", "all", "none"])
def test_who_may_ask_on_loopback_is_what_is_said(tmp_path: Path, auth: str) -> None:
    assert configured(tmp_path, f"[api]\nhost = 'localhost'\nauth = '{auth}'\n").api.needs_token == auth
    assert configured(tmp_path, "").api.needs_token == "changes"


def test_reserved_and_foreign_variables_are_no_keys(tmp_path: Path) -> None:
    foreign = ["FLYBALL_STATE_DIR", "FLYBALL_HOST", "FLYBALL_URL", "FLYBALL_TEST_STRICT", "OTHER__KEY"]
    assert configured(tmp_path, "", dict.fromkeys(foreign, "x")) == configured(tmp_path)


def test_a_handlers_section_is_there_with_its_defaults(tmp_path: Path) -> None:
    assert configured(tmp_path).handlers == {"ladder": Ladder()}


def test_without_sections_those_of_handlers_are_left_unread(tmp_path: Path) -> None:
    file = tmp_path / "flyball.toml"
    file.write_text("[ladder]\nlow = 'no number'\n[api]\nport = 5\n")
    assert load(environ={}, path=file, sections=None).api.port == 5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[api]\nport = 'x'", "api.port: 'x' is not a whole number from 0 to 65535"),
        ("[api]\nport = 99999", "api.port: 99999 is not a whole number from 0 to 65535"),
        ("[api]\nprt = 1", "api.prt: no such key; did you mean port?"),
        ("[api]\ninterval_s = 1", "api.interval_s: no such key; did you mean sampling.interval_s?"),
        ("[apy]\nport = 1", "apy: no such key; did you mean api?"),
        ("port = 1", "port: no such key; did you mean api.port?"),
        ("[host]\nzzz = 1", "host.zzz: no such key; known here: name"),
        ("api = 5", "api: 5 is not a table"),
        ("dry_run = 1", "dry_run: 1 is not true or false"),
        ("[sampling]\ninterval_s = nan", "sampling.interval_s: nan is not a finite number"),
        ("[ladder]\nlow = 90", "ladder.low: 90 is not below high (85)"),
        ("[host]\nname = 2026-11-21", "host.name: the date 2026-11-21 is not up to 64 of A-Z a-z 0-9 . _ -"),
        ("workload = 3", "workload: 3 is not a list, each item a table with name, match, gpus, priority, command, "
         "depends_on, restart, on_leak, counters, may"),
        ("[[workload]]\n", "workload[0].name: is missing; expected a name of 1 to 64 of A-Z a-z 0-9 . _ -"),
        ("[[workload]]\nname = 'a'\n[[workload]]\nname = 'a'",
         "workload[1].name: 'a' is the name of workload[0] already; choose another"),
        ("[[workload]]\nname = 'trainer'\ndepends_on = ['trainr']",
         "workload[0].depends_on[0]: 'trainr' is not a declared workload; did you mean trainer?"),
        ("[[workload]]\nname = 'a'\nmatch = {}",
         "workload[0].match: names no process; expected at least one of pidfile, cgroup, cmdline"),
        ("[[workload]]\nname = 'a'\nmatch = {user = 'root'}",
         "workload[0].match: names no process; expected at least one of pidfile, cgroup, cmdline"),
        ("[[workload]]\nname = 'a'\nmatch.cmdline = '('",
         "workload[0].match.cmdline: '(' is not a regular expression: "
         "missing ), unterminated subpattern at position 0"),
        ("[[workload]]\nname = 'a'\nmay = ['kil']",
         "workload[0].may[0]: 'kil' is not one of cleanup, freeze, kill, pause, restart, terminate, throttle; "
         "did you mean kill?"),
        ("[bus]\nurl = 'redis://host:port'",
         "bus.url: 'redis://host:port' lacks a host, port or path; expected redis://HOST:PORT or unix:///PATH"),
        ("[sampling]\ninterval_s = 0.05",
         "sampling.fast_interval_s: 0.1 is not at most interval_s (0.05)"),
    ],
)  # fmt: skip
def test_a_problem_has_its_path_and_what_would_be_right(tmp_path: Path, text: str, problem: str) -> None:
    assert problems(tmp_path, text) == [problem]


def test_a_circle_of_dependencies_is_spelled_out(tmp_path: Path) -> None:
    tables = "".join(f"[[workload]]\nname = '{a}'\ndepends_on = ['{b}']\n" for a, b in ("ab", "bc", "ca", "dd"))
    found = problems(tmp_path, tables)
    assert len(found) == 2
    assert any("a → b → c → a" in one or "b → c → a → b" in one or "c → a → b → c" in one for one in found)
    assert "workload[3].depends_on: goes in a circle: d → d; remove one of these" in found


def test_every_problem_of_every_layer_is_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "[api\n", {"FLYBALL_BUS__SHARD": "-1", "FLYBALL_NO__KEY": "1"}, {"api.port": "x"})
    assert [one.partition(": ")[0] for one in found] == [str(tmp_path / "flyball.toml"), "no", "bus.shard", "api.port"]
    assert found[2].endswith("(from FLYBALL_BUS__SHARD)")
    assert found[3].endswith("(from the command line)")


def test_a_wrong_field_does_not_bring_false_problems_of_order(tmp_path: Path) -> None:
    """`high` is wrong, so nobody can say that 90 is not below it."""
    assert problems(tmp_path, "[ladder]\nlow = 90\nhigh = 'x'") == ["ladder.high: 'x' is not a number"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[api\n", "is not TOML: Expected ']' at the end of a table declaration (at line 1, column 5)"),
        (b"a = 1\n[api]\nport =", "(at line 3, the end of the file)"),
        (b"[api]\nhost = '\xff'\n", "line 2: byte 0xff is not UTF-8"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"#" * 1_100_000, "is larger than"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, content: bytes, words: str) -> None:
    (problem,) = problems(tmp_path, content)
    assert problem.startswith(f"{tmp_path / 'flyball.toml'}: ")
    assert words in problem


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert configured(tmp_path, b"\xef\xbb\xbf[api]\nport = 7\n").api.port == 7


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(environ={"FLYBALL_CONFIG": str(tmp_path / name)}, sections=SECTIONS)


def test_the_files_of_xdg_are_optional(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert load(environ=environ, sections=SECTIONS).api.port == 8470
    (tmp_path / "flyball").mkdir()
    (tmp_path / "flyball" / "flyball.toml").write_text("[api]\nport = 9\n")
    assert load(environ=environ, sections=SECTIONS).api.port == 9


SECRET = "hunter2"


@pytest.mark.parametrize(
    "url", [f"http://:{SECRET}@box", f"redis://u:{SECRET}@box:port", f"u:{SECRET}@box", f"redis://?password={SECRET}",
            f"redis://:a/@{SECRET} @box:0"],
)  # fmt: skip
@pytest.mark.parametrize("layer", ["file", "environment", "flags"])
def test_a_password_never_reaches_an_error(tmp_path: Path, url: str, layer: str) -> None:
    text = f'[bus]\nurl = "{url}"\n' if layer == "file" else ""
    environ = {"FLYBALL_BUS__URL": url} if layer == "environment" else {}
    found = problems(tmp_path, text, environ, {"bus.url": url} if layer == "flags" else {})
    assert SECRET not in "".join(found)
    assert "***" in "".join(found)


def test_a_secret_of_a_handler_never_reaches_an_error(tmp_path: Path) -> None:
    assert problems(tmp_path, "[ladder]\ntoken = 20202020") == ["ladder.token: the value is not text"]


def test_a_password_never_reaches_a_repr(tmp_path: Path) -> None:
    config = configured(tmp_path, f'[bus]\nurl = "redis://flyball:{SECRET}@box/1"\n')
    assert SECRET in config.bus.url
    assert SECRET not in repr(config)
    assert "redis://***@box/1" in repr(config)


def test_a_wrong_value_does_not_hide_that_two_others_are_out_of_order(tmp_path: Path) -> None:
    from handlers.throttle.settings import Settings

    file = tmp_path / "flyball.toml"
    file.write_text("[throttle]\ntemp_normal = 90\ntemp_optimal = 'warm'\n")
    with pytest.raises(ConfigurationError) as raised:
        load(environ={}, path=file, sections={"throttle": Settings})
    wrong, order = raised.value.problems
    assert wrong == "throttle.temp_optimal: 'warm' is not a number"
    assert order.startswith("throttle.temp_normal: 90 is not below temp_throttle (85); the order is temp_optimal <")


def test_a_key_of_thousands_of_parts_is_unknown_and_no_trouble(tmp_path: Path) -> None:
    key = ".".join(["a"] * 5000)
    (problem,) = problems(tmp_path, f"{key} = 1")
    assert problem.startswith("a: no such key; ")
    (problem,) = problems(tmp_path, "", {"FLYBALL_" + "__".join(["A"] * 5000): "1"})
    assert problem.startswith("a: no such key; ")
