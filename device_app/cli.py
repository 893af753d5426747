"""The `handfast-device` command line. Its verbs are in `device_app.commands`.

A verb is imported when it is used, since most of them import the console and its libraries.
"""

from types import MappingProxyType
from typing import Final

import click

from device_app.commands.verbs import TopLevel
from peer.terminal.version import version_option

VERBS: Final = MappingProxyType(
    {
        "init": (
            "daemon",
            "init",
            "Create the device's key, its store and a commented configuration.",
        ),
        "check": (
            "check",
            "check",
            "Check settings, modules, policies and ports, and say what a start would say.",
        ),
        "run": ("daemon", "run", "Run the device until Ctrl-C or SIGTERM."),
        "open": (
            "window",
            "open_window",
            "Open the pairing window, and wait until a client has paired or the window closes.",
        ),
        "close": ("window", "close_window", "Close the pairing window."),
        "press": ("window", "press", "Report that the board's button was pressed."),
        "pending": (
            "window",
            "pending",
            "Show the client that is waiting to be accepted or refused.",
        ),
        "accept": ("window", "accept", "Accept the client that wants to pair."),
        "refuse": ("window", "refuse", "Refuse the client that wants to pair."),
        "status": (
            "status",
            "status",
            "Show the state of the device: addresses, pairing window, users, sessions, problems.",
        ),
        "health": (
            "status",
            "health",
            "Check the running daemon: exit with 0 if nothing is wrong, and with 1 otherwise.",
        ),
        "watch": (
            "watch",
            "watch",
            "Show the state of the device and every change of it, for a display or a script.",
        ),
        "logs": ("logs", "logs", "Show the log of the daemon."),
        "fingerprint": (
            "status",
            "fingerprint",
            "Show the fingerprint of this device, to compare it with the one that a client shows.",
        ),
        "label": (
            "label",
            "label",
            "Create a label for the board: a QR code to scan, and a code to type instead.",
        ),
        "users": ("users", "users", "Manage the users of this device."),
        "invite": (
            "invites",
            "invite",
            "Create an invite: a text with which its recipient becomes the user NAME.",
        ),
        "invites": ("invites", "invites", "List and withdraw the invites that can still be used."),
        "remote": (
            "remote",
            "remote",
            "Show and test how clients reach the device from other networks.",
        ),
        "policy": (
            "policy",
            "policy",
            "Manage roles and policies: which users may do what, under which conditions.",
        ),
        "events": (
            "events",
            "events",
            "Show the audit trail: pairings, changes to users, refused requests.",
        ),
        "clock": (
            "daemon",
            "clock",
            "Show the device's time, which decides when access and invites begin and end.",
        ),
        "backup": (
            "backup",
            "backup",
            "Write a backup of the whole device to FILE, sealed with a passphrase.",
        ),
        "restore": (
            "restore",
            "restore",
            "Restore a device from a backup.",
        ),
        "new-identity": (
            "identity",
            "new_identity",
            "Give this device a new key, and keep its users.",
        ),
        "reset": (
            "daemon",
            "reset",
            "Factory reset: delete all users, invites and events, and create a new key.",
        ),
        "completion": ("completion", "completion", "Print a shell completion script."),
    }
)
"""Each verb with its module, its function there, and the first sentence of its help."""


@click.group(
    cls=TopLevel,
    context_settings={"help_option_names": ["-h", "--help"]},
    example="handfast-device run --pair",
    verbs=VERBS,
)
@version_option("handfast-device")
def main() -> None:
    """Run a handfast device and manage its users, pairing and policies.

    The verbs that manage users, invites, policies and the store also work while the device is not
    running.
    """
