"""Tables of decisions: each file in `decisions/` has rules and the expected decisions."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from iam import Access, Effect, Key, Subject, User
from iam.builtin import UNPAIRED
from iam.config import load

FILES = sorted((Path(__file__).parent / "decisions").glob("*.toml"))
KEY = "ab" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionCase:
    """One row. `reason` and `missing` are parts of the texts; `early` is the result of
    `conceivable` while the target and `unknown` are not known."""

    role: str
    action: str
    allowed: bool
    user: str = "dora"
    method: str = "compare"
    verified: bool = True
    with_: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    early: bool | None = None
    reason: str = ""
    missing: str = ""

    @property
    def subject(self) -> Subject:
        if self.role == UNPAIRED:
            return Subject(KEY, None, UNPAIRED)
        key = Key(KEY, "phone", self.method, self.verified)
        return Subject(KEY, User(self.user, self.role, (key,)), self.role)


def rows() -> list[Any]:
    found = []
    for path in FILES:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        rules = load([(path.name, table["rules"])])
        access = rules.access(table.get("app_actions", {}))
        assert table["about"]
        for number, row in enumerate(table["asks"], 1):
            ask = DecisionCase(
                **{"with_" if key == "with" else key: value for key, value in row.items()}
            )
            name = f"{path.stem}-{number}-{ask.role}-{ask.action}"
            found.append(pytest.param(access, ask, id=name))
    return found


def test_the_tables_of_decisions_are_found() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize(("access", "ask"), rows())
def test_a_decision_equals_its_row(access: Access, ask: DecisionCase) -> None:
    decision = access.decide(ask.subject, ask.action, ask.with_)
    assert decision.allowed is ask.allowed, decision.reason
    assert ask.reason in decision.reason
    assert ask.missing in decision.missing
    assert bool(decision.missing) is not ask.allowed
    explained = access.explain(ask.subject, ask.action, ask.with_)
    if explained.depends_on:  # a request may add attributes
        assert not explained.decision.allowed
    else:
        assert explained.decision == decision
    applying = {step.effect for step in explained.steps if step.applies}
    assert ask.allowed is (applying == {Effect.ALLOW})
    early = access.conceivable(ask.subject, ask.action, ask.with_, unknown=ask.unknown)
    assert early.allowed >= ask.allowed
    assert early.allowed is (ask.allowed if ask.early is None else ask.early)
