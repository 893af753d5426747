"""The action that a request to a path needs, and the target that the path names."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import aiocoap

Path = tuple[str, ...]
Pattern = tuple[str | None, ...]
Attributes = Mapping[str, str]
#: The targets that a path names: the subject must be allowed for each of them.
Targets = Callable[[Path], Sequence[Attributes]]
#: The attributes of an application's resource, by the request: its path, its queries, its sender.
OwnAttributes = Callable[[aiocoap.Message], Attributes]


def no_target(_path: Path) -> Sequence[Attributes]:
    """For paths that name no user."""
    return ({},)


@dataclass(frozen=True, slots=True)
class PathRule:
    """The rule for requests to one path.

    `certain` are the methods about which the path and the sender decide, without the message.

    Attributes:
        actions: the action of each method.
        late: the methods whose target is in the body; their handler calls `Guard.require`.
        targets: the targets that the path names.
        own: the attributes of the resource, for conditions of policies.
        as_unpaired: the role `unpaired` decides, whatever the subject's role.
    """

    actions: Mapping[str, str]
    late: frozenset[str] = frozenset()
    targets: Targets = no_target
    own: OwnAttributes | None = None
    as_unpaired: bool = False
    certain: frozenset[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        known = self.own is None and not self.as_unpaired
        object.__setattr__(
            self, "certain", frozenset(self.actions) - self.late if known else frozenset()
        )


class PathRules:
    """The rules of all paths. None in a pattern matches any one segment."""

    def __init__(self) -> None:
        self._rules: dict[Pattern, PathRule] = {}

    def add(
        self,
        pattern: Pattern,
        actions: Mapping[str, str],
        *,
        late: Collection[str] = (),
        targets: Targets = no_target,
        own: OwnAttributes | None = None,
        as_unpaired: bool = False,
    ) -> None:
        """Add a rule, or replace the one of the same pattern; see `PathRule`."""
        self._rules[pattern] = PathRule(dict(actions), frozenset(late), targets, own, as_unpaired)

    def find(self, path: Path) -> PathRule | None:
        """The rule for a path; an exact pattern has precedence."""
        if (exact := self._rules.get(path)) is not None:
            return exact
        for pattern, rule in self._rules.items():
            if len(pattern) == len(path) and all(
                wanted in (None, got) for wanted, got in zip(pattern, path, strict=True)
            ):
                return rule
        return None

    def actions(self) -> dict[Pattern, Mapping[str, str]]:
        """The action of each method, by pattern."""
        return {pattern: rule.actions for pattern, rule in self._rules.items()}
