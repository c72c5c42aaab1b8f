"""The process that serves: it listens, answers, and when it is told to stop finishes what it has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

import uvicorn

from ..errors import OwnlmError, UserError
from .app import make_app
from .config import ServeConfig, is_loopback
from .protocol import MOST_HEADER_BYTES, bounded
from .serving import Serving

# Seconds that new requests are still answered (with 503) for at least, so that balancers notice and come no more.
LINGERING = 0.5
# Seconds for answers whose generation was ended by force to reach their clients.
LAST_WORDS = 5
_RETENTION_EVERY = 3600
# Files besides connections: the store's, the model's, threads' and processes' own, and those being refused.
_OTHER_FILES = 256
_BACKLOG = 2048
# Connections that are accepted before any of them is looked at; asyncio takes that for the backlog too. With more, a crowd
# would take all files at once, and each one missing is a line in the log.
_ACCEPTED_AT_ONCE = 16
# Seconds within which the log says but once that files are missing.
_SAID_EVERY = 60

log = logging.getLogger(__name__)


def listen(config: ServeConfig, with_keys: bool) -> socket.socket:
    """A socket at the server's address, bound and not yet listening.

    Raises:
        UserError: the address cannot be had, or others could reach it and there are no keys.
    """
    if not with_keys and not is_loopback(config.host):
        raise UserError(
            f"others can reach the address {config.host}, and there are no keys",
            where="--host",
            hint="make a key with 'ownlm keys create NAME', or give one with --api-key",
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"'{config.host}' is no address of this machine: {error}", where="--host") from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
    except OSError as error:
        found.close()
        raise taken(config, error) from None
    return found


def taken(config: ServeConfig, error: OSError) -> UserError:
    """Why an address cannot be had."""
    message = f"this address cannot be listened on: {error.strerror}"
    return UserError(message, where=f"{config.host}:{config.port}", hint="--port 0 takes any free one")


def connections_for(wanted: int) -> int:
    """How many connections may be open, by what the system lets a process have; raises that as far as it goes.

    One connection too many would keep the store's files from being opened, or the others from being accepted.
    """
    try:
        import resource
    except ImportError:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= need:
        return wanted
    room = max(1, soft - _OTHER_FILES)
    log.warning(
        "fewer connections than asked for: the system allows too few open files",
        extra={"fields": {"connections": room}},
    )
    return room


def address_of(found: socket.socket, host: str) -> str:
    """A bound socket's address, as a browser takes it."""
    port = found.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """Answers until SIGTERM or SIGINT, and then drains; a second signal ends it at once.

    Args:
        serving: what is served.
        ready: called once requests are answered.

    Attributes:
        stopped_by: the signal that ended it.
    """

    def __init__(self, serving: Serving, ready: Callable[[], None]) -> None:
        config = serving.config
        super().__init__(
            uvicorn.Config(
                make_app(serving),
                http=bounded(connections_for(config.max_connections), config.read_timeout),
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=_ACCEPTED_AT_ONCE,
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
                timeout_graceful_shutdown=LAST_WORDS,
            )
        )
        self.serving, self._ready = serving, ready
        self.stopped_by: int | None = None
        self._silent_until = 0.0

    def run_on(self, found: socket.socket) -> None:
        """Serves on a bound socket until a signal ends it."""
        asyncio.run(self.serve(sockets=[found]))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer; only then the server is called ready."""
        served, config = self.serving.served, self.serving.config
        asyncio.get_running_loop().set_exception_handler(self._note)
        finding = asyncio.create_task(served.find_release())
        if config.keep_conversations:
            # No answer is stored without the release it came from.
            await finding
        self._tasks = [finding]
        if config.retention is not None:
            self._tasks.append(asyncio.create_task(self._forget()))
        try:
            await super().startup(sockets)
            for found in sockets or ():
                # The system lets many more wait than are accepted at once.
                found.listen(_BACKLOG)
        except OSError as error:
            # Two may be bound to one address while neither listens, as when both load their models.
            raise taken(config, error) from None
        self._ready()

    async def main_loop(self) -> None:
        """Answers until a signal comes, then drains."""
        await super().main_loop()
        if self.stopped_by is not None and not self.force_exit:
            await self._drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the connections and the engine."""
        await asyncio.to_thread(self.serving.served.close)
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn, without sending itself the signal again at the end: a drained server has ended well."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins to drain, the next one ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.stopped_by = self.stopped_by or sig
        self.serving.drain()

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What goes wrong in no request, as a line in the log as any other."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            if loop.time() < self._silent_until:
                return
            self._silent_until = loop.time() + _SAID_EVERY
            log.error("connections cannot be accepted: there are too many open files")
            return
        log.error(str(context.get("message")), exc_info=error)

    async def _drain(self) -> None:
        traffic, loop = self.serving.traffic, asyncio.get_running_loop()
        begun = loop.time()
        log.info("draining", extra={"fields": {"in_flight": traffic.in_flight}})
        while loop.time() - begun < self.serving.config.drain and not self.force_exit:
            if not traffic.in_flight and loop.time() - begun >= min(LINGERING, self.serving.config.drain):
                break
            await asyncio.sleep(0.05)
        log.info("drained", extra={"fields": {"in_flight": traffic.in_flight}})

    async def _forget(self) -> None:
        """Removes old conversations, now and every hour."""
        store, days = self.serving.store, self.serving.config.retention
        while store is not None and days is not None:
            try:
                gone = await asyncio.to_thread(store.purge, days)
                if gone.conversations:
                    log.info("removed old conversations", extra={"fields": vars(gone)})
            except OwnlmError as error:
                log.error("old conversations could not be removed", extra={"fields": {"error": str(error)}})
            await asyncio.sleep(_RETENTION_EVERY)
