"""Calling the handlers of an application's resource: what they may return, and what goes wrong.

aiocoap expects that a handler is a coroutine function and returns a message. Here it may be a plain
function too, and return text, bytes or a value; the answer gets the content format that fits. A
failure is one line of the log with the line of the module. A handler that does not return to the
event loop stops the whole device, all sessions included; so it is timed.
"""

import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.numbers.codes import Code
from aiocoap.resource import Resource

from device_app.limits import FAULTS_REMEMBERED, HOLDING_SECONDS
from device_app.modules import faults
from device_app.resource_spec import ResourceSpec
from peer import cbor
from peer.bounded_dict import BoundedDict
from peer.net.aiocoap_seam.copies import copied
from peer.net.direct import AnswersPlain, TakesPlainWrites, WriteHandler
from peer.net.plain import Answer, Done, Write, checked, checked_done
from peer.net.remote import PeerIdentity

_log = logging.getLogger("handfast.modules")

TEXT, OCTETS, CBOR = 0, 42, 60
_READING: Final = frozenset({Code.GET, Code.FETCH})
#: Codes of answers that have none; it is 2.04 for all other methods.
_DEFAULT_CODES: Final[Mapping[Code, Code]] = MappingProxyType(
    {Code.GET: Code.CONTENT, Code.FETCH: Code.CONTENT, Code.DELETE: Code.DELETED}
)
_VALUES: Final = (bool, int, float, list, tuple, dict, Mapping)


class _FaultError(coap_error.ConstructionRenderableError):
    """The answer to a request whose handler has failed: 5.00, without a body."""

    code = Code.INTERNAL_SERVER_ERROR


class _UnusableAnswerError(Exception):
    """A handler returned something from which no answer can be made."""


