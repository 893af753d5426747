"""A tree of CoAP resources behind one authorization function.

Every request passes these checks, in this order: options that no resource understands (4.02),
authorization, existence (4.04), options that this resource does not handle (4.02), size (4.13),
blocks (RFC 7959), the resource's handler. Authorization comes before existence, so that
unauthorized clients cannot enumerate the resources, and before blocks, so that they cannot make the
device store parts of a body.

An observation is one request with many responses, and the permission may end in between. So each
notification is authorized again: before the resource renders it, and before it is sent. A refusal
is the last response.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import aiocoap
from aiocoap import error as coap_error
from aiocoap import interfaces
from aiocoap.blockwise import IncompleteException
from aiocoap.numbers.codes import Code
from aiocoap.pipe import Pipe

from peer.identity import Fingerprint
from peer.limits import OBSERVER_SILENT_SECONDS, RETRY_SECONDS, Limits
from peer.net.aiocoap_seam.blocks import RequestBodies
from peer.net.aiocoap_seam.copies import copied
from peer.net.aiocoap_seam.requests import is_registration
from peer.net.aiocoap_seam.response_blocks import ResponseBlocks
from peer.net.direct import AnswersPlain, TakesPlainWrites, WriteHandler
from peer.net.observing import observe
from peer.net.preconditions import (
    PRECONDITIONS,
    Render,
    as_get,
    has_preconditions,
    not_supported,
    rendered_if_they_hold,
)
from peer.net.problem import ProblemError
from peer.net.remote import CoapsRemote, PeerIdentity
from peer.net.request_options import (
    acceptable,
    check_handled,
    check_options,
    check_path,
    method_name,
)
from peer.net.shared_states import SharedStates, Sharing

Path = tuple[str, ...]
Authorise = Callable[[aiocoap.Message, Path, interfaces.Resource | None], None]
Admit = Callable[[PeerIdentity, Path, str], bool]
BodyBytes = Callable[[aiocoap.Message], int]


def admit_none(_peer: PeerIdentity, _path: Path, _method: str) -> bool:
    """Leave the decision about every request to `authorise`."""
    return False


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The unfinished block transfers of one session."""

    requests: RequestBodies
    responses: ResponseBlocks


