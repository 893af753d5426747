"""The state machine of a ceremony, transition by transition, and the reasons of its errors."""

import inspect

import pytest

from peer.errors import PeerError
from peer.pairing import errors
from peer.pairing.ceremony import ENDED, STATE_OF, TRANSITIONS, Act, Stage, State
from peer.pairing.errors import CeremonyError

# One row per stage; columns in this order. "-" is a transition that must not exist.
ACTS = [
    Act.EXCHANGE,
    Act.ACCEPT,
    Act.ACCEPT_PLAIN,
    Act.REFUSE,
    Act.PROVE,
    Act.MISMATCH,
    Act.STORE,
    Act.ABORT,
    Act.LATE,
    Act.OVERLAP,
]
TABLE = {
    Stage.EXCHANGE: "asking - - refused - refused - revoked expired refused",
    Stage.ASKING: "- waiting committing refused - - - revoked expired refused",
    Stage.WAITING: "- - - refused committing refused - revoked expired refused",
    Stage.COMMITTING: "- - - - - - registered revoked - -",
    Stage.REGISTERED: "- - - - - - - - - -",
    Stage.EXPIRED: "- - - - - - - - - -",
    Stage.REVOKED: "- - - - - - - - - -",
    Stage.REFUSED: "- - - - - - - - - -",
}


def test_the_table_has_every_stage_and_act() -> None:
    assert set(TABLE) == set(Stage)
    assert set(ACTS) == set(Act)


@pytest.mark.parametrize("stage", list(Stage))
def test_transitions_match_the_table(stage: Stage) -> None:
    row = [TRANSITIONS.get((stage, act), "-") for act in ACTS]
    assert row == TABLE[stage].split()


def test_every_stage_has_a_state_of_the_protocol() -> None:
    assert set(STATE_OF) == set(Stage)
    assert set(STATE_OF.values()) == set(State)


def test_registered_is_reached_only_through_committing() -> None:
    into = {stage for (stage, _), end in TRANSITIONS.items() if end is Stage.REGISTERED}
    assert into == {Stage.COMMITTING}
    yes = {(stage, act) for (stage, act), end in TRANSITIONS.items() if end is Stage.COMMITTING}
    assert yes == {(Stage.ASKING, Act.ACCEPT_PLAIN), (Stage.WAITING, Act.PROVE)}
    assert {end for (stage, _), end in TRANSITIONS.items() if stage is Stage.ASKING} & ENDED


def test_error_reasons_are_the_slugs_of_the_protocol() -> None:
    slugs = {
        "window-closed", "too-many", "busy", "overlap", "denied",
        "locked-out", "not-found", "wrong-code", "refused", "internal",
    }  # fmt: skip
    classes = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, CeremonyError)
    ]
    assert {item.reason for item in classes} == slugs
    assert all(issubclass(item, PeerError) for item in classes)
