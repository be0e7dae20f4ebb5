"""Names and kinds: what is one of many is told as many."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.evidence.grouping import KINDS_TOLD, NAMES_TOLD, OTHERS, handle_kinds, stacks, thread_names, without_paths


def test_numbers_at_the_end_are_taken_off_where_there_are_several() -> None:
    names = [*(f"worker-{n}" for n in range(30)), "worker", "python3", "python3", "cuda00001", "grpc_3"]
    assert thread_names(names) == {"worker-*": 30, "python3": 2, "cuda00001": 1, "grpc_3": 1, "worker": 1}


def test_python_names_its_threads_with_the_number_in_the_middle() -> None:
    assert thread_names(["Thread-1 (work)", "Thread-22 (work)", "Thread-3 (wo", "v8:4"]) == {
        "Thread-* (work)": 2, "Thread-3 (wo": 1, "v8:4": 1,
    }  # fmt: skip


def test_what_is_beyond_the_most_frequent_is_one_number() -> None:
    names = [name for n in range(50) for name in [f"name{chr(97 + n % 26)}{'x' * (n // 26)}"] * (n + 1)]
    counted = thread_names(names)
    assert len(counted) == NAMES_TOLD + 1
    assert sum(counted.values()) == len(names)
    assert list(counted)[-1] == OTHERS


def _thread(number: object, name: str, *frames: str, state: str = "idle") -> str:
    head = f'Thread {number} ({state}): "{name}"' if name else f"Thread {number} ({state})"
    return "\n".join((head, *(f"    {frame}" for frame in frames)))


def test_threads_that_stand_at_the_same_place_are_one() -> None:
    wait = ("wait (threading.py:327)", "run (serve.py:9)")
    dump = [
        _thread(7, "MainThread", "<module> (serve.py:20)", state="active"),
        *(_thread(n, f"lance-bg-{n}", *wait) for n in range(100, 1150)),
        *(_thread(n, "reader", *wait) for n in (1, 2)),
        *(_thread(hex(n), f"Thread-{n} (work)", *wait) for n in (3, 4, 5)),
        _thread(9, "lance-bg-1", *wait, state="active"),
        _thread(10, "lance-bg-2", "elsewhere (serve.py:3)"),
        *(_thread(n, "", "native (a.c)") for n in (20, 21)),
        _thread(30, 'a "quoted" name'),
    ]
    assert stacks("\n".join(dump)).split("\n") == [
        *_thread(100, "lance-bg-*", *wait).split("\n"), "    … and 1,049 more like it",
        *_thread("0x3", "Thread-* (work)", *wait).split("\n"), "    … and 2 more like it",
        *_thread(1, "reader", *wait).split("\n"), "    … and 1 more like it",
        *_thread(20, "", "native (a.c)").split("\n"), "    … and 1 more like it",
        *dump[0].split("\n"),
        *_thread(9, "lance-bg-1", *wait, state="active").split("\n"),
        *_thread(10, "lance-bg-2", "elsewhere (serve.py:3)").split("\n"),
        'Thread 30 (idle): "a "quoted" name"',
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(1, 99), st.text("ab1-() ", max_size=8), st.sampled_from(("f (a.py:1)", "g"))), min_size=1
    )
)
def test_no_thread_is_lost(threads: list[tuple[int, str, str]]) -> None:
    said = stacks("\n".join(_thread(*thread) for thread in threads)).split("\n")
    more = [int(line.split()[2].replace(",", "")) for line in said if "more like it" in line]
    assert sum(line.startswith("Thread ") for line in said) + sum(more) == len(threads)


def test_every_kind_of_handle() -> None:
    links = [
        "socket:[1]", "socket:[2]", "socket:[3]", "pipe:[4]", "pipe:[4]", "anon_inode:[eventfd]",
        "anon_inode:[eventpoll]", "anon_inode:inotify", "anon_inode:[io_uring]", "/memfd:pulse (deleted)",
        "/dev/nvidia0", "/dev/nvidia0", "/dev/null", "/dev/shm/psm_1", "/data/a/part-1", "/data/a/part-2", "/data/b",
        "/tmp/x (deleted)", "net:[4026531840]", "/",
    ]  # fmt: skip
    assert handle_kinds(links, {"1": "tcp CLOSE_WAIT", "2": "tcp CLOSE_WAIT"}) == {
        "device /dev/nvidia0": 2, "file /data/a/*": 2, "pipe": 2, "socket tcp CLOSE_WAIT": 2, "deleted file /tmp/x": 1,
        "device /dev/null": 1, "eventfd": 1, "eventpoll": 1, "file /": 1, "file /data/b": 1, "file /dev/shm/psm_1": 1,
        "inotify": 1, "io_uring": 1, "memfd": 1, "namespace net": 1,
        "socket of another kind, or not connected": 1,
    }  # fmt: skip


@given(st.lists(st.text(max_size=15)), st.lists(st.text(max_size=300)))
def test_everything_is_counted_once_and_bounded(names: list[str], links: list[str]) -> None:
    threads, handles = thread_names(names), handle_kinds(links, {})
    assert sum(threads.values()) == len(names)
    assert sum(handles.values()) == len(links)
    assert len(threads) <= NAMES_TOLD + 1
    assert len(handles) <= KINDS_TOLD + 1
    assert all(len(name) <= 200 for name in (*threads, *handles))


def test_without_paths_there_are_kinds_alone() -> None:
    links = [
        "/etc/shadow",
        "/data/a",
        "/data/b",
        "/tmp/x (deleted)",
        "/dev/nvidia0",
        "(unreachable)/secret",
        "pipe:[1]",
    ]
    assert without_paths(handle_kinds(links, {})) == {
        "file": 3, "deleted file": 1, "device": 1, "(unreachable)": 1, "pipe": 1,
    }  # fmt: skip


def test_nothing_that_a_terminal_obeys_is_told() -> None:
    assert thread_names(["\x1b[2J\n"]) == {"\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}": 1}
    assert list(handle_kinds(["/tmp/\x1b[2J"], {})) == ["file /tmp/\N{REPLACEMENT CHARACTER}[2J"]
