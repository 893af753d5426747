"""Errors of a change as CoAP answers (docs/protocol.md, section 7)."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

import aiocoap
from aiocoap.error import RenderableError
from aiocoap.numbers.codes import Code

from iam.errors import IamError, StoreWriteFailed, TooMany
from peer.errors import Malformed
from peer.net.problem import REASONS, ProblemError


class StoreFailed(RenderableError):
    """5.00 with an empty body: the change could not be written, and nothing has changed."""

    def to_message(self) -> aiocoap.Message:
        """The answer; the log and `status` have the reason."""
        return aiocoap.Message(code=Code.INTERNAL_SERVER_ERROR)


@contextmanager
def error_answers() -> Iterator[None]:
    """Raise errors of `iam` and of a request's body as the answers for them."""
    try:
        yield
    except StoreWriteFailed as error:
        raise StoreFailed from error
    except TooMany as error:
        raise ProblemError(
            error.reason, str(error), error.advice, max_age=ceil(error.seconds)
        ) from error
    except Malformed as error:
        raise malformed(str(error), error.advice) from error
    except IamError as error:
        if error.reason not in REASONS:
            raise
        raise ProblemError(error.reason, str(error), error.advice) from error


def malformed(title: str, advice: str) -> ProblemError:
    """4.00: the request does not parse, or a value in it is wrong."""
    return ProblemError("malformed", title, advice)
