"""The verbs on users: the same on the running daemon and on the store alone."""

from collections.abc import Callable, Mapping
from typing import Any

from device_app import wishes
from device_app.whitelist import Whitelist

UserVerb = Callable[[Mapping[str, Any]], dict[str, Any]]


def user_verbs(whitelist: Whitelist) -> dict[str, UserVerb]:
    """Verb → what it does. Each takes the arguments of its command; raises `IamError`, `Malformed`.

    The actor is whoever stands at the board, so no rank is above it.
    """

    def everybody(_args: Mapping[str, Any]) -> dict[str, Any]:
        users = whitelist.state.users
        return {"users": [wishes.user_view(users[name]) for name in sorted(users)]}

    def show(args: Mapping[str, Any]) -> dict[str, Any]:
        return {"user": wishes.user_view(whitelist.state.user(args["name"]))}

    def add(args: Mapping[str, Any]) -> dict[str, Any]:
        user = wishes.user_wished_untrusted(args["wish"], whitelist.now)
        return {"user": wishes.user_view(whitelist.add_user(None, user))}

    def change(args: Mapping[str, Any]) -> dict[str, Any]:
        wished = wishes.changes_wished_untrusted(args["wish"])
        return {"user": wishes.user_view(whitelist.set_user(None, args["name"], wished))}

    def remove(args: Mapping[str, Any]) -> dict[str, Any]:
        whitelist.remove_user(None, args["name"])
        return {"removed": args["name"]}

    def add_key(args: Mapping[str, Any]) -> dict[str, Any]:
        key = wishes.key_wished_untrusted(
            args["fingerprint"], args.get("key_name", ""), whitelist.now
        )
        return {"user": wishes.user_view(whitelist.add_key(None, args["name"], key))}

    def remove_key(args: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = wishes.fingerprint_untrusted(args["fingerprint"])
        return {"user": wishes.user_view(whitelist.remove_key(None, args["name"], fingerprint))}

    return {
        "users-list": everybody,
        "users-show": show,
        "users-add": add,
        "users-set": change,
        "users-remove": remove,
        "users-add-key": add_key,
        "users-remove-key": remove_key,
    }
