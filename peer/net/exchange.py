"""One request of this side, and its response.

A request whose body fits one message is given to aiocoap's manager of requests directly: aiocoap's
own object for a request takes two tasks. Bodies in blocks are left to aiocoap.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

import aiocoap
from aiocoap import error as coap_error
from aiocoap.pipe import Pipe

from peer.errors import Malformed, TimedOut, Unreachable
from peer.limits import Limits
from peer.net.aiocoap_seam.response_bodies import Assembly, in_blocks, needs_blocks
from peer.net.coaps import CoapsLayer

_ADVICE = "Check that the device is on and connected, then try again."


class Exchange:
    """A request that was sent. It ends with its response, or with `stop`, which is always called.

    Args:
        request: the message, with its remote.
        layer: sends it.
        limits: the limits of this side.
        is_block: whether it requests one block of a response; its response is then that block.
    """

    def __init__(
        self,
        request: aiocoap.Message,
        layer: CoapsLayer,
        limits: Limits,
        *,
        is_block: bool = False,
    ) -> None:
        self._request = request
        self._context = layer.context
        self._limits = limits
        self._is_block = is_block
        self._loop: asyncio.AbstractEventLoop = layer.context.loop
        #: Done once there is a response or an error; `result` returns or raises it.
        self.outcome: asyncio.Future[aiocoap.Message] = self._loop.create_future()
        self._transfer: asyncio.Task[None] | None = None
        self._pipe: Pipe | None = None
        if not is_block and needs_blocks(request):
            self._take(in_blocks(layer.context, request))
        else:
            self._pipe = Pipe(request, layer.context.log)
            self._forget = self._pipe.on_event(self._on_event)
            layer.send_request(self._pipe)

    async def response(self, *, timeout: float | None) -> aiocoap.Message:
        """Wait for the response, whatever its code, and return it; then stop.

        `timeout` is in seconds; None waits as long as the device acknowledges. Raises what `result`
        raises.
        """
        timer = None
        if timeout is not None:
            timer = self._loop.call_later(timeout, self._expire, timeout)
        try:
            with suppress(Exception):
                await self.outcome
            return self.result()
        finally:
            if timer is not None:
                timer.cancel()
            self.stop()

    def result(self) -> aiocoap.Message:
        """Return the response, once `outcome` is done.

        Raises:
            TimedOut: there was no response in time.
            Unreachable: the session has ended, or the device rejected the message.
            Malformed: the blocks of the response do not fit together.
        """
        try:
            return self.outcome.result()
        except coap_error.ConRetransmitsExceeded as error:
            raise TimedOut("the device no longer responds", advice=_ADVICE) from error
        except coap_error.MessageError as error:
            raise Unreachable(
                "the device rejected the request without processing it",
                advice="Use a shorter path and query, or fewer segments: a device accepts "
                f"{self._limits.message_options} options with "
                f"{self._limits.message_option_bytes} bytes in total.",
            ) from error
        except coap_error.Error as error:
            raise Unreachable(
                f"the request failed: {str(error) or type(error).__name__}"
            ) from error
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            # aiocoap assembles the blocks of a response and fails on some sequences of them.
            raise Malformed("the blocks of the device's response are inconsistent") from error

    def stop(self) -> None:
        """Free everything; without a response, the request ends. Safe to repeat."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            self._forget()
        if self._transfer is not None:
            self._transfer.cancel()
        if not self.outcome.cancel() and not self.outcome.cancelled():
            self.outcome.exception()  # which asyncio would log otherwise

    def _expire(self, seconds: float) -> None:
        if not self.outcome.done():
            text = f"no response within {seconds:g} s" if seconds else "no response"
            self.outcome.set_exception(TimedOut(text, advice=_ADVICE))

    def _on_event(self, event: Pipe.Event) -> bool:
        """Take the response, or the error. No other one follows."""
        self._pipe = None
        message = event.message
        if self.outcome.done():
            return False
        if message is None:
            self.outcome.set_exception(event.exception or coap_error.Error())
            return False
        message.request = self._request
        block = message.opt.block2
        if self._is_block:
            self.outcome.set_result(message)
        elif message.opt.block1 is not None:
            self.outcome.set_exception(Malformed("the device's response acknowledges no block"))
        elif block is not None and block.more:
            self._take(Assembly.complete(self._context, self._request, message))
        else:
            message.opt.block2 = None
            self.outcome.set_result(message)
        return False

    def _take(self, work: Coroutine[object, object, aiocoap.Message]) -> None:
        """Run a transfer in blocks, whose result is the outcome."""

        async def run() -> None:
            try:
                whole = await work
            except Exception as error:
                if not self.outcome.done():
                    self.outcome.set_exception(error)
            else:
                if not self.outcome.done():
                    self.outcome.set_result(whole)

        self._transfer = self._loop.create_task(run())
