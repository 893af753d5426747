"""The console's verbs on users: look, add, change, remove."""

from collections.abc import Callable, Mapping
from typing import Any

from device_app.access import bodies
from device_app.access.whitelist import Whitelist
from iam.model import User


def user_verbs(
    whitelist: Whitelist,
) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The console's verbs on users; see `device_app.console.table`."""

    def shown(user: User) -> dict[str, Any]:
        return bodies.user_view(user, whitelist.store.seen)

    def everybody(_args: Mapping[str, Any]) -> dict[str, Any]:
        users = whitelist.state.users
        return {"users": [shown(users[name]) for name in sorted(users)]}

    def show(args: Mapping[str, Any]) -> dict[str, Any]:
        return {"user": shown(whitelist.state.user(args["name"]))}

    def add(args: Mapping[str, Any]) -> dict[str, Any]:
        user = bodies.user_wished_untrusted(args["wish"], whitelist.now)
        return {"user": shown(whitelist.add_user(None, user))}

    def change(args: Mapping[str, Any]) -> dict[str, Any]:
        wished = bodies.changes_wished_untrusted(args["wish"])
        return {"user": shown(whitelist.set_user(None, args["name"], wished))}

    def remove(args: Mapping[str, Any]) -> dict[str, Any]:
        whitelist.remove_user(None, args["name"])
        return {"removed": args["name"]}

    def add_key(args: Mapping[str, Any]) -> dict[str, Any]:
        key = bodies.key_wished_untrusted(
            args["fingerprint"], args.get("key_name", ""), whitelist.now
        )
        return {"user": shown(whitelist.add_key(None, args["name"], key))}

    def remove_key(args: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = bodies.fingerprint_untrusted(args["fingerprint"])
        return {"user": shown(whitelist.remove_key(None, args["name"], fingerprint))}

    return {
        "users-list": everybody,
        "users-show": show,
        "users-add": add,
        "users-set": change,
        "users-remove": remove,
        "users-add-key": add_key,
        "users-remove-key": remove_key,
    }
