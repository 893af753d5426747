"""The resource trees of both ports: paths, resources, and the action that each method asks for."""

from collections.abc import Callable, Sequence

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import AuditLog
from device_app.access.guard import Guard
from device_app.access.invitations import Invitations
from device_app.limits import BOARD_UPDATE_SECONDS
from device_app.modules.handlers import Application, handled
from device_app.pairing.service import PairingService
from device_app.resources import (
    board,
    check,
    events,
    hello,
    iam,
    invites,
    pair,
    redeem,
    remote,
    wellknown,
    window,
)
from device_app.resources.local_only import LocalOnly
from device_app.resources.pairing_pointer import PairingPointer
from peer.limits import Limits
from peer.net.site import GuardedSite


def regular_site(
    guard: Guard,
    control: AccessControl,
    invitations: Invitations,
    service: PairingService,
    applications: Sequence[Application],
    *,
    name: str,
    limits: Limits,
    board_seconds: float | None = None,
    remote_settings: remote.SettingsOf | None = None,
) -> GuardedSite:
    """Return the tree of the regular port, and tell the guard its rules.

    Args:
        guard: decides about every request.
        control: users, decisions and the audit trail.
        invitations: creates and redeems invites.
        service: opens the pairing window.
        applications: resources of applications.
        name: what people call the device.
        limits: the bounds of requests.
        board_seconds: between two readings of an observed board, if it is not the default.
        remote_settings: returns the remote settings of a key; None: remote reach is off.
    """
    pointer = PairingPointer(service, LocalOnly(control.audit), guard.authorise)
    site = GuardedSite(
        authorise=pointer.authorise,
        admit=guard.admit,
        limits=limits,
        body_bytes=lambda request: guard.body_bytes(request, limits),
    )
    greeting = hello.Hello(guard, device=name, device_id=service.device.device_id)
    for path, resource, actions in (
        (
            wellknown.PATH,
            wellknown.WellKnownCore(site.paths, may_get=guard.may_get),
            wellknown.ACTIONS,
        ),
        (hello.PATH, greeting, hello.ACTIONS),
        (("iam", "me"), iam.Me(guard, control.authority, control.clock), iam.ME),
        (check.PATH, check.Check(guard, control.authority), check.ACTIONS),
        (("iam", "roles"), iam.Roles(control.authority), iam.ROLES),
        (("iam", "policies"), iam.Policies(control.authority), iam.POLICIES),
        (events.PATH, events.Events(control.store), events.ACTIONS),
    ):
        site.add(path, resource)
        guard.rules.add(path, actions)
    seconds = BOARD_UPDATE_SECONDS if board_seconds is None else board_seconds
    for place, readings in board.board_resources(seconds=seconds).items():
        site.add(place, readings, is_same_for_all=True)
        guard.rules.add(place, board.ACTIONS)
    if remote_settings is not None:
        site.add(remote.PATH, remote.Remote(remote_settings))
        guard.rules.add(remote.PATH, remote.ACTIONS)
    _add_administration(site, guard, control, invitations, service, name=name, limits=limits)
    for one in applications:
        spec = one.spec
        site.add(
            spec.segments,
            handled(one),
            options=spec.options,
            is_conditional=True,
            is_same_for_all=spec.same_for_all,
        )
        own = one.attributes if spec.attributes is not None else None
        guard.rules.add(spec.segments, spec.actions, own=own)
    return site


def _add_administration(
    site: GuardedSite,
    guard: Guard,
    control: AccessControl,
    invitations: Invitations,
    service: PairingService,
    *,
    name: str,
    limits: Limits,
) -> None:
    """Add the resources that change users, invites and the pairing window."""
    site.add(("iam", "users"), iam.Users(guard, control, limits=limits), takes_rest=True)
    guard.rules.add(("iam", "users"), iam.USERS, late=("POST",))
    guard.rules.add(("iam", "users", None), iam.USER, targets=guard.user_targets)
    guard.rules.add(("iam", "users", None, "keys", None), iam.KEY, targets=guard.user_targets)

    site.add(
        ("iam", "invites"),
        invites.Invites(guard, invitations, limits=limits),
        takes_rest=True,
    )
    guard.rules.add(("iam", "invites"), invites.INVITES, late=("POST",))
    guard.rules.add(("iam", "invites", None), invites.INVITE, late=("DELETE",))

    redemption = redeem.Redeem(invitations, control.audit, device=name, limits=limits)
    site.add(redeem.PATH, redemption)
    # A repeated request gets the first answer again, whatever role the invite gave.
    guard.rules.add(redeem.PATH, redeem.ACTIONS, as_unpaired=True)

    site.add(window.PATH, window.WindowResource(guard, service, limits=limits))
    guard.rules.add(window.PATH, window.ACTIONS, late=window.LATE)


def pairing_site(
    service: PairingService,
    audit: AuditLog,
    *,
    name: str,
    regular_port: Callable[[], int],
    limits: Limits,
) -> GuardedSite:
    """Return the tree of the pairing port; `limits` are those of that port."""
    local = LocalOnly(audit)
    site = GuardedSite(
        authorise=local.authorise,
        limits=limits,
        advice="`/.well-known/core` of the pairing port lists `/pair` alone.",
    )
    resource = pair.Pair(service, local, device=name, regular_port=regular_port)
    site.add(pair.PATH, resource, takes_rest=True)
    site.add(wellknown.PATH, wellknown.WellKnownCore(site.paths))
    return site
