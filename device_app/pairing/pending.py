"""The ceremony that an answer of the device's user is about.

Between the question and the answer, one client may leave and another may wait. So an answer names
its ceremony: by ID, or by the client's fingerprint if the user compared that.
"""

from device_app.errors import AppError
from device_app.limits import QUOTED_ANSWER_CHARACTERS
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.ceremony import Ceremony
from peer.terminal.exit_codes import ExitCode

_LOOK = "`handfast-device pending` shows the client that waits."


def find_pending_untrusted(pending: Ceremony | None, wanted: object) -> Ceremony:
    """Return the pending ceremony if `wanted` is its ID or its client's fingerprint.

    A ceremony with six digits has only its ID: the same key may have started again, with other
    digits.

    Raises:
        AppError: `wanted` names no ceremony, or one that is not pending.
    """
    if not isinstance(wanted, str) or not wanted:
        raise AppError(
            "name the client that the answer is for: its ID, or its fingerprint",
            advice=_LOOK,
            code=ExitCode.USAGE,
        )
    if pending is None:
        raise AppError("no client waits for an answer", advice=_LOOK, code=ExitCode.NOT_FOUND)
    if wanted != pending.id and not _is_shown(pending, wanted):
        raise AppError(
            f"{wanted[:QUOTED_ANSWER_CHARACTERS]!r} does not wait for an answer; "
            "another client does",
            advice=f"Compare again: {_LOOK}",
            code=ExitCode.NOT_FOUND,
        )
    return pending


def _is_shown(pending: Ceremony, wanted: str) -> bool:
    try:
        return not pending.number and Fingerprint.parse(wanted) == pending.fingerprint
    except Malformed:
        return False
