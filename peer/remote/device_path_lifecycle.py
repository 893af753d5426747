"""The paths of a device, from the offer that opens one to its end (protocol §10.4)."""

from typing import assert_never

from peer.remote.device_attempts import Attempt, AttemptAct, AttemptStage, AttemptTable
from peer.remote.device_paths import DevicePath, PathStage, PathTable
from peer.remote.device_replies import DeviceReplies
from peer.remote.effects import DeviceEffect, EndPath, OpenPath, RenewPath
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer, Offer, RefusalReason


class PathLifecycle:
    """Opens, renews and ends paths, together with the attempts to which they belong."""

    def __init__(
        self,
        attempts: AttemptTable,
        paths: PathTable,
        replies: DeviceReplies,
        limits: RemoteLimits,
    ) -> None:
        self._attempts = attempts
        self._paths = paths
        self._replies = replies
        self._limits = limits

    def open(self, attempt: Attempt, message: Offer, now: float) -> list[DeviceEffect]:
        """Open a path for an attempt with a fresh offer, or refuse if there are too many."""
        may_open, yielding = self._paths.make_room(attempt.key)
        if not may_open:
            return self.turn_down(attempt, RefusalReason.TOO_MANY)
        ended: list[DeviceEffect] = [self.end(yielding)] if yielding is not None else []
        path = DevicePath(attempt.client_nonce, attempt.key, attempt)
        self._paths.add(path)
        self._take(attempt, path, message, now)
        keys = attempt.keys.path_keys(attempt.client_nonce, attempt.device_nonce)
        opened = OpenPath(path.path_id, attempt.key, keys, dict(attempt.remote))
        return [*ended, opened]

    def renew(
        self, path: DevicePath, attempt: Attempt, message: Offer, now: float
    ) -> list[DeviceEffect]:
        """Give a path the carriers of another attempt of its key."""
        if path.attempt is not None:
            self._attempts.remove(path.attempt)
        path.attempt = attempt
        attempt.continued_id = path.path_id
        self._take(attempt, path, message, now)
        return [RenewPath(path.path_id, dict(attempt.remote))]

    def gathered(
        self, path: DevicePath, kind: CarrierKind, offer: CarrierOffer | None, now: float
    ) -> list[DeviceEffect]:
        """Take a carrier of this device for a path; see `DeviceRendezvous.gathered`."""
        attempt = path.attempt
        if attempt is None or kind in attempt.gathered:
            return []
        attempt.gathered[kind] = offer
        if offer is None:
            is_first = len(attempt.gathered) < len(CarrierKind)
            if is_first or attempt.stage is not AttemptStage.GATHERING:
                return []
            return self._no_carrier(path, attempt)
        if attempt.stage is AttemptStage.GATHERING:
            attempt.move(AttemptAct.ANSWER, now + self._limits.check_seconds)
            message = self._replies.answer(attempt, kind, offer)
        else:
            message = self._replies.candidates(attempt, kind, offer)
        attempt.sent.append(message)
        return [message]

    def expire(self, attempt: Attempt) -> list[DeviceEffect]:
        """End an attempt whose time is up; a path that it was to open ends too."""
        self._attempts.remove(attempt)
        path = self._paths.find(attempt.path_id)
        if path is None or path.attempt is not attempt:
            return []
        match attempt.stage:
            case AttemptStage.GATHERING:
                return self._no_carrier(path, attempt)
            case AttemptStage.ANSWERED:
                path.attempt = None
                return [self.end(path)] if path.stage is PathStage.OPENING else []
            case AttemptStage.CHALLENGED:
                raise AssertionError("an attempt without an offer has no path")
            case _:
                assert_never(attempt.stage)

    def end(self, path: DevicePath) -> EndPath:
        """Forget a path with its attempt."""
        self._paths.remove(path)
        if path.attempt is not None:
            self._attempts.remove(path.attempt)
        return EndPath(path.path_id)

    def turn_down(
        self, attempt: Attempt, reason: RefusalReason, seconds: int | None = None
    ) -> list[DeviceEffect]:
        """Refuse an attempt and forget it."""
        self._attempts.remove(attempt)
        return [self._replies.refusal(attempt, reason, seconds)]

    def _take(self, attempt: Attempt, path: DevicePath, message: Offer, now: float) -> None:
        attempt.move(AttemptAct.OFFER, now + self._limits.gathering_seconds)
        attempt.path_id = path.path_id
        early, attempt.remote = attempt.remote, dict(message.carriers)
        attempt.add_remote(early)

    def _no_carrier(self, path: DevicePath, attempt: Attempt) -> list[DeviceEffect]:
        """Tell the client that nothing could be gathered. A path that works continues."""
        refused = self.turn_down(attempt, RefusalReason.NO_PATH)
        path.attempt = None
        return [*refused, self.end(path)] if path.stage is PathStage.OPENING else refused
