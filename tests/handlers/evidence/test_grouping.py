"""Names and kinds: what is one of many is told as many."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.evidence.grouping import KINDS_TOLD, NAMES_TOLD, OTHERS, handle_kinds, thread_names, without_paths


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
