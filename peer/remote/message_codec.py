"""The encoding of the rendezvous messages: CBOR maps with small integer keys (protocol §10.3).

Each message has exactly one encoding, the deterministic one; every other form is refused.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import assert_never

from peer import cbor
from peer.remote.limits import PLAINTEXT_BYTES
from peer.remote.messages import (
    Answer,
    Candidates,
    CarrierKind,
    CarrierOffer,
    Carriers,
    Challenge,
    ConnectRequest,
    Message,
    Offer,
    Refusal,
    RefusalReason,
    malformed,
)

_KIND, _CLIENT_NONCE, _REPLY_TOPIC, _DEVICE_NONCE = 0, 1, 2, 3
_CARRIERS, _PATH_ID, _REVISION, _ADDRESSES, _REASON, _SECONDS = 4, 5, 6, 7, 8, 9
_DEPTH = 4  # map, carriers, carrier, candidates


def encode(message: Message) -> bytes:
    """Return the deterministic encoding of a message."""
    return cbor.encode({key: one for key, one in _fields(message).items() if one is not None})


def decode_untrusted(data: bytes) -> Message:
    """Decode one message. Raises `Malformed` unless `encode` returns exactly these bytes."""
    value = cbor.decode_untrusted(data, depth=_DEPTH, size=PLAINTEXT_BYTES[-1])
    if not isinstance(value, dict):
        raise malformed("is not a map")
    message = _message_untrusted(value)
    if encode(message) != data:
        raise malformed("has other fields, or is not in deterministic encoding")
    return message


def shorten(message: Message) -> Message:
    """Return the message with one candidate less.

    The last candidate of the carrier with the most is the least useful one.
    """
    # No other message can be too long, and none with one candidate for each carrier.
    assert isinstance(message, Offer | Answer | Candidates)
    kind = max(message.carriers, key=lambda one: len(message.carriers[one].candidates))
    longest = message.carriers[kind]
    shorter = CarrierOffer(longest.ufrag, longest.pwd, longest.candidates[:-1])
    return replace(message, carriers={**message.carriers, kind: shorter})


def _fields(message: Message) -> dict[int, object]:
    """Return the map of a message; a field that is None is absent."""
    match message:
        case ConnectRequest(nonce, reply):
            return {_KIND: 1, _CLIENT_NONCE: nonce, _REPLY_TOPIC: reply}
        case Challenge(nonce, device_nonce, revision, addresses):
            return {
                _KIND: 2,
                _CLIENT_NONCE: nonce,
                _DEVICE_NONCE: device_nonce,
                _REVISION: revision,
                _ADDRESSES: list(addresses) or None,
            }
        case Offer(nonce, reply, device_nonce, carriers, path_id):
            return {
                _KIND: 3,
                _CLIENT_NONCE: nonce,
                _REPLY_TOPIC: reply,
                _DEVICE_NONCE: device_nonce,
                _CARRIERS: _carrier_fields(carriers),
                _PATH_ID: path_id,
            }
        case Answer(nonce, carriers, path_id):
            return {
                _KIND: 4,
                _CLIENT_NONCE: nonce,
                _CARRIERS: _carrier_fields(carriers),
                _PATH_ID: path_id,
            }
        case Candidates(nonce, carriers, reply):
            return {
                _KIND: 5,
                _CLIENT_NONCE: nonce,
                _REPLY_TOPIC: reply,
                _CARRIERS: _carrier_fields(carriers),
            }
        case Refusal(nonce, reason, seconds):
            return {_KIND: 6, _CLIENT_NONCE: nonce, _REASON: reason.value, _SECONDS: seconds}
        case _:
            assert_never(message)


def _carrier_fields(carriers: Carriers) -> dict[int, object]:
    return {
        int(kind): [offer.ufrag, offer.pwd, list(offer.candidates)]
        for kind, offer in carriers.items()
    }


def _message_untrusted(value: Mapping[object, object]) -> Message:
    """Return the message of a map. Additional fields are found by the caller."""
    match value:
        case {0: 1, 1: bytes() as nonce, 2: bytes() as reply}:
            return ConnectRequest(nonce, reply)
        case {0: 2, 1: bytes() as nonce, 3: bytes() as device_nonce, 6: revision}:
            addresses = _texts_untrusted(value.get(7, []))
            return Challenge(nonce, device_nonce, _number_untrusted(revision), addresses)
        case {0: 3, 1: bytes() as nonce, 2: bytes() as reply, 3: bytes() as device_nonce}:
            carriers = _carriers_untrusted(value.get(4))
            return Offer(nonce, reply, device_nonce, carriers, _tag_untrusted(value.get(5)))
        case {0: 4, 1: bytes() as nonce}:
            return Answer(nonce, _carriers_untrusted(value.get(4)), _tag_untrusted(value.get(5)))
        case {0: 5, 1: bytes() as nonce}:
            reply_topic = _tag_untrusted(value.get(2))
            return Candidates(nonce, _carriers_untrusted(value.get(4)), reply_topic)
        case {0: 6, 1: bytes() as nonce, 8: str() as reason}:
            seconds = _number_untrusted(value[9]) if 9 in value else None
            return Refusal(nonce, _reason_untrusted(reason), seconds)
        case _:
            raise malformed("is of no known kind, or lacks a field")


def _carriers_untrusted(value: object) -> Carriers:
    if not isinstance(value, dict):
        raise malformed("has no carriers")
    carriers = {}
    for kind, parts in value.items():
        match parts:
            case [str() as ufrag, str() as pwd, list() as candidates]:
                offer = CarrierOffer(ufrag, pwd, _texts_untrusted(candidates))
            case _:
                raise malformed("has a carrier that is not valid")
        if kind not in {1, 2}:
            raise malformed("has a carrier of an unknown kind")
        carriers[CarrierKind(kind)] = offer
    return MappingProxyType(carriers)


def _texts_untrusted(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise malformed("has a list with something other than text")
    return tuple(value)


def _tag_untrusted(value: object) -> bytes | None:
    if value is not None and not isinstance(value, bytes):
        raise malformed("has an identifier that is not bytes")
    return value


def _number_untrusted(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed("has something other than a number")
    return value


def _reason_untrusted(value: str) -> RefusalReason:
    try:
        return RefusalReason(value)
    except ValueError:
        raise malformed("has an unknown reason") from None
