"""The spool against a list: whatever is done in whatever order, both say the same."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from supervisor.bus.spool import Counts, Spool

TOKENS = st.sampled_from(["", "a", "b", "c", "d", "e"])
PAYLOADS = st.binary(max_size=60)
HANDLERS = st.sampled_from(["throttle", "leak"])


class SpoolModel(RuleBasedStateMachine):
    """Kinds, tokens and payloads in a list, marks in a set, dropped samples in a number."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="fb-"))
        self.waiting: list[tuple[str, str, bytes]] = []
        self.marks: set[tuple[str, str]] = set()
        self.dropped = 0

    @initialize(limit=st.integers(0, 300))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.spool = Spool(self.directory / "spool.db", limit)

    def size(self) -> int:
        return sum(len(payload) for _, _, payload in self.waiting)

    def add(self, kind: str, token: str, payload: bytes) -> None:
        if token and any((kind, token) == entry[:2] for entry in self.waiting):
            return
        self.waiting.append((kind, token, payload))
        while self.size() > self.limit:
            oldest = next((entry for entry in self.waiting if entry[0] == "sample"), None)
            if oldest is None:
                break
            self.waiting.remove(oldest)
            self.marks = {mark for mark in self.marks if mark[1] != oldest[1]}
            self.dropped += 1

    @rule(token=TOKENS, payload=PAYLOADS)
    def add_sample(self, token: str, payload: bytes) -> None:
        self.spool.add_sample(token, payload)
        self.add("sample", token, payload)

    @rule(token=TOKENS, payload=PAYLOADS)
    def add_commit(self, token: str, payload: bytes) -> None:
        self.spool.add_commit(token, payload)
        self.add("commit", token, payload)

    @rule(token=TOKENS, payload=PAYLOADS, handler=HANDLERS)
    def add_commit_with_its_mark(self, token: str, payload: bytes, handler: str) -> None:
        with self.spool.together():
            self.spool.add_commit(token, payload)
            self.spool.handled(handler, token)
        self.add("commit", token, payload)
        self.marks.add((handler, token))

    @rule(token=TOKENS, payload=PAYLOADS, handler=HANDLERS)
    def fail_half_way(self, token: str, payload: bytes, handler: str) -> None:
        try:
            with self.spool.together():
                self.spool.handled(handler, token)
                self.spool.add_sample(token, payload)
                raise LookupError
        except LookupError:
            pass

    @rule(count=st.integers(1, 5), page=st.integers(1, 3))
    def send_some(self, count: int, page: int) -> None:
        sent = [waiting for waiting, _ in zip(self.spool.pending(page), range(count), strict=False)]
        assert [(waiting.kind, waiting.payload) for waiting in sent] == [
            (kind, payload) for kind, _, payload in self.waiting[:count]
        ]
        if sent:
            self.spool.done(sent[-1].position)
        del self.waiting[:count]

    @rule(handler=HANDLERS, tokens=st.sets(TOKENS))
    def forget_handled(self, handler: str, tokens: set[str]) -> None:
        self.spool.forget_handled(handler, tokens)
        self.marks -= {(handler, token) for token in tokens}

    @rule()
    def forget_dropped(self) -> None:
        self.spool.forget_dropped()
        self.dropped = 0

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = Spool(self.directory / "spool.db", self.limit)

    @invariant()
    def same(self) -> None:
        kinds = [kind for kind, _, _ in self.waiting]
        assert self.spool.counts() == Counts(kinds.count("sample"), kinds.count("commit"), self.dropped, self.size())
        assert [waiting.payload for waiting in self.spool.pending()] == [payload for _, _, payload in self.waiting]
        for handler in ("throttle", "leak"):
            assert self.spool.handled_ids(handler) == {token for who, token in self.marks if who == handler}

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.directory)


TestSpoolModel: Any = SpoolModel.TestCase
TestSpoolModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
