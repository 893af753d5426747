"""A tree of CoAP resources behind one guard.

Every request passes here, in this order: critical options we do not know (4.02), the guard's
decision, existence (4.04), size (4.13), blocks (RFC 7959), the resource's handler. The guard comes
before existence, so that a stranger cannot map the tree; and before blocks, so that a stranger
cannot make us keep half a body.

An observation is one request with many answers, and what was right for the first may be wrong for
the next: so the guard decides about each notification anew, before the resource is asked for it and
once more before it is sent. A refusal is the last answer.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.blockwise import Block1Spool, Block2Cache, IncompleteException
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.pipe import Pipe
from aiocoap.resource import ObservableResource

from peer.limits import Limits
from peer.net.coaps import CoapsRemote
from peer.net.problem import ProblemError

Path = tuple[str, ...]
Authorise = Callable[[aiocoap.Message, Path, interfaces.Resource | None], None]

_UNDERSTOOD = frozenset(
    {
        OptionNumber.URI_HOST,
        OptionNumber.URI_PORT,
        OptionNumber.URI_PATH,
        OptionNumber.URI_QUERY,
        OptionNumber.ACCEPT,
        OptionNumber.BLOCK1,
        OptionNumber.BLOCK2,
    }
)


class _Bounded(OrderedDict[Any, Any]):
    """A mapping that forgets its oldest entry when a new one would be too many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        while len(self) > self._most:
            self.popitem(last=False)


class _BoundedBodies(Block1Spool):  # type: ignore[misc]  # aiocoap has no types
    """Half-received bodies: each of a bounded size, and a bounded number of them."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._assemblies = _Bounded(limits.block_assemblies)
        self._most_bytes = limits.request_body_bytes

    def feed_and_take(self, req: aiocoap.Message) -> aiocoap.Message:
        """Add one block; the whole body when it was the last, else 2.31, 4.08 or 4.13."""
        block = req.opt.block1
        start = block.start if block is not None else 0
        announced = req.opt.size1 or 0
        if max(start + len(req.payload), announced) > self._most_bytes:
            raise ProblemError(
                Code.REQUEST_ENTITY_TOO_LARGE,
                "too-large",
                "the request's body is too large",
                f"Send at most {self._most_bytes} bytes.",
            )
        whole = super().feed_and_take(req)
        if block is not None:
            self._forget(whole)
        return whole

    def _forget(self, whole: aiocoap.Message) -> None:
        for key in [key for key, held in self._assemblies.items() if held is whole]:
            del self._assemblies[key]


class _BoundedAnswers(Block2Cache):  # type: ignore[misc]
    """Half-sent answers, a bounded number of them."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._completes = _Bounded(limits.block_assemblies)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The half-done transfers of one session."""

    bodies: _BoundedBodies
    answers: _BoundedAnswers


class _Watched(ObservableResource):  # type: ignore[misc]
    """A resource under observation, with `decide` before each notification."""

    def __init__(self, resource: interfaces.ObservableResource, decide: Callable[[], None]) -> None:
        super().__init__()
        self._resource = resource
        self.decide = decide

    async def add_observation(self, request: aiocoap.Message, serverobservation: object) -> None:
        """The resource keeps its observers itself."""
        await self._resource.add_observation(request, serverobservation)

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        """One notification of the resource's making."""
        self.decide()
        return await self._resource.render(request)


@dataclass(frozen=True, slots=True)
class _DecidedPipe:
    """A pipe that lets an answer through only after `decide`. A resource may hand its observers an
    answer that it made for all of them, without being asked to render it for this one."""

    pipe: Pipe
    decide: Callable[[], None]

    @property
    def request(self) -> aiocoap.Message:
        """The request that is observed with."""
        return self.pipe.request

    def add_response(self, response: aiocoap.Message, is_last: bool = False) -> None:
        """Send one notification, or raise what the guard says."""
        self.decide()
        self.pipe.add_response(response, is_last=is_last)


