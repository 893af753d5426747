"""The console's verbs on users: look, add, change, remove."""

from collections.abc import Callable, Mapping
from typing import Any

from device_app.access import bodies
from device_app.access.access_control import AccessControl
from device_app.access.fields import fingerprint_untrusted
from iam.model import User


def user_verbs(
    control: AccessControl,
) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The console's verbs on users; see `device_app.console.table`."""
    store, registry, clock = control.store, control.registry, control.clock

    def shown(user: User) -> bodies.UserView:
        return bodies.user_view(user, store.seen)

    def everybody(_args: Mapping[str, Any]) -> dict[str, Any]:
        users = store.state.users
        return {"users": [shown(users[name]) for name in sorted(users)]}

    def show(args: Mapping[str, Any]) -> dict[str, Any]:
        return {"user": shown(store.state.user(args["name"]))}

    def add(args: Mapping[str, Any]) -> dict[str, Any]:
        user = bodies.UserRequest.parse_untrusted(args["wish"]).user(clock.now())
        return {"user": shown(registry.add_user(None, user))}

    def change(args: Mapping[str, Any]) -> dict[str, Any]:
        wished = bodies.UserPatch.parse_untrusted(args["wish"])
        return {"user": shown(registry.set_user(None, args["name"], wished))}

    def remove(args: Mapping[str, Any]) -> dict[str, Any]:
        registry.remove_user(None, args["name"])
        return {"removed": args["name"]}

    def add_key(args: Mapping[str, Any]) -> dict[str, Any]:
        key = bodies.new_key_untrusted(args["fingerprint"], args.get("key_name", ""), clock.now())
        return {"user": shown(registry.add_key(None, args["name"], key))}

    def remove_key(args: Mapping[str, Any]) -> dict[str, Any]:
        fingerprint = fingerprint_untrusted(args["fingerprint"])
        return {"user": shown(registry.remove_key(None, args["name"], fingerprint))}

    return {
        "users-list": everybody,
        "users-show": show,
        "users-add": add,
        "users-set": change,
        "users-remove": remove,
        "users-add-key": add_key,
        "users-remove-key": remove_key,
    }
