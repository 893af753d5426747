"""The calls of `test_climb.py` that change users and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
)

from tests.hostile.climb_machine import Comparing
from tests.hostile.climb_rules import (
    PRINTS,
    Target,
    callers,
    change_wishes,
    givers,
    methods,
    names,
    new_names,
    prints,
    roles,
    user_wishes,
)

if TYPE_CHECKING:
    pass


class UserCalls(Comparing):
    """Users and keys: added, changed, removed."""

    @rule(who=givers, name=new_names, role=roles, more=user_wishes, key=prints | st.none())
    def add_user(
        self, who: int, name: str, role: str, more: dict[str, Any], key: str | None
    ) -> None:
        wish = {"name": name, "role": role, **more, "keys": [key] if key else []}
        self.call(
            who,
            ("POST", "/iam/users", wish),
            action="Iam:AddUser",
            targets=[(name, role)],
            fits="user-info",
        )

    def target(self, name: str) -> Target:
        user = self.state.users.get(name)
        return name, user.role if user else ""

    @rule(who=callers, name=names, wish=change_wishes, method=methods)
    def change_user(self, who: int, name: str, wish: dict[str, Any], method: str) -> None:
        before = self.target(name)
        after = wish.get("name", name), wish.get("role", before[1])
        self.call(
            who,
            (method, f"/iam/users/{name}", wish),
            action="Iam:SetUser",
            targets=[before, after],
            fits="user-info",
            renamed=(name, after[0]),
        )

    @rule(who=callers, name=names)
    def remove_user(self, who: int, name: str) -> None:
        request = "DELETE", f"/iam/users/{name}", None
        self.call(who, request, action="Iam:RemoveUser", targets=[self.target(name)])

    @rule(who=callers, name=names, key=prints, shout=st.booleans())
    def add_key(self, who: int, name: str, key: str, *, shout: bool) -> None:
        path = f"/iam/users/{name}/keys/{key.upper() if shout else key}"
        request = "PUT", path, {"name": "second"}
        targets = [self.target(name)]
        self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, called=st.sampled_from((None, "second", "phone")))
    def vouch_for_oneself(self, who: int, called: str | None) -> None:
        user = self.state.user_of(PRINTS[who])
        if user is not None:
            request = "PUT", f"/iam/users/{user.name}/keys/{PRINTS[who]}", {"name": called or ""}
            targets = [self.target(user.name)]
            self.call(who, request, action="Iam:AddKey", targets=targets, fits="user-info")

    @rule(who=callers, name=names, own=st.booleans())
    def remove_key(self, who: int, name: str, *, own: bool) -> None:
        user = self.state.user_of(PRINTS[who]) if own else self.state.users.get(name)
        if user is not None and user.keys:
            path = f"/iam/users/{user.name}/keys/{user.keys[-1].fingerprint}"
            targets = [self.target(user.name)]
            self.call(who, ("DELETE", path, None), action="Iam:RemoveKey", targets=targets)
