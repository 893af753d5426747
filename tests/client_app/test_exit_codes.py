"""The exit codes of exception classes."""

import asyncio

import pytest

from client_app.errors import BookError, Declined, NotKnown
from peer import errors
from peer.remote.errors import BrokerError, CarrierError
from peer.terminal.exit_codes import EXIT_CODE_MEANINGS, ExitCode, exit_code_of

CODES = {
    errors.PeerError: 1,
    errors.IdentityError: 1,
    errors.Malformed: 1,
    errors.MessageNotSent: 1,
    errors.OtherPort: 1,
    Declined: 1,
    BookError: 1,
    errors.UsageError: 2,
    errors.InvalidValue: 2,
    errors.Unreachable: 3,
    errors.HandshakeFailed: 3,
    errors.SessionFailed: 3,
    errors.UnsupportedKey: 3,
    errors.ObservationEnded: 3,
    BrokerError: 3,
    CarrierError: 3,
    NotKnown: 3,
    errors.TimedOut: 4,
    errors.WrongCode: 6,
    errors.Denied: 7,
    errors.RequestFailed: 8,
    errors.DeviceFailed: 9,
    errors.NotPaired: 10,
    errors.WindowClosed: 11,
    errors.RefusedByUser: 12,
    errors.NotLocal: 13,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda v: getattr(v, "__name__", v))
def test_each_exception_has_its_exit_code(kind: type[errors.PeerError], code: int) -> None:
    assert exit_code_of(kind("it is so")) == code


def test_other_exceptions_have_an_exit_code() -> None:
    assert exit_code_of(errors.PinMismatch("aa", "bb")) == 5
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert exit_code_of(asyncio.CancelledError()) == 1
    assert exit_code_of(ZeroDivisionError()) == 1


def test_every_peer_error_is_in_the_table() -> None:
    """A new subclass of PeerError needs a line in the table: its code is chosen, not inherited."""
    ours = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.PeerError)
    }
    assert ours - {errors.PinMismatch} == {one for one in CODES if one.__module__ == "peer.errors"}


def test_every_exit_code_has_a_meaning() -> None:
    assert set(EXIT_CODE_MEANINGS) == set(ExitCode)
