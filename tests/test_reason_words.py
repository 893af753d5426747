"""Every reason slug has words, since people read them in messages, logs and events."""

from collections.abc import Iterable, Iterator

import pytest

from device_app.remote.master_key import TroubleReason
from device_app.terminal.render_events import event_line
from device_app.terminal.render_pairing import failed_lines
from iam.errors import IamError
from iam.recovery import Reason
from peer.net.problem import REASONS
from peer.pairing.ceremony import EndReason
from peer.pairing.errors import CeremonyError
from peer.pairing.window_timer import CloseReason
from peer.remote.errors import ServerFailure
from peer.terminal.reasons import REASON_WORDS, reason_in_words

RULES = ("ttl", "interface", "prefix", "destination", "path")


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    """A class of errors and all classes below it."""
    yield kind
    for one in kind.__subclasses__():
        yield from below(one)


def slugs() -> set[str]:
    errors = [*below(IamError), *below(CeremonyError)]
    closed: Iterable[str] = (
        *(*EndReason, *CloseReason, *Reason, *REASONS, *RULES),
        *(*ServerFailure, *TroubleReason),
    )
    return {*closed, *(getattr(error, "reason", "internal") for error in errors)}


def test_every_slug_has_words_and_every_word_a_slug() -> None:
    assert set(REASON_WORDS) == slugs()


def test_the_words_are_a_phrase_and_not_the_slug() -> None:
    for slug, words in REASON_WORDS.items():
        assert words != slug
        assert " " in words
        assert words[0].islower()
        assert not words.endswith(".")


def test_another_text_is_returned_as_it_is() -> None:
    assert reason_in_words("role 'guest': no statement allows it").startswith("role 'guest'")


@pytest.mark.parametrize("slug", sorted({*EndReason} | {e.reason for e in below(IamError)}))  # type: ignore[attr-defined]
def test_a_failed_pairing_is_reported_without_its_slug(slug: str) -> None:
    line = failed_lines(
        {
            "id": "1",
            "name": "anna",
            "fingerprint": "ab" * 32,
            "role": "guest",
            "method": "sas",
            "form": "confirmed",
            "state": "REFUSED",
            "reason": slug,
        },
        failures=1,
    )[0]
    assert f"({slug})" not in line
    assert " " in line.removeprefix("'anna' was not paired: ")


@pytest.mark.parametrize("slug", sorted(slugs()))
def test_an_event_states_its_result_in_words(slug: str) -> None:
    line = event_line(
        {  # type: ignore[typeddict-item, unused-ignore]  # a record has more
            "seq": 1,
            "wall": 1_800_000_000.0,
            "kind": "window-closed",
            "result": slug,
            "digest": "",
            "previous": "",
        }
    )
    assert f'result="{REASON_WORDS[slug]}"' in line
