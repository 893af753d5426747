"""The device of `test_climb.py`, and the comparison of all rights before and after each call."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
)

from iam.model import Key, User
from peer.errors import PeerError
from tests.hostile.climb_rules import (
    AT_HOME,
    BASE,
    BUILT_IN,
    CONSOLE,
    FINE,
    NOBODY,
    PEOPLE,
    PRINTS,
    REFUSED,
    UNVERIFIED,
    Reach,
    Target,
    cddl,
    least,
)
from tests.kit.device import Answer, Caller, Kit

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from iam.model import State
    from tests.kit.device import Device


@dataclass
class Backer:
    """The creator of an invite or window: `low` is the least they reached since they made it;
    without a name it is the board."""

    name: str
    then: Reach
    low: Reach
    uses: int = 1
    gone: bool = False


@dataclass
class Observer:
    """An observation of /events; `lost`: the newest event when the right to it was lost."""

    who: int
    newest: int = 0
    lost: int | None = None
    task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()


class Listener(logging.Handler):
    """What the log says that it should not: a traceback of anything."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.tracebacks.append(logging.Formatter().format(record))


class Comparing(RuleBasedStateMachine):
    """Each caller holds one key; the console is a person at the board."""

    #: The calls that were done and refused, over all runs, to show that there were some.
    seen: ClassVar[Counter[tuple[str, bool]]] = Counter()
    device: Device

    def __init__(self) -> None:
        super().__init__()
        self.log = Listener()
        logging.getLogger().addHandler(self.log)
        self.folder = TemporaryDirectory()
        self.kit = Kit(Path(self.folder.name) / "home")
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(self.fault)
        self.faults: list[str] = []
        self.wall = self.now = BASE
        self.monotonic = 1000.0
        self.book = AT_HOME
        self.tokens: list[tuple[str, bytes]] = []  # of every invite there ever was
        self.backers: dict[str, Backer] = {}
        self.opener: Backer | None = None
        self.observers: list[Observer] = []
        self.callers: list[Caller] = []

    def fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.faults.append(str(context))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Some work on our own loop, and what follows from it."""

        async def settled() -> Any:
            done = await work
            for _ in range(12):  # goodbyes and notifications on loopback
                await asyncio.sleep(0)
            return done

        return self.runner.run(settled())

    async def people(self) -> None:
        for place, (name, role, end) in enumerate(PEOPLE):
            key = Key(PRINTS[place], "", "given", name not in UNVERIFIED, 1.0)
            self.device.app.access.registry.add_user(None, User(name, role, (key,), not_after=end))

    def teardown(self) -> None:
        try:
            for one in self.observers:
                if one.task is not None:
                    one.task.cancel()
            self.run(self.kit.close())
        finally:
            self.runner.close()
            self.folder.cleanup()
            logging.getLogger().removeHandler(self.log)
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]

    # -- the books ------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.device.users

    def head(self) -> int:
        return self.device.app.access.store.audit.head[0]

    def reach(self, user: User | None) -> Reach:
        """How high and how long, whatever the time is now."""
        if user is None or user.role not in self.book.ranks:
            return NOBODY
        return self.book.ranks[user.role], user.end

    def acting(self, who: int) -> User | None:
        """The user of this key, if it is their time."""
        user = self.state.user_of(PRINTS[who])
        return user if user is not None and user.start <= self.now < user.end else None

    def power_behind(self, backer: Backer) -> Reach:
        """The rights that the creator of an invite or window can grant now."""
        if not backer.name:
            return CONSOLE
        user = None if backer.gone else self.state.users.get(backer.name)
        if user is None or not user.start <= self.now < user.end:
            return NOBODY
        return least(backer.then, self.reach(user))

    def follow(self, old: State, renamed: Target | None) -> None:
        """Update the rights of creators and openers."""
        for backer in (*self.backers.values(), *([self.opener] if self.opener else [])):
            if not backer.name or backer.gone:
                continue
            before = old.users[backer.name]
            if renamed and renamed[0] == backer.name and renamed[1] in self.state.users:
                backer.name = renamed[1]
            after = self.state.users.get(backer.name)
            backer.gone = after is None
            if after and (after.role, after.end) != (before.role, before.end):
                backer.low = least(backer.low, self.reach(after))

    # -- calling, and comparing -----------------------------------------------------------------

    def call(
        self,
        who: int,
        request: tuple[str, str, object],
        *,
        action: str,
        targets: Sequence[Target] = (),
        fits: str = "",
        renamed: Target | None = None,
    ) -> Answer | None:
        """One request, its answer looked at, and the state before and after compared."""
        old, head, user = self.state, self.head(), self.acting(who)
        power = self.reach(user)
        may = self.book.may(user, action, *targets)
        answer = self.answered(who, request, fits)
        if self.state is not old:
            assert may, f"{user} changed something without {action}"
            self.compare(old, power, renamed)
            self.compare_vouched(old, who)
            self.follow(old, renamed)
        self.watch(head)
        done = answer is not None and answer.code in FINE
        assert may or not done, f"{user} did {request} without {action}"
        self.seen[action, done] += 1
        return answer if done else None

    def answered(self, who: int, request: tuple[str, str, object], fits: str) -> Answer | None:
        method, path, body = request
        try:
            answer: Answer = self.run(self.callers[who].ask(method, path, body))
        except PeerError:
            return None  # the call has ended the caller's own session
        assert answer.code in FINE | REFUSED, (request, answer.code)
        if answer.code in REFUSED:
            cddl().validate("problem", answer.payload)
        elif fits in cddl().rules:
            cddl().validate(fits, answer.payload)
        else:
            assert bool(answer.payload) == bool(fits)
        return answer

    def compare(self, old: State, power: Reach, renamed: Target | None = None) -> None:
        """No one rose above what the caller had, and no one above the caller was changed."""
        new = self.state
        back = {renamed[1]: renamed[0]} if renamed else {}
        for name, before in old.users.items():
            if new.users.get(name) != before:
                top = self.book.ranks.get(before.role, BUILT_IN["owner"])
                assert top <= power[0], f"{name} ranks above the user who changed them"
        for name, user in new.users.items():
            was = old.users.get(name) or old.users.get(back.get(name, ""))
            self.compare_rights(was, user, power)
        for key in (*PRINTS, "ab" * 32):
            had, has = old.user_of(key), new.user_of(key)
            if has is not None:
                self.compare_rights(had, has, power)
        for one, invite in new.invites.items():
            if one not in old.invites:
                assert self.book.ranks[invite.role] <= power[0]
                assert max(invite.end, invite.expires) <= power[1]

    def compare_rights(self, had: User | None, has: User, power: Reach) -> None:
        before, after = self.reach(had), self.reach(has)
        earlier = had is not None and has.start < had.start
        if earlier or after != least(before, after):
            assert after == least(after, power), f"{had} rose to {has} by {power}"

    def compare_vouched(self, old: State, who: int) -> None:
        """Whatever a key is now trusted for, another one that is verified has said so."""
        caller = old.user_of(PRINTS[who])
        vouches = caller is not None and caller.key(PRINTS[who]).verified
        for user in self.state.users.values():
            for key in user.keys:
                had = old.user_of(key.fingerprint)
                was = had.key(key.fingerprint) if had else None
                if was is None or (was.name, was.verified) != (key.name, key.verified):
                    assert vouches, f"an unverified key vouched for {key}"
                    assert key.fingerprint != PRINTS[who], "a key vouched for itself"

    def compare_newcomer(self, old: State, key: str, limit: Reach) -> None:
        """One new user at most, with this key and within the limit; all others as they were."""
        new = self.state
        assert all(new.users.get(name) == user for name, user in old.users.items())
        came = [user for name, user in new.users.items() if name not in old.users]
        assert len(came) <= 1
        for user in came:
            assert user.fingerprints == {key}
            assert self.reach(user) == least(self.reach(user), limit), f"{user} beyond {limit}"

    def watch(self, head: int) -> None:
        """No one received events after losing the right to them; `head`: the newest event
        before what has just happened."""
        for one in self.observers:
            if self.book.may(self.acting(one.who), "Events:Read"):
                one.lost = None
            elif one.lost is None:
                one.lost = head
            assert one.lost is None or one.newest <= one.lost, "an event for who may not read it"
        self.observers = [one for one in self.observers if not one.is_over]

    @invariant()
    def a_lasting_owner_stays(self) -> None:
        owners = [user for user in self.state.users.values() if user.role == "owner"]
        assert any(user.keys and (user.start, user.end) == (-inf, inf) for user in owners)

    @invariant()
    def invites_are_within_what_their_makers_were_left(self) -> None:
        for one, invite in self.state.invites.items():
            backer = self.backers[one]
            assert invite.inviter == ("" if backer.gone else backer.name)
            if backer.name:
                assert not backer.gone
                assert invite.end <= backer.low[1]

    @invariant()
    def nothing_has_gone_wrong_inside(self) -> None:
        assert not self.log.tracebacks, self.log.tracebacks[0]
        assert not self.faults, self.faults[0]
