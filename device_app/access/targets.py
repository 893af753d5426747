"""The targets that the paths of /iam/users name, as attributes of a decision."""

from collections.abc import Iterable, Sequence

from device_app.access.path_rules import Attributes, Path
from iam.model import State
from peer.errors import Malformed
from peer.identity import Fingerprint


def user_targets(state: State, roles: Iterable[str], path: Path) -> Sequence[Attributes]:
    """The targets of /iam/users/{name} and the paths below it.

    A user who does not exist is a target of every role in turn, and none may be denied. One
    question with an open role would not do: a condition that lists all roles holds for each, but
    not for every value that the role could have.
    """
    name = path[2]
    user = state.find(name)
    target = {"IAM:Username": name if user is None else user.name}
    if len(path) > 4:
        target |= _key_target(path[4])
    if user is not None:
        return ({**target, "IAM:RoleId": user.role},)
    return (target, *({**target, "IAM:RoleId": role} for role in roles))


def _key_target(text: str) -> dict[str, str]:
    """The key that a path names; the handler refuses an invalid fingerprint."""
    try:
        return {"IAM:Fingerprint": Fingerprint.parse(text).hex}
    except Malformed:
        return {}
