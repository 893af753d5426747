"""aiocoap's context: the requests to this side, each in a task of its own."""

import aiocoap
from aiocoap import error as coap_error
from aiocoap.numbers.codes import Code
from aiocoap.pipe import Pipe


class Context(aiocoap.Context):
    """aiocoap's context, with one task and one pipe for each request to this side."""

    def render_to_pipe(self, pipe: Pipe) -> None:
        """Answer a request in a task, which ends when no one waits for the answer any more.

        aiocoap makes a second pipe for errors alone, and a name for the task that nothing shows.
        """
        task = self.loop.create_task(self._answered(pipe), name="request")
        pipe.on_interest_end(task.cancel)

    async def _answered(self, pipe: Pipe) -> None:
        try:
            await self._render_to_pipe(pipe)
        except Exception as error:
            pipe.add_response(self._answer_to(error), is_last=True)

    def _answer_to(self, error: Exception) -> aiocoap.Message:
        """Return the response to a request that has failed: 5.00 if the error does not say."""
        if not isinstance(error, coap_error.RenderableError):
            self.log.error("An exception occurred while rendering: %r", error, exc_info=error)
            return aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR)
        try:
            answer: aiocoap.Message | None = error.to_message()
            if answer is None:
                raise ValueError("to_message() returned nothing")
        except Exception:
            self.log.exception("The error %r has no message", error)
            return aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR)
        return answer
