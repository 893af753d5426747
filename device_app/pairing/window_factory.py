"""Windows as openers request them: an extension of the open window, or a new one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_app.pairing.methods import BoardMethods
from device_app.pairing.opener import Opener, OpenerRights
from device_app.pairing.terms import PairingTerms
from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing.binding import WINDOW_ID_BYTES
from peer.pairing.budget import AttemptBudget
from peer.pairing.methods import Method
from peer.pairing.sides import OfferedMethod
from peer.pairing.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRequest:
    """A request to open the pairing window.

    Attributes:
        seconds: how long the window stays open.
        role: the role of the user who pairs; None is the role of the open window or the default.
        methods: names of the methods to offer; empty is the default.
        pressed: the board's button was pressed, so the method `button` may be offered.
        opener: the user who opens the window over the network; None is the console.
    """

    seconds: float
    role: str | None = None
    methods: tuple[str, ...] = ()
    pressed: bool = False
    opener: Opener | None = None


class WindowFactory:
    """Creates the windows of this device."""

    def __init__(
        self,
        rights: OpenerRights,
        methods: BoardMethods,
        device: Fingerprint,
        *,
        terms: PairingTerms,
        limits: Limits,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._rights = rights
        self._methods = methods
        self._device = device
        self._terms = terms
        self._limits = limits
        self._random_bytes = random_bytes

    def offered(self, request: WindowRequest, before: Window | None) -> list[OfferedMethod]:
        """Return the methods of this request; `before` is the open window.

        A window that was opened by the button continues to offer that method.

        Raises:
            UsageError: a method is unknown, or the board cannot offer it.
        """
        return self._methods.offered(
            request.methods or self._terms.methods,
            pressed=request.pressed or (before is not None and Method.BUTTON in before.methods),
            counts_attempts=request.opener is None,
        )

    def create(
        self,
        now: float,
        *,
        seconds: float,
        role: str,
        methods: Sequence[OfferedMethod],
        budget: AttemptBudget,
    ) -> Window:
        """Return a window that opens at `now`. Raises `UsageError` if there is no method."""
        return Window.open(
            now,
            seconds=seconds,
            role=role,
            roles=self._rights.roles_up_to(role),
            unverified_role=self._rights.unverified_role(role),
            methods=methods,
            window_id=self._random_bytes(WINDOW_ID_BYTES),
            device=self._device,
            overlap=self._terms.overlap,
            budget=budget,
            limits=self._limits,
        )


def can_extend(window: Window, request: WindowRequest, offered: Sequence[OfferedMethod]) -> bool:
    """Return whether the open window already offers these methods.

    Raises:
        UsageError: the window is for another role; or it offers other methods, and a client is
            pairing in it.
    """
    if request.role not in {None, window.role}:
        raise UsageError(
            f"a window for the role {window.role!r} is open already",
            advice="Close it first: `handfast-device close`.",
        )
    names = {one.method for one in offered}
    if names == window.methods.keys():
        return True
    if not request.methods and names <= window.methods.keys():
        return True
    if window.pending() is None:
        return False
    if request.methods or request.pressed:
        raise UsageError(
            "a client is pairing in a window that offers other methods",
            advice="Wait until it has finished, or close the window: `handfast-device close`.",
        )
    return True
