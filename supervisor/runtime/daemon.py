"""The daemon: puts sampler, bus, handlers and API together, and takes them apart again, each step bounded."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from schemas.envelope import Event
from schemas.event import BusRestored
from supervisor.api.address import listen
from supervisor.api.token import kept_token
from supervisor.bus import lease
from supervisor.bus.commit import Commit
from supervisor.bus.connection import Connection
from supervisor.bus.embedded import EmbeddedBus
from supervisor.bus.keys import commands_key, events_key, inbox_key, samples_key
from supervisor.bus.spool import Spool
from supervisor.clock import SystemClock
from supervisor.config import Config
from supervisor.configuration.stack import Stack
from supervisor.demo import apart
from supervisor.errors import BusFull, BusLost, Fenced, FlyballError, SpoolError
from supervisor.handler import Decisions, Declared, Draft, Edge, Handler, Stream, Withdrawal
from supervisor.identity import Identity
from supervisor.installed import handlers as installed_handlers
from supervisor.masking import masked
from supervisor.runtime import signals
from supervisor.runtime.demo import run_programs
from supervisor.runtime.desk import Desk
from supervisor.runtime.duties import Duties
from supervisor.runtime.greeting import Greeting
from supervisor.runtime.link import Link, Outage
from supervisor.runtime.live import Live
from supervisor.runtime.monitoring import Monitoring
from supervisor.runtime.publisher import Publisher
from supervisor.runtime.results import Origin, to_commit
from supervisor.runtime.runner import Runner
from supervisor.runtime.standing import Standing
from supervisor.runtime.status import Parts, current_status
from supervisor.runtime.views import Views
from supervisor.sampling.assemble import Sources, raise_descriptor_limit, real_sources, simulated_sources
from supervisor.sampling.sampler import Sampler, since_boot_s, wait_for

if TYPE_CHECKING:
    from supervisor.api.server import Server

_log = logging.getLogger(__name__)

#: The steps of the teardown: with the sampler's own second the whole stays below 5 s, even if all are given up.
#: A handler may be in a read of a second; our own server is killed after a second.
HANDLERS_S: Final = 1.5
DEMANDS_S: Final = 1.0
BUS_S: Final = 1.4
WORK_S: Final = 0.8
RESTART_AFTER_S: Final = (0.1, 0.5, 2.0, 10.0)
#: A handler that ran this long starts again at once when it fails.
HEALTHY_AFTER_S: Final = 60.0
REPORT_EVERY_S: Final = 5.0


class Daemon:
    """One supervisor of one host."""

    def __init__(
        self, stack: Stack, *, state: Path, identity: Identity, demo: bool = False, as_json: bool = False
    ) -> None:
        """Read nothing and start nothing yet; `stack` is the configuration, and `as_json` is how it greets."""
        self._stack = stack
        #: What it was at the start; what may have changed since is asked of `Live`.
        self._config = config = apart(stack.config) if demo else stack.config
        self._state = state
        self._identity = identity
        self._demo = demo
        self._mark = "SIMULATED" if demo else "DRY RUN" if config.dry_run else ""
        self._as_json = as_json
        self._clock = SystemClock()
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._standing = Standing()
        self._api: Server | None = None
        self._bus_kind = "redis"

    async def run(self) -> None:
        """Look after the host until SIGTERM or SIGINT; SIGHUP reads the configuration again.

        :raises FlyballError: what keeps it from starting, or from going on (inside an exception group).
        """
        raise_descriptor_limit()
        api = self._config.api
        self._token = kept_token(self._state) if api.enabled else None
        self._listener = listen(api.host, api.port) if api.enabled else None
        with Spool(self._state / "spool.db", self._config.bus.spool_mib << 20) as spool:
            self._assemble(spool)
            work = asyncio.create_task(self._work(), name="work")
            signals.install(stop=self._stopping.set, reload=self._reload.set)
            try:
                await self._stop_when_asked(work)
            finally:
                await self._end(work)
        if not work.cancelled():
            work.result()

    async def _end(self, work: asyncio.Task[None]) -> None:
        """Cancel the work; where something does not let go, say what, and leave without it."""
        work.cancel()
        _, stuck = await asyncio.wait({work}, timeout=WORK_S)
        if stuck:
            names = sorted(task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()})
            _log.error("stopping: %s did not end; leaving without", ", ".join(names))
            logging.shutdown()
            os._exit(1)

    # -- putting together ------------------------------------------------------------------------------------------

    def _assemble(self, spool: Spool) -> None:
        config, host = self._config, self._identity.host
        self._embedded = None if config.bus.url else EmbeddedBus(self._state, config.bus.memory_mib)
        self._url = self._embedded.url if self._embedded else config.bus.url
        self._duties = Duties(
            host=host, shard=config.bus.shard, clock=self._clock, standing=self._standing,
            status=lambda: current_status(self._parts), handlers=lambda: [runner.status() for runner in self._runners],
            targets=lambda: {target for runner in self._runners for target in runner.targets},
        )  # fmt: skip
        self._link = Link(
            connection=self._connection(), spool=spool, bus=config.bus, identity=self._identity, state=self._state,
            clock=self._clock, duties=self._duties.run,
        )  # fmt: skip
        self._duties.link = self._link
        self._link.when_restored.append(self._on_restored)
        declared = _declared(config)
        self._handlers: list[Handler] = [
            kind(config.handlers.get(name, kind.settings()), declared) for name, kind in installed_handlers().items()
        ]
        self._views = Views(self._handlers)
        self._runners = [self._runner(handler) for handler in self._handlers]
        self._publisher = Publisher(self._link, self._connection(), self._say_locally)
        self._desk = Desk(
            self._link, self._connection(), self._origin, self._clock, dry_run=config.dry_run,
            committed=self._standing.issued,
        )  # fmt: skip
        self._sampler = self._make_sampler()
        self._live = Live(
            self._stack, handlers=self._handlers, sampler=self._sampler, say=self._say,
            apart=apart if self._demo else lambda config: config,
        )  # fmt: skip
        self._monitoring = Monitoring(self._sampler, self._clock, self._say)
        self._parts = Parts(
            host=host, pid=os.getpid(), version=version("flyball-supervisor"), simulated=self._demo,
            bus_url=masked(self._url), bus_kind=lambda: self._bus_kind,
            api_url=lambda: self._api.url if self._api else None, clock=self._clock, link=self._link,
            standing=self._standing, views=self._views,
            handler_status=lambda: [runner.status() for runner in self._runners],
            latest=lambda: self._sampler.latest,
        )  # fmt: skip

    def _connection(self) -> Connection:
        bus = self._config.bus
        return Connection(self._url, timeout_s=bus.timeout_s, password_file=bus.password_file)

    def _origin(self, handler: str) -> Origin:
        bus = self._config.bus
        return Origin(self._identity.host, handler, bus.shard, bus.events_kept, self._mark)

    def _runner(self, handler: Handler) -> Runner:
        shard = self._config.bus.shard
        every: dict[Stream, str] = {
            "samples": samples_key(shard),
            "events": events_key(shard),
            "inbox": inbox_key(shard),
            "commands": commands_key(self._identity.host, shard),
        }
        return Runner(
            handler, link=self._link, connection=self._connection(), origin=self._origin(handler.name),
            keys={stream: every[stream] for stream in handler.streams}, boot_id=self._identity.boot_id,
            clock=self._clock, dry_run=self._config.dry_run, trusted=self._config.bus.is_guarded,
            say_locally=self._say_locally, committed=self._standing.issued,
        )  # fmt: skip

    def _make_sampler(self) -> Sampler:
        sources: Sources = (
            simulated_sources(self._config, self._clock, lambda index: self._standing.speed(f"gpu{index}"))
            if self._demo
            else real_sources(self._config, self._clock)
        )
        edges: list[Edge] = [edge for handler in self._handlers for edge in handler.edges()]
        return Sampler(
            host=self._identity.host, boot_id=self._identity.boot_id, sampling=self._config.sampling,
            clock=self._clock, gpus=sources.gpus, host_source=sources.host, processes=sources.processes,
            counters=sources.counters, edges=edges, registered=self._views.registered, simulated=self._demo,
            # In milliseconds, ticks are further apart than a number, so they grow over a restart, too.
            first_tick=int(since_boot_s() * 1000),
        )  # fmt: skip

    def _say_locally(self, stream: Stream, event: Event) -> None:
        for runner in self._runners:
            runner.offer(stream, event)

    def _say(self, kind: str, text: str, data: Struct) -> None:
        """An event of the daemon's own: it goes out with the next duties, or waits on disk while the bus is away."""
        commit, events = to_commit(
            self._origin("daemon"), f"{kind}/{self._link.epoch}/{self._clock.monotonic():.6f}",
            Decisions([Draft(kind, self._identity.host, text, data)]), wall_s=self._clock.wall(),
        )  # fmt: skip
        if self._link.up:
            self._duties.also.append(commit)
            return
        self._link.hold(commit)
        for event in events:
            self._say_locally("events", event)

    # -- at work ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Everything that runs until the daemon is asked to stop; the sampler first, since it needs nobody."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sampler.run(self._publisher.deliver), name="sampler")
            if self._embedded:
                await self._embedded.start()
                self._bus_kind = self._embedded.kind
                group.create_task(self._embedded.keep(), name="embedded bus")
            try:
                await self._link.connect()
            except (BusLost, BusFull, SpoolError) as error:
                _log.warning("%s; starting without it", error)
            group.create_task(self._link.run(), name="link")
            group.create_task(self._publisher.run(), name="publisher")
            for runner in self._runners:
                group.create_task(self._kept(runner), name=f"handler {runner.handler.name}")
            group.create_task(self._report_to_file(), name="status file")
            group.create_task(self._reload_when_asked(), name="reload")
            await self._open_api()
            self._greet()
            if self._demo:
                programs = run_programs(self._url, self._identity.host, self._stopping)
                group.create_task(programs, name="demo programs")

    async def _kept(self, runner: Runner) -> None:
        """Run a handler, again after a pause where it ends with an error that is its own."""
        failures = 0
        while True:
            since_s = self._clock.monotonic()
            try:
                return await runner.run()
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a handler does must not take the others down
                if self._clock.monotonic() - since_s > HEALTHY_AFTER_S:
                    failures = 0
                wait_s = RESTART_AFTER_S[min(failures, len(RESTART_AFTER_S) - 1)]
                failures += 1
                runner.failed_with(error)
                _log.exception("handler %s failed; starting it again in %g s", runner.handler.name, wait_s)
                await asyncio.sleep(wait_s)

    async def _open_api(self) -> None:
        if not self._listener or not self._token:
            return
        from supervisor.api.assemble import Sources as Shown  # after the first sample: it takes a tenth of a second
        from supervisor.api.assemble import contents
        from supervisor.api.server import serve_on

        shown = Shown(
            config=self._config, parts=self._parts, handlers=self._handlers, desk=self._desk, live=self._live,
            monitoring=self._monitoring, connect=self._connection, token=self._token,
        )  # fmt: skip
        self._api = await serve_on(self._listener, contents(shown))

    def _greet(self) -> None:
        greeting = Greeting(
            host=self._identity.host, pid=os.getpid(), simulated=self._demo, bus_url=self._url,
            bus_kind=self._bus_kind, bus_up=self._link.up, api_url=self._api.url if self._api else None,
            api_auth=self._config.api.needs_token, token_file=self._token.path if self._token else None,
            epoch=self._link.epoch, shard=self._config.bus.shard,
        )  # fmt: skip
        sys.stdout.write(greeting.json() if self._as_json else greeting.text())
        sys.stdout.flush()

    async def _report_to_file(self) -> None:
        """The state in `status.json`, for when the bus cannot be asked."""
        import msgspec

        path, draft = self._state / "status.json", self._state / ".status.json"
        bus_lost = asyncio.Event()
        self._link.when_lost.append(bus_lost.set)
        while True:
            try:
                draft.write_bytes(msgspec.json.encode(current_status(self._parts)))
                draft.replace(path)
            except (FlyballError, OSError) as error:
                _log.warning("cannot write %s: %s", path, error)
            bus_lost.clear()
            await wait_for(bus_lost, REPORT_EVERY_S if self._link.up else 1.0)

    def _on_restored(self, outage: Outage) -> None:
        """Say that the bus was away; not at the start, when nothing has been lost yet."""
        if not (outage.commits or outage.samples or outage.dropped):
            return
        dropped = f", {outage.dropped} samples were dropped" if outage.dropped else ""
        sent = f"sent {outage.commits} commits and {outage.samples} samples"
        text = f"the bus was away for {outage.away_s:.1f} s; {sent}{dropped}"
        data = BusRestored(
            away_s=round(outage.away_s, 3), events_sent=outage.commits, samples_sent=outage.samples,
            samples_dropped=outage.dropped, cause="",
        )  # fmt: skip
        self._say("flyball.bus.restored", text, data)

    async def _reload_when_asked(self) -> None:
        """What a SIGHUP asks for; several at once are one."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            await self._live.reload("SIGHUP")

    # -- taking apart ----------------------------------------------------------------------------------------------

    async def _stop_when_asked(self, work: asyncio.Task[None]) -> None:
        """On a signal: stop sampling, let the handlers finish, withdraw every demand, give up the lease."""
        asked = asyncio.create_task(self._stopping.wait(), name="signal")
        await asyncio.wait({asked, work}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        self._sampler.stop()
        for runner in self._runners:
            runner.stop()
        await asyncio.gather(
            self._bounded("the handlers", self._let_handlers_finish(), HANDLERS_S),
            self._bounded("the API", self._close_api(), HANDLERS_S),
        )
        work.cancel()
        await asyncio.wait({work}, timeout=WORK_S)
        await self._bounded("the demands", self._withdraw(), DEMANDS_S)
        await self._bounded("the bus", self._stop_bus(), BUS_S)

    async def _bounded(self, what: str, step: Coroutine[None, None, None], within_s: float) -> None:
        """One step of the teardown; when it fails or takes too long, the next one is taken all the same."""
        try:
            async with asyncio.timeout(within_s):
                await step
        except TimeoutError:
            _log.warning("stopping: gave up on %s after %g s", what, within_s)
        except (FlyballError, OSError) as error:
            _log.warning("stopping: %s: %s", what, error)

    async def _let_handlers_finish(self) -> None:
        names = {f"handler {runner.handler.name}" for runner in self._runners}
        tasks = [task for task in asyncio.all_tasks() if task.get_name() in names]
        if tasks:
            await asyncio.wait(tasks)

    async def _close_api(self) -> None:
        if self._api:
            await self._api.close()

    async def _withdraw(self) -> None:
        """Withdraw what we demand, so that nobody stays slow for a supervisor that is gone."""
        demands = [] if self._config.dry_run else self._views.demands()
        withdrawals = [Withdrawal(demand.issuer, demand.target) for demand in demands]
        commit, _ = to_commit(
            self._origin("stop"), f"stop/{self._link.epoch}/{self._clock.monotonic():.3f}",
            Decisions(demands=withdrawals), wall_s=self._clock.wall(),
        )  # fmt: skip
        commits = [*self._duties.also, *([commit] if withdrawals else [])]
        if not self._link.up:
            self._hold(commits)
            return
        connection = self._connection()
        try:
            await connection.open()
            for commit in commits:
                await connection.ask(*self._link.commit_command(connection, commit))
            for runner in self._runners:
                await runner.close()
            await self._publisher.close()
            await self._desk.close()
            await lease.report(connection, self._identity.host, self._link.epoch, b"", 0, shard=self._config.bus.shard)
            await self._link.release(connection)
        except (BusLost, BusFull, asyncio.CancelledError):
            self._hold(commits)  # their tokens tell whether they arrived
            raise
        finally:
            await connection.close()

    def _hold(self, commits: Sequence[Commit]) -> None:
        for commit in commits:
            self._link.hold(commit)

    async def _stop_bus(self) -> None:
        if self._embedded:
            await self._embedded.stop()


def _declared(config: Config) -> tuple[Declared, ...]:
    return tuple(
        Declared(
            name=workload.name,
            targets=(*(f"gpu{index}" for index in workload.gpus), "host", f"workload.{workload.name}"),
            priority=workload.priority,
            may=workload.may,
            restart=workload.restart,
            on_leak=workload.on_leak,
        )
        for workload in config.workload
    )