class GuardedSite(interfaces.ObservableResource):
    """The root resource of a server.

    Args:
        authorise: raises `ProblemError` to refuse a request. Its arguments are the request, the
            path without a trailing slash, and the resource at the path, or None.
        limits: the limits of the server.
        admit: whether `authorise` would certainly allow a request, by its sender, path and method.
            Only such requests are answered without aiocoap (`peer.net.direct`); their body has
            `Limits.request_body_bytes` at most.
        body_bytes: the longest body of a request; by default `Limits.request_body_bytes`.
        advice: where the resources are listed, for the sender of a request that fits none.
    """

    def __init__(
        self,
        *,
        authorise: Authorise,
        limits: Limits,
        admit: Admit = admit_none,
        body_bytes: BodyBytes | None = None,
        advice: str = "`/.well-known/core` lists the resources.",
    ) -> None:
        self._authorise = authorise
        self.admit = admit
        self._advice = advice
        self._body_bytes = body_bytes or (lambda _request: limits.request_body_bytes)
        self._resources: dict[Path, interfaces.Resource] = {}
        self._handled: dict[Path, frozenset[int]] = {}
        self._plain: dict[Path, AnswersPlain] = {}
        self._plain_writes: dict[Path, Mapping[str, WriteHandler]] = {}
        self._conditional: set[Path] = set()
        self._shared: dict[Path, SharedStates] = {}
        self._subtrees: set[Path] = set()
        self._deepest_subtree = 0
        self._handled_by_some: frozenset[int] = frozenset()
        self._observations: defaultdict[Fingerprint, list[CoapsRemote]] = defaultdict(list)
        self._limits = limits

    def add(
        self,
        path: Path,
        resource: interfaces.Resource,
        *,
        takes_rest: bool = False,
        options: Collection[int] = (),
        is_conditional: bool = False,
        is_same_for_all: bool = False,
    ) -> None:
        """Serve a resource at a path. Raises `ValueError` if the path is taken.

        With `takes_rest`, the resource also serves all paths below; the rest of the path is then
        the request's `uri_path`. `options` are the critical options that the resource handles
        itself; a request with another one is answered with 4.02. With `is_conditional`, the site
        compares If-Match and If-None-Match with the answer to a GET, if the resource does not
        handle them itself. With `is_same_for_all`, the answer to a GET depends on the path, the
        query and Accept, and not on who asks, until the resource notifies its observers.
        """
        if path in self._resources:
            raise ValueError(f"there is a resource at /{'/'.join(path)} already")
        self._resources[path] = resource
        self._handled[path] = frozenset(options)
        if not takes_rest and _is_valid(path):
            if isinstance(resource, AnswersPlain):
                self._plain[path] = resource
            if isinstance(resource, TakesPlainWrites) and (writes := resource.plain_writes()):
                self._plain_writes[path] = writes
        if is_conditional and PRECONDITIONS.isdisjoint(options):
            self._conditional.add(path)
            self._handled[path] |= PRECONDITIONS
        self._handled_by_some |= self._handled[path]
        if is_same_for_all:
            self._shared[path] = SharedStates()
        if takes_rest:
            self._subtrees.add(path)
            self._deepest_subtree = max(map(len, self._subtrees))

    def remove(self, path: Path) -> None:
        """Stop serving the resource at a path."""
        del self._resources[path], self._handled[path]
        self._handled_by_some = frozenset().union(*self._handled.values())
        self._plain.pop(path, None)
        self._plain_writes.pop(path, None)
        self._conditional.discard(path)
        self._shared.pop(path, None)
        self._subtrees.discard(path)
        self._deepest_subtree = max(map(len, self._subtrees), default=0)

    def paths(self) -> dict[Path, interfaces.Resource]:
        """Return the resources by path."""
        return dict(self._resources)

    def plain(self, path: Path) -> AnswersPlain | None:
        """Return the resource at a path if it answers plain requests (`peer.net.direct`)."""
        return self._plain.get(path)

    def plain_write(self, path: Path, method: str) -> WriteHandler | None:
        """Return the handler of a method at a path if it is one synchronous call."""
        return writes.get(method) if (writes := self._plain_writes.get(path)) else None

    def find(self, path: Path) -> tuple[Path, interfaces.Resource | None]:
        """Return the resource that serves a path, and the path at which it is.

        Without one, return the path itself and None. A long path costs no more than the deepest
        resource that serves the paths below it.
        """
        if path in self._resources:
            return path, self._resources[path]
        for length in range(min(len(path) - 1, self._deepest_subtree), 0, -1):
            if (above := path[:length]) in self._subtrees:
                return above, self._resources[above]
        return path, None

    async def render_to_pipe(self, pipe: Pipe) -> None:
        """Respond to one request. aiocoap calls it in a task of its own."""
        request = pipe.request
        check_options(request, self._handled_by_some)
        path = tuple(request.opt.uri_path)
        if path and not path[-1]:
            path = path[:-1]
        at, resource = self.find(path)
        try:
            self._authorise(request, path, resource)
        except ProblemError as refusal:
            if refusal.code is Code.NOT_FOUND:
                check_path(path)
            raise
        check_path(path)
        if resource is None:
            raise ProblemError(
                "not-found",
                "there is no such resource",
                self._advice,
            )
        check_handled(request, self._handled[at])
        rest = path[len(at) :]
        try:
            if at in self._conditional and has_preconditions(request):
                self._authorise_get(request, path, resource)
                await self._answer_in_blocks(pipe, rendered_if_they_hold(resource), request, rest)
            elif is_registration(request) and isinstance(resource, interfaces.ObservableResource):
                pipe.request = copied(request, uri_path=rest)
                await self._observe(pipe, resource, request, path, self._shared.get(at))
            else:
                await self._answer_in_blocks(pipe, resource.render, request, rest)
        except coap_error.UnallowedMethod as error:
            raise ProblemError(
                "method-not-allowed",
                f"this resource has no {method_name(request)}",
                f"{self._advice} Most are read with GET.",
            ) from error
        except IncompleteException as error:
            raise ProblemError(
                "incomplete",
                "a block is missing, or arrived too late",
                "Send the whole body again from its first block.",
            ) from error

    def _authorise_get(
        self, request: aiocoap.Message, path: Path, resource: interfaces.Resource
    ) -> None:
        """Require the right to GET: the sender of a conditional request learns about the answer."""
        try:
            self._authorise(as_get(request), path, resource)
        except ProblemError as refusal:
            if refusal.code is Code.METHOD_NOT_ALLOWED:
                raise not_supported(refusal) from refusal
            raise

    async def _observe(
        self,
        pipe: Pipe,
        resource: interfaces.ObservableResource,
        request: aiocoap.Message,
        path: Path,
        states: SharedStates | None,
    ) -> None:
        responses, formats = self._blocks(request).responses, set[int | None]()
        with self._counted(request.remote):
            await observe(
                pipe,
                resource,
                decide=lambda: self._authorise(request, path, resource),
                in_blocks=lambda build: responses.block_of(
                    request, acceptable(request, build, formats)
                ),
                fetched=lambda: responses.fetched(request),
                sharing=Sharing.of(request, states, formats) if states is not None else None,
            )

    @contextmanager
    def _counted(self, remote: CoapsRemote) -> Iterator[None]:
        """Count an observation of a key while it lasts.

        Raises `ProblemError` if the key has too many in all its sessions: each costs work at each
        change of the resource. A client whose path was lost has come back on a new session, so
        another session of the key that is silent is ended then, and the next attempt finds room.
        """
        key, most = remote.peer.fingerprint, self._limits.observations_per_key
        if len(self._observations[key]) >= most:
            others = [one for one in self._observations[key] if one is not remote]
            quietest = max(others, key=lambda one: one.silent_seconds, default=remote)
            if quietest.silent_seconds > OBSERVER_SILENT_SECONDS:
                quietest.association.close()
            raise ProblemError(
                "too-many",
                f"your key has {most} observations already",
                "End some of them first, in any of its sessions.",
                max_age=RETRY_SECONDS,
            )
        self._observations[key].append(remote)
        try:
            yield
        finally:
            self._observations[key].remove(remote)
            if not self._observations[key]:
                del self._observations[key]

    async def _answer_in_blocks(
        self, pipe: Pipe, render: Render, request: aiocoap.Message, rest: Path
    ) -> None:
        blocks = self._blocks(request)
        whole = blocks.requests.feed(request, self._body_bytes(request))
        addressed = copied(whole, uri_path=rest, observe=None)
        build = acceptable(request, lambda: render(addressed), set())
        answer = await blocks.responses.block_of(whole, build)
        answer.opt.block1 = request.opt.block1
        pipe.add_response(answer, is_last=True)

    def _blocks(self, request: aiocoap.Message) -> "_Blocks":
        """Return the unfinished transfers of the request's session.

        They are stored with the session and end with it, so that no session displaces the
        transfers of another one.
        """
        remote: CoapsRemote = request.remote
        if not isinstance(remote.blocks, _Blocks):
            responses = ResponseBlocks(self._limits)
            remote.blocks = _Blocks(RequestBodies(self._limits), responses)
            remote.stored_responses = responses
        return remote.blocks

    async def render(self, request: aiocoap.Message) -> aiocoap.Message:
        """Raise an error: aiocoap calls `render_to_pipe` instead."""
        raise AssertionError(f"render_to_pipe serves {request!r}")

    async def needs_blockwise_assembly(self, _request: aiocoap.Message) -> bool:
        """Return False: `render_to_pipe` reassembles blocks itself."""
        return False

    async def add_observation(self, _request: aiocoap.Message, _observation: object) -> None:
        """Do nothing: `render_to_pipe` passes observations to the resource."""


def _is_valid(path: Path) -> bool:
    """Return whether a request with this path is not refused for it."""
    return path[-1:] != ("",) and {".", ".."}.isdisjoint(path)
