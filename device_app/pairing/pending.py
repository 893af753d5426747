"""Which ceremony an answer of the device's user is about.

Between the look at a client and the answer, that client may be gone and another one may wait. So an
answer says what it is about: the ceremony's id, or the client's fingerprint where that was shown.
"""

from device_app.errors import AppError, Exit
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.ceremony import Ceremony

_LOOK = "`handfast-device pending` shows what waits."


def find_pending_untrusted(pending: Ceremony | None, wanted: object) -> Ceremony:
    """The ceremony that waits, if `wanted` is its id or the fingerprint that its user compares.

    Where six digits are compared no fingerprint is shown, so none names that ceremony: the same key
    may have started again, with other digits. Raises `AppError`.
    """
    if not isinstance(wanted, str) or not wanted:
        raise AppError(
            "say which client the answer is for: its id, or its fingerprint",
            advice=_LOOK,
            code=Exit.USAGE,
        )
    if pending is None:
        raise AppError("nothing waits for an answer", advice=_LOOK, code=Exit.NOT_FOUND)
    if wanted != pending.id and not _is_shown(pending, wanted):
        raise AppError(
            f"{wanted[:80]!r} does not wait for an answer; another client does",
            advice=f"Compare again: {_LOOK}",
            code=Exit.NOT_FOUND,
        )
    return pending


def _is_shown(pending: Ceremony, wanted: str) -> bool:
    try:
        return not pending.number and Fingerprint.parse(wanted) == pending.fingerprint
    except Malformed:
        return False