class Application:
    """The application's part of one resource: its handlers and its attributes.

    Args:
        spec: the resource.
        module: the name of its module.
        file: the file of the module, if it is known.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        spec: ResourceSpec,
        *,
        module: str,
        file: Path | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.spec = spec
        self._module = module
        self._file = file
        self._clock = clock
        self._known: BoundedDict[tuple[str, str, str], bool] = BoundedDict(FAULTS_REMEMBERED)

    async def answer(self, request: aiocoap.Message) -> aiocoap.Message:
        """Return the answer of the resource. Raises an error that aiocoap answers."""
        resource, method = self.spec.resource, str(request.code)
        if not isinstance(resource, Resource) or type(resource).render is not Resource.render:
            return await self._called(method, resource.render, request)
        handler = getattr(resource, f"render_{method.lower()}", None)
        if handler is None:
            raise coap_error.UnallowedMethod
        return await self._called(method, handler, request)

    def answer_plain(self, query: tuple[str, ...], sender: PeerIdentity) -> Answer:
        """Return the answer of a resource that has `answer` to a plain GET (`peer.net.direct`).

        Raises the error of the resource, and others for what is not an answer. After an error that
        aiocoap does not answer, the request is answered by `answer`, which logs the fault.
        """
        assert isinstance(self.spec.resource, AnswersPlain)
        started = self._clock()
        try:
            return checked(self.spec.resource.answer(query, sender))
        except SystemExit as error:
            raise _UnusableAnswerError("the handler has called sys.exit()") from error
        finally:
            self._holds("GET")(self._clock() - started)

    def plain_writes(self) -> Mapping[str, WriteHandler]:
        """Return the handlers that take plain requests other than GET, by method."""
        if not isinstance(self.spec.resource, TakesPlainWrites):
            return {}
        return {
            method: partial(self._written, method, handler)
            for method, handler in self.spec.resource.plain_writes().items()
        }

    def _written(
        self, method: str, handler: WriteHandler, write: Write, sender: PeerIdentity
    ) -> Done:
        """Call a handler. Raises an error that aiocoap answers."""
        started = self._clock()
        try:
            return checked_done(handler(write, sender))
        except (Exception, SystemExit) as error:
            raise self._failure(method, error) from error
        finally:
            self._holds(method)(self._clock() - started)

    async def observed(self, request: aiocoap.Message, observation: object) -> None:
        """Add an observation. Raises an error that aiocoap answers."""
        resource = self.spec.resource
        assert isinstance(resource, interfaces.ObservableResource)
        try:
            await _Timed(
                resource.add_observation(request, observation), self._clock, self._holds("observe")
            )
        except (Exception, SystemExit) as error:
            raise self._failure("observe", error) from error

    def attributes(self, request: aiocoap.Message) -> Mapping[str, str]:
        """Return what the conditions of policies compare. Raises an error that aiocoap answers."""
        assert self.spec.attributes is not None
        started = self._clock()
        try:
            return self.spec.attributes(request)
        except (Exception, SystemExit) as error:
            raise self._failure("attributes", error) from error
        finally:
            self._holds("attributes")(self._clock() - started)

    async def _called(
        self, method: str, handler: Callable[[aiocoap.Message], object], request: aiocoap.Message
    ) -> aiocoap.Message:
        started = self._clock()
        try:
            try:
                returned = handler(request)
            finally:
                self._holds(method)(self._clock() - started)
            if inspect.isawaitable(returned):
                returned = await _Timed(returned, self._clock, self._holds(method))
            return _message(returned, request, self.spec.resource, handler)
        except (Exception, SystemExit) as error:
            raise self._failure(method, error) from error

    def _failure(self, method: str, error: BaseException) -> BaseException:
        """Return the error that aiocoap answers, and log one that is a fault of the module.

        The first occurrence is logged, later ones only for debugging: every request may cause one.
        """
        if isinstance(error, coap_error.RenderableError):
            return error
        place = faults.place_of(error, self._file)
        key = (method, type(error).__name__, place or str(error))
        level = logging.DEBUG if key in self._known else logging.ERROR
        self._known[key] = True
        where = faults.described(error, self._file)
        if isinstance(error, _UnusableAnswerError):
            where = str(error)
        _log.log(
            level,
            "%s %s of the module %r failed, which is logged once: %s",
            method,
            self.spec.path,
            self._module,
            where,
        )
        _log.debug("the traceback of %s %s", method, self.spec.path, exc_info=error)
        return _FaultError()

    def _holds(self, method: str) -> Callable[[float], None]:
        """Return a function that logs a part of a handler if it took too many seconds."""

        def note(seconds: float) -> None:
            if seconds <= HOLDING_SECONDS:
                return
            key = (method, "holds", "")
            level = logging.DEBUG if key in self._known else logging.WARNING
            self._known[key] = True
            _log.log(
                level,
                "%s %s of the module %r stopped the whole device for %.1f s, which is logged once; "
                "use `await asyncio.sleep`, or `await asyncio.to_thread(function)`",
                method,
                self.spec.path,
                self._module,
                seconds,
            )

        return note


class HandledResource(Resource):
    """A resource of an application, as the device serves it."""

    def __init__(self, application: Application) -> None:
        super().__init__()
        self._application = application
        self._resource = application.spec.resource

    @property
    def ct(self) -> object:
        """The content formats that the resource states, for its link."""
        return getattr(self._resource, "ct", None)

    def get_link_description(self) -> Mapping[str, str | None] | None:
        """Return the description of the application's resource."""
        if not isinstance(self._resource, Resource):
            return {}
        return self._resource.get_link_description()

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        """Answer one request."""
        return await self._application.answer(request)

    def plain_writes(self) -> Mapping[str, WriteHandler]:
        """Return the handlers that take plain requests other than GET, by method."""
        return self._application.plain_writes()


class HandledObservable(HandledResource, interfaces.ObservableResource):
    """The same for a resource that can be observed."""

    async def add_observation(self, request: aiocoap.Message, serverobservation: object) -> None:
        """Let the application's resource notify an observer."""
        await self._application.observed(request, serverobservation)


