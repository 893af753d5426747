"""Running asynchronous work from blocking code: an event loop in a thread of its own."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from peer.errors import UsageError

T = TypeVar("T")

Work = Coroutine[object, None, T]
"""The coroutine that an `async def` function returns."""


class EventLoopThread:
    """A thread that runs an event loop until `close`."""

    def __init__(self) -> None:
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._stop: asyncio.Event | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="handfast", daemon=True)
        self._thread.start()
        self._loop = self._started.result()

    def call(self, work: Work[T]) -> T:
        """Run a coroutine in the loop and return its result. An interrupt cancels it.

        Raises `UsageError` if the loop is closed, before or during the call.
        """
        if not self._thread.is_alive():
            work.close()
            raise UsageError("this client is closed", advice="Use it inside its `with` block.")
        tasks: list[asyncio.Task[object] | None] = []
        is_interrupted = threading.Event()

        async def run() -> T:
            tasks.append(asyncio.current_task())
            if is_interrupted.is_set():
                work.close()
                raise asyncio.CancelledError
            return await work

        try:
            return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
        except CancelledError as error:
            raise UsageError("this client was closed during the call") from error
        except Exception:
            raise
        except BaseException:  # an interrupt, which may come before there is a future to cancel
            is_interrupted.set()
            self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks if task])
            raise

    def iterate(
        self, start: Callable[[], AsyncIterator[T]], *, subject: str
    ) -> "BlockingIterator[T]":
        """Return the items of an asynchronous iterator. Leaving a loop over them closes it."""
        return BlockingIterator(self, start, subject=subject)

    def discard(self, stream: AsyncIterator[object]) -> None:
        """Close an asynchronous iterator, from any thread, and wait for it if that is possible."""
        if sys.is_finalizing() or not self._thread.is_alive():
            return
        if threading.current_thread() is self._thread:  # a garbage collection there
            self._closing.add(task := self._loop.create_task(_close(stream)))
            task.add_done_callback(self._closing.discard)
        else:
            with contextlib.suppress(UsageError):  # closed meanwhile
                self.call(_close(stream))

    def close(self) -> None:
        """Stop the loop and wait for the thread. Safe to repeat."""
        if self._thread.is_alive() and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        self._started.set_result(asyncio.get_running_loop())
        await self._stop.wait()


class BlockingIterator(Generic[T]):
    """The items of an asynchronous iterator, for code without `async`.

    A `for` loop that is left closes the asynchronous iterator, also if a variable still refers to
    this one; a loop after that begins a new one.

    Args:
        loop: where the asynchronous iterator runs.
        start: makes it.
        subject: where the items come from, for `repr`.
    """

    def __init__(
        self, loop: EventLoopThread, start: Callable[[], AsyncIterator[T]], *, subject: str
    ) -> None:
        self._loop = loop
        self._start = start
        self._subject = subject
        self._stream: AsyncIterator[T] | None = None

    def __repr__(self) -> str:
        return f"<blocking iterator over {self._subject}>"

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                try:
                    yield next(self)
                except StopIteration:
                    return
        finally:
            self.close()

    def __next__(self) -> T:
        """Wait for the next item and return it."""
        if self._stream is None:
            self._stream = self._start()
        try:
            return self._loop.call(_next(self._stream))
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Close the asynchronous iterator. Safe to repeat."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._loop.discard(stream)

    def __del__(self) -> None:
        self.close()


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream)


async def _close(stream: AsyncIterator[object]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