class GuardedSite(interfaces.ObservableResource):  # type: ignore[misc]
    """The root resource of a server. `authorise` raises `ProblemError` to refuse a request; it gets
    the request, its path without a trailing slash, and the resource there, if there is one."""

    def __init__(self, *, authorise: Authorise, limits: Limits) -> None:
        self._authorise = authorise
        self._resources: dict[Path, interfaces.Resource] = {}
        self._subtrees: set[Path] = set()
        self._limits = limits

    def add(self, path: Path, resource: interfaces.Resource, *, takes_rest: bool = False) -> None:
        """Serve a resource at a path; with `takes_rest`, everything below it as well (the rest of
        the path is then the request's `uri_path`). Raises `ValueError` if the path is taken."""
        if path in self._resources:
            raise ValueError(f"there is a resource at /{'/'.join(path)} already")
        self._resources[path] = resource
        if takes_rest:
            self._subtrees.add(path)

    def remove(self, path: Path) -> None:
        """Stop serving what is at a path."""
        del self._resources[path]
        self._subtrees.discard(path)

    def paths(self) -> dict[Path, interfaces.Resource]:
        """What is served where."""
        return dict(self._resources)

    async def render_to_pipe(self, pipe: Pipe) -> None:
        """Answer one request; called by aiocoap in a task of its own."""
        request = pipe.request
        _check_options(request)
        path = tuple(request.opt.uri_path)
        if path and not path[-1]:
            path = path[:-1]
        at, resource = self._find(path)
        self._authorise(request, path, resource)
        if resource is None:
            raise ProblemError(
                Code.NOT_FOUND,
                "not-found",
                "there is no such resource",
                "`/.well-known/core` lists the resources.",
            )
        pipe.request = request.copy(uri_path=path[len(at) :])
        # Only a GET is observed (RFC 7641 §2): anything else would run again with each change.
        observes = (
            request.code is Code.GET
            and request.opt.observe == 0
            and isinstance(resource, interfaces.ObservableResource)
        )
        try:
            if observes:
                watched = _Watched(resource, lambda: self._authorise(request, path, resource))
                await watched.render_to_pipe(_DecidedPipe(pipe, watched.decide))
            else:
                await self._answer_in_blocks(pipe, resource, request)
        except coap_error.UnallowedMethod as error:
            raise ProblemError(
                Code.METHOD_NOT_ALLOWED,
                "method-not-allowed",
                f"this resource has no {request.code}",
                "`/.well-known/core` lists the resources; most are read with GET.",
            ) from error
        except IncompleteException as error:
            raise ProblemError(
                Code.REQUEST_ENTITY_INCOMPLETE,
                "incomplete",
                "a block is missing, or came too late",
                "Send the whole body again from its first block.",
            ) from error

    async def _answer_in_blocks(
        self, pipe: Pipe, resource: interfaces.Resource, request: aiocoap.Message
    ) -> None:
        blocks = self._blocks(request)
        whole = blocks.bodies.feed_and_take(request)
        addressed = whole.copy(uri_path=pipe.request.opt.uri_path)
        answer = await blocks.answers.extract_or_insert(whole, lambda: resource.render(addressed))
        answer.opt.block1 = request.opt.block1
        pipe.add_response(answer, is_last=True)

    def _blocks(self, request: aiocoap.Message) -> "_Blocks":
        """What is half done in this session. It is kept by the session and ends with it, so nobody
        pushes out what another one has begun."""
        remote: CoapsRemote = request.remote
        if not isinstance(remote.blocks, _Blocks):
            remote.blocks = _Blocks(_BoundedBodies(self._limits), _BoundedAnswers(self._limits))
        return remote.blocks

    def _find(self, path: Path) -> tuple[Path, interfaces.Resource | None]:
        if path in self._resources:
            return path, self._resources[path]
        for length in range(len(path) - 1, 0, -1):
            if path[:length] in self._subtrees:
                return path[:length], self._resources[path[:length]]
        return path, None

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        """Part of aiocoap's interface; `render_to_pipe` does the work."""
        raise AssertionError("requests come by render_to_pipe")

    async def needs_blockwise_assembly(self, request: aiocoap.Message) -> bool:
        """Part of aiocoap's interface; blocks are joined in `render_to_pipe`."""
        return False

    async def add_observation(self, request: aiocoap.Message, serverobservation: object) -> None:
        """Part of aiocoap's interface; the resource below takes the observation."""


def _check_options(request: aiocoap.Message) -> None:
    """RFC 7252 §5.4.1: an unknown critical option is refused, not ignored."""
    for option in request.opt.option_list():
        number = OptionNumber(option.number)
        if number.is_critical() and number not in _UNDERSTOOD:
            raise ProblemError(
                Code.BAD_OPTION,
                "bad-option",
                f"option {int(number)} is not understood here",
                "Leave it out: it is marked critical.",
            )
