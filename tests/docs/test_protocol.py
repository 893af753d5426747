"""The examples of docs/protocol.md are computed, and its tables are compared with the code.

Each example is computed twice: with handfast, and independently (with hashlib, hmac, the
`ecdsa` package, an encoder of a few lines).
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import hmac
import re
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import cbor2
import ecdsa
import pytest
from aiocoap.numbers.codes import Code
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pycose.keys.curves import P256
from pycose.keys.ec2 import EC2Key
from pycose.messages.sign1message import Sign1Message

from device_app.resources import redeem
from device_app.settings.config import Settings
from iam.builtin import LOWEST, RANKS
from iam.errors import IamError
from iam.limits import DEFAULT_IAM_LIMITS
from peer import cbor
from peer.dtls import session
from peer.identity import Fingerprint, Identity
from peer.limits import DEFAULT_LIMITS
from peer.net.advertiser import Advertiser
from peer.net.adverts import SERVICE, SUBTYPE
from peer.net.problem import REASONS
from peer.pairing import invite
from peer.pairing.binding import Channel, binding
from peer.pairing.ceremony import State
from peer.pairing.compare import CompareClient, CompareDevice
from peer.pairing.errors import CeremonyError
from peer.pairing.sides import Terms, bytes_field
from peer.remote.limits import DEFAULT_REMOTE_LIMITS
from tests.kit.documents import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.documents import Cddl, ProtocolDocument

ROOT = Path(__file__).parents[2]
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


# ------------------------------------------------------------------------------------- §1, identity


@pytest.mark.parametrize("side", ["device", "client"])
def test_handfast_computes_the_identity_examples(protocol: ProtocolDocument, side: str) -> None:
    example = protocol.vectors("identity")
    key = ec.derive_private_key(int(example[f"{side} private"], 16), ec.SECP256R1())
    fingerprint = Fingerprint.of_public_key(key.public_key())
    assert fingerprint == Fingerprint.of_spki(bytes.fromhex(example[f"{side} spki"]))
    assert fingerprint.hex == example[f"{side} hex"]
    assert fingerprint.grouped == example[f"{side} grouped"]
    assert fingerprint.ni == example[f"{side} ni"]
    assert fingerprint.device_id == example[f"{side} id"]
    for form in ("hex", "grouped", "ni"):
        assert Fingerprint.parse(example[f"{side} {form}"]) == fingerprint
    variant = re.sub("(..)", r"\1:", example[f"{side} hex"].upper())
    assert Fingerprint.parse(f" {variant} ") == fingerprint


@pytest.mark.parametrize("side", ["device", "client"])
def test_the_identity_examples_are_computed_independently(
    protocol: ProtocolDocument, side: str
) -> None:
    example = protocol.vectors("identity")
    private = bytes.fromhex(example[f"{side} private"])
    key = ecdsa.SigningKey.from_string(private, curve=ecdsa.NIST256p)
    spki = key.verifying_key.to_der()
    digest = sha256(spki).digest()
    bits = "".join(f"{byte:08b}" for byte in digest)
    assert (example[f"{side} spki"], len(spki)) == (spki.hex(), 91)
    assert example[f"{side} hex"] == digest.hex()
    assert example[f"{side} grouped"].replace(" ", "") == digest.hex()
    assert {len(group) for group in example[f"{side} grouped"].split()} == {4}
    encoded = base64.b64encode(digest, b"-_").decode().rstrip("=")
    assert example[f"{side} ni"] == f"ni:///sha-256;{encoded}"
    assert example[f"{side} id"] == "".join(
        CROCKFORD[int(bits[at : at + 5], 2)] for at in range(0, 40, 5)
    )


# ------------------------------------------------------------------------------------ §2, transport


def test_ports_exporter_label_and_mdns_names_equal_those_of_the_code(
    protocol: ProtocolDocument,
) -> None:
    settings = Settings()
    assert f"| regular | {settings.port}/udp | always |" in protocol.text
    assert f"| pairing | {settings.pairing_port}/udp |" in protocol.text
    assert f"| label | `{session.EXPORTER_LABEL.decode()}` |" in protocol.text
    assert f"| PTR | `{SERVICE}` |" in protocol.text
    assert f"| PTR | `{SUBTYPE}` " in protocol.text
    advertiser = Advertiser(
        name="kitchen", device_id="B9X7HK54", port=5684, pairing_port=5685, interfaces=None
    )
    assert {row[0].strip("`") for row in protocol.table("txt")} == set(advertiser.text())


# ----------------------------------------------------------------------------- §5, method compare


def test_handfast_computes_the_compare_example(protocol: ProtocolDocument) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("compare")
    client, device = Fingerprint.parse(keys["client hex"]), Fingerprint.parse(keys["device hex"])
    channel = Channel(
        bytes.fromhex(example["ekm"]), client, device, bytes.fromhex(example["window"])
    )
    b = binding(
        channel.ekm,
        client.digest,
        device.digest,
        channel.window_id,
        example["method"],
        example["role"],
    )
    assert b.hex() == example["b"]
    terms = Terms(channel, example["role"], "anna", "c1")
    ours, theirs = CompareClient(), CompareDevice(terms)
    theirs.begin_untrusted(ours.begin())
    ours.started_untrusted(terms, {})
    message = ours.confirm()
    theirs.check_untrusted(message)
    device_tag = theirs.device_tag()
    ours.verify_untrusted({"confirm": device_tag})
    client_tag = bytes_field(message, "confirm")
    assert (client_tag.hex(), device_tag.hex()) == (example["client tag"], example["device tag"])


def test_the_compare_example_is_computed_independently(protocol: ProtocolDocument) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("compare")
    items = (
        b"handfast/1 bind",
        bytes.fromhex(example["ekm"]),
        bytes.fromhex(keys["client hex"]),
        bytes.fromhex(keys["device hex"]),
        bytes.fromhex(example["window"]),
        example["method"].encode(),
        example["role"].encode(),
    )
    transcript = b"".join(len(item).to_bytes(4, "big") + item for item in items)
    assert example["transcript"] == transcript.hex()
    b = sha256(transcript).digest()
    assert example["b"] == b.hex()
    # HKDF (RFC 5869): extract with B as the salt, then expand to one block.
    extracted = hmac.digest(b, bytes.fromhex(example["ekm"]), "sha256")
    info = f"handfast/1 {example['method']} confirm".encode()
    kc = hmac.digest(extracted, info + b"\x01", "sha256")
    assert example["kc"] == kc.hex()
    assert example["client tag"] == hmac.digest(kc, b"C", "sha256").hex()
    assert example["device tag"] == hmac.digest(kc, b"D", "sha256").hex()


# --------------------------------------------------------------------------------- §6.1, an invite


def test_handfast_reads_and_makes_the_invite_example(
    protocol: ProtocolDocument, tmp_path: Path
) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("invite")
    private = ec.derive_private_key(int(keys["device private"], 16), ec.SECP256R1())
    token, signed = invite.read_untrusted(example["text"])
    assert signed.hex() == example["token"]
    assert invite.verify_untrusted(signed, private.public_key()) == token
    assert invite.InviteToken.text(signed) == example["text"]
    assert (token.device.hex, str(token.key)) == (keys["device hex"], keys["client hex"])
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").touch(mode=0o600)
    (tmp_path / "key.pem").write_bytes(pem)
    [protected, _, claims, _] = cbor2.loads(token.sign(Identity.load(tmp_path / "key.pem")))
    assert (protected.hex(), claims.hex()) == (example["protected"], example["claims"])
    assert (token.name, token.role, token.expires - token.issued) == ("mia", "guest", 2 * 86_400)
    assert datetime.fromtimestamp(token.issued, UTC) == datetime(2026, 1, 1, tzinfo=UTC)


def test_the_invite_example_is_computed_independently(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("invite")
    messages = {rule: (diagnostic, data) for rule, diagnostic, data in protocol.messages()}
    for part, rule in (("protected", "invite-header"), ("claims", "invite-claims")):
        assert encoded(read_diagnostic(messages[rule][0])).hex() == example[part]
    protected, claims = bytes.fromhex(example["protected"]), bytes.fromhex(example["claims"])
    signature = bytes.fromhex(example["signature"])
    to_be_signed = encoded(["Signature1", protected, b"", claims])
    assert example["to be signed"] == to_be_signed.hex()
    key = ecdsa.SigningKey.from_string(
        bytes.fromhex(keys["device private"]), curve=ecdsa.NIST256p, hashfunc=sha256
    )
    assert key.verifying_key.verify(signature, to_be_signed)
    assert key.sign_deterministic(to_be_signed) == signature
    token = encoded([protected, {}, claims, signature])
    assert example["token"] == token.hex()
    cddl.validate("invite-token", token)


def test_pycose_verifies_the_invite_example(protocol: ProtocolDocument) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("invite")
    point = bytes.fromhex(keys["device spki"])[-64:]
    message = Sign1Message.from_cose_obj(cbor2.loads(bytes.fromhex(example["token"])), True)
    message.key = EC2Key(crv=P256, x=point[:32], y=point[32:])
    assert message.verify_signature()
    assert message.payload is not None
    claims = cbor2.loads(message.payload)
    assert claims[8] == {3: bytes.fromhex(keys["client hex"])}


def test_the_text_of_the_invite_example_is_computed_independently(
    protocol: ProtocolDocument,
) -> None:
    """§6.2: five bits for each symbol, and a check symbol over all of them."""
    example = protocol.vectors("invite")
    data = bytes.fromhex(example["token"])
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    field = "".join(CROCKFORD[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))
    symbols = f"{CROCKFORD}*$%+/"
    fitting = []
    for check in symbols:
        total = int("I", 36)
        for symbol in field + check:
            total = (2 * total + symbols.index(symbol)) % 37
        if total == 1:
            fitting.append(check)
    assert [f"HANDFAST:I:{field}{check}" for check in fitting] == [example["text"]]


def read_diagnostic(text: str) -> object:
    """Parse diagnostic notation (RFC 8949 §8), as far as the examples use it."""
    return ast.literal_eval(
        re.sub(r"h'([0-9a-f]*)'", lambda found: repr(bytes.fromhex(found[1])), text).strip()
    )


def encoded(value: object) -> bytes:
    """Encode in core deterministic form (RFC 8949 §4.2.1), as far as the examples use it."""

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes([major << 5 | number])
        length = next(length for length in (1, 2, 4, 8) if number < 256**length)
        return bytes([major << 5 | (24, 25, 26, 27)[length.bit_length() - 1]]) + number.to_bytes(
            length, "big"
        )

    match value:
        case int():
            return head(0, value) if value >= 0 else head(1, -1 - value)
        case bytes():
            return head(2, len(value)) + value
        case str():
            return head(3, len(value.encode())) + value.encode()
        case list():
            return head(4, len(value)) + b"".join(map(encoded, value))
        case dict():
            pairs = sorted((encoded(key), encoded(item)) for key, item in value.items())
            return head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
        case _:
            raise AssertionError(value)


def test_each_message_equals_its_bytes_and_matches_its_rule(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    rules = []
    for rule, diagnostic, data in protocol.messages():
        value = read_diagnostic(diagnostic)
        assert cbor.decode_untrusted(data) == value, rule
        assert cbor.encode(value) == data, rule
        assert encoded(value) == data, rule
        cddl.validate(rule, data)
        rules.append(rule)
    assert rules == [
        *("offer", "pair-start", "pair-started", "pair-state", "pair-state"),
        *("pair-confirm", "pair-confirmed", "me"),
        *("invite-header", "invite-claims", "redeemed", "problem"),
        *("remote-connect-request", "remote-challenge", "remote-offer"),
        *("remote-answer", "remote-candidates", "remote-refusal"),
    ]


def test_the_messages_contain_the_values_of_the_examples(protocol: ProtocolDocument) -> None:
    keys, example = protocol.vectors("identity"), protocol.vectors("compare")
    bodies = {rule: cbor.decode_untrusted(data) for rule, _, data in protocol.messages()}
    offer, started = bodies["offer"], bodies["pair-started"]
    confirm, confirmed, me = bodies["pair-confirm"], bodies["pair-confirmed"], bodies["me"]
    assert isinstance(offer, dict)
    assert isinstance(started, dict)
    assert isinstance(me, dict)
    assert isinstance(confirmed, dict)
    assert (offer["id"], offer["fingerprint"]) == (keys["device id"], keys["device hex"])
    assert offer["port"] == Settings().port
    assert started["window"].hex() == example["window"]
    assert confirm == {"confirm": bytes.fromhex(example["client tag"])}
    assert confirmed["confirm"].hex() == example["device tag"]
    assert {started["role"], confirmed["role"], me["role"]} == {example["role"]}
    assert me["fingerprint"] == keys["client hex"]
    guest = [action for action, role in LOWEST.items() if RANKS[role] <= RANKS["guest"]]
    assert me["actions"] == sorted(guest)
    assert protocol.text.count(f"/pair/{started['id']}") == 2
    assert f"Location-Path `pair/{started['id']}`" in protocol.text


def test_the_documented_states_equal_those_of_the_code(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    states = set(re.findall(r'"([A-Z_]+)"', cddl.definition("pair-unfinished")))
    assert states | {"REGISTERED"} == {state.value for state in State}
    assert all(state.value in protocol.text for state in State)


# ------------------------------------------------------------------------------------------ §6, iam


def test_the_documented_roles_and_actions_equal_those_of_the_code(
    protocol: ProtocolDocument,
) -> None:
    found = {
        quoted(name)[0]: (int(rank), set(re.findall(r"\w+:\w+", actions)))
        for name, rank, actions in protocol.table("roles")
    }
    assert {name: rank for name, (rank, _) in found.items()} == dict(RANKS)
    for role in ("unpaired", "guest", "user"):
        assert found[role][1] == {action for action, least in LOWEST.items() if least == role}
    admin = {action for action, least in LOWEST.items() if least == "admin"}
    assert {action for action in LOWEST if action.startswith("Iam:")} - admin == {
        *("Iam:GetMe", "Iam:Check", "Iam:ListRoles", "Iam:RedeemInvite"),
    }


# --------------------------------------------------------------------------------------- §7, errors


def problems_in_the_source() -> Iterator[tuple[str, str | None, str | None]]:
    """Every call that creates problem details: its function, its reason and its code."""
    for folder in ("device_app", "peer/net"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for function in ast.walk(tree):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                for call in ast.walk(function):
                    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
                        continue
                    if call.func.id == "ProblemError":
                        given = {one.arg: one.value for one in call.keywords}
                        code = given.get("code")
                        reason = call.args[0]
                        yield (
                            f"{path.stem}.{function.name}",
                            str(reason.value) if isinstance(reason, ast.Constant) else None,
                            code.attr if isinstance(code, ast.Attribute) else None,
                        )


def reasons(root: type[CeremonyError | IamError]) -> set[str]:
    """The reasons of a class of errors and its subclasses."""
    return {root.reason}.union(*map(reasons, root.__subclasses__()))


def test_the_documented_reasons_equal_those_of_the_code(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    table = {
        (reason, code)
        for cell, codes, _ in protocol.table("reasons")
        for reason in quoted(cell)
        for code in codes.split(", ")
    }
    assert table == {(reason, code.dotted) for reason, row in REASONS.items() for code in row.codes}
    slugs = {reason for reason, _ in table}
    assert set(re.findall(r'"([a-z-]+)"', cddl.definition("reason-slug"))) == slugs
    assert [quoted(row[0])[0] for row in protocol.table("reasons")] == sorted(slugs)
    # Every call uses the code of the table, or another code of the same row.
    calls = list(problems_in_the_source())
    for where, reason, code in calls:
        if reason is not None and code is not None:
            assert Code[code] in REASONS[reason].codes, where
    indirect = {where for where, reason, _ in calls if reason is None}
    assert indirect == {
        "error_answers.error_answers",
        "pair_messages.pairing_errors",
        "redeem._redeem",
    }
    # Every reason is used by a call, or by an error of pairing or iam.
    assert {
        *(reason for _, reason, _ in calls),
        *reasons(CeremonyError),
        *reasons(IamError),
    } >= slugs


def test_every_error_of_the_code_has_a_documented_reason(protocol: ProtocolDocument) -> None:
    slugs = {quoted(row[0])[0] for row in protocol.table("reasons")}
    internal = {"internal", "policy"}  # an internal error: 5.00 with an empty body
    assert reasons(CeremonyError) - slugs - internal == {"overlap"}  # sent as `refused`
    assert reasons(IamError) <= slugs | internal
    assert redeem.REASON in slugs


# --------------------------------------------------------------------------------------- §8, limits


LIMITS = (
    dataclasses.asdict(DEFAULT_LIMITS)
    | dataclasses.asdict(DEFAULT_IAM_LIMITS)
    | dataclasses.asdict(DEFAULT_REMOTE_LIMITS)
)


def test_the_documented_limits_equal_those_of_the_code(protocol: ProtocolDocument) -> None:
    example = [(quoted(name)[0], float(value)) for name, value, _ in protocol.table("limits")]
    assert sorted(example) == sorted(LIMITS.items())


def test_every_limit_in_the_text_exists_and_is_explained(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    words = quoted(re.sub(r"```.*?```", "", protocol.text, flags=re.DOTALL))
    named = {word for word in words if re.fullmatch(r"[a-z]+(_[a-z]+)+", word)}
    others = {"snake_case", "external_aad"}.union(*map(cddl.keys, cddl.rules))
    assert named - others <= LIMITS.keys()
    # The text has a rule for each limit.
    before, _, after = protocol.text.partition("<!-- table: limits -->")
    text = before + after.partition("\n\n")[2]
    explained = dataclasses.asdict(DEFAULT_LIMITS) | dataclasses.asdict(DEFAULT_REMOTE_LIMITS)
    assert not {name for name in explained if f"`{name}`" not in text}