class HandledPlain(HandledResource):
    """The same for a resource that answers plain requests by `answer`."""

    def answer(self, query: tuple[str, ...], sender: PeerIdentity, /) -> Answer:
        """Answer one plain request."""
        return self._application.answer_plain(query, sender)


class HandledPlainObservable(HandledPlain, HandledObservable):
    """The same for a resource with both."""


def handled(application: Application) -> HandledResource:
    """Return the resource to serve."""
    resource = application.spec.resource
    is_observable = isinstance(resource, interfaces.ObservableResource)
    if isinstance(resource, AnswersPlain):
        return (HandledPlainObservable if is_observable else HandledPlain)(application)
    return (HandledObservable if is_observable else HandledResource)(application)


def _message(
    returned: object,
    request: aiocoap.Message,
    resource: object,
    handler: Callable[..., object],
) -> aiocoap.Message:
    """Make the answer of what a handler returned.

    Raises:
        _UnusableAnswerError: nothing can be made of it.
    """
    match returned:
        case aiocoap.Message():
            answer = returned
        case str():
            answer = aiocoap.Message(payload=returned.encode(), content_format=TEXT)
        case bytes() | bytearray() | memoryview():
            stated = getattr(resource, "ct", None)
            found = int(stated) if isinstance(stated, int) else OCTETS
            answer = aiocoap.Message(payload=bytes(returned), content_format=found)
        case None if request.code not in _READING:
            answer = aiocoap.Message()
        case None:
            raise _unusable(handler, "returned nothing")
        case _ if isinstance(returned, _VALUES):
            try:
                answer = aiocoap.Message(payload=cbor.encode(returned), content_format=CBOR)
            except (TypeError, ValueError, RecursionError) as error:
                raise _unusable(handler, f"returned what CBOR cannot express: {error}") from error
        case _:
            raise _unusable(handler, f"returned {type(returned).__name__}")
    if not answer.code:
        answer = copied(answer, code=_DEFAULT_CODES.get(request.code, Code.CHANGED))
    if not answer.code.is_response():
        raise _unusable(handler, f"returned a message with the code {answer.code}")
    payload: object = answer.payload
    if not isinstance(payload, bytes):
        raise _unusable(handler, f"returned a message whose payload is {type(payload).__name__}")
    try:
        answer.opt.encode()
    except Exception as error:  # a value of a type that the option does not have
        raise _unusable(handler, f"returned a message with a wrong option: {error}") from error
    return answer


def _unusable(handler: Callable[..., object], what: str) -> _UnusableAnswerError:
    code = getattr(inspect.unwrap(handler), "__code__", None)
    place = f"{code.co_filename}, line {code.co_firstlineno}: " if code is not None else ""
    name = getattr(handler, "__qualname__", type(handler).__name__)
    return _UnusableAnswerError(
        f"{place}{name} {what}; return text, bytes, a value for CBOR, or a message"
    )


class _Timed(Awaitable[object]):
    """An awaitable that reports how long each of its steps has held the event loop, in seconds."""

    def __init__(
        self,
        inner: Awaitable[object],
        clock: Callable[[], float],
        note: Callable[[float], None],
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._note = note

    def __await__(self) -> Generator[object, object, object]:
        steps = self._inner.__await__()
        advance = partial(_send, steps, None)
        while True:
            started = self._clock()
            try:
                waits_for = advance()
            except StopIteration as end:
                return end.value
            finally:
                self._note(self._clock() - started)
            try:
                sent = yield waits_for
            except BaseException as error:  # also a cancellation
                advance = partial(_throw, steps, error)
            else:
                advance = partial(_send, steps, sent)


def _send(steps: Generator[object, object, object], value: object) -> object:
    return next(steps) if value is None else steps.send(value)


def _throw(steps: Generator[object, object, object], error: BaseException) -> object:
    return steps.throw(error)
