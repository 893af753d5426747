"""The step at which a route over a broker is, for a person who waits."""

from __future__ import annotations

from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from client_app.deadline import waiting_for
from client_app.exchange import find_cause
from peer.remote.route_steps import StepKind

if TYPE_CHECKING:
    from types import TracebackType

    from peer.remote.route_steps import RouteStep

_AFTER: Final = MappingProxyType(
    {
        StepKind.BROKER: "waiting until {0} answers at the broker",
        StepKind.CHALLENGE: "searching for a path to {0}",
        StepKind.ANSWER: "trying the paths to {0}",
        StepKind.CARRIER: "opening a session with {0} over a path",
    }
)
"""The next wait, after each step."""


class RemoteProgress:
    """Says what is waited for while a route is opened, as a context manager.

    `note` takes each step. If the wait is cancelled, the error of the deadline names the last one.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._wait = ExitStack()
        self._shown: StepKind | None = None

    def __enter__(self) -> Self:
        self._show("connecting to the broker of {0}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = kind is not None and not issubclass(kind, Exception)
        self._wait.__exit__(*((kind, error, trace) if failed else (None, None, None)))

    def note(self, step: RouteStep) -> None:
        """Show what is awaited after a step that succeeded. A later one is not replaced."""
        order = list(_AFTER)
        if not step.is_ok or step.kind not in _AFTER:
            return
        if self._shown is None or order.index(step.kind) > order.index(self._shown):
            self._shown = step.kind
            self._show(_AFTER[step.kind])

    def _show(self, text: str) -> None:
        self._wait.close()
        said = text.format(self._alias)
        self._wait.enter_context(waiting_for(said, advice=find_cause(self._alias)))
