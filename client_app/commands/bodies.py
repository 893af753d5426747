"""Options and parsing shared by the verbs that send or print bodies."""

from collections.abc import Callable
from typing import Any, BinaryIO

import click

from client_app.commands.common import Setting
from client_app.content import Format
from peer import json_text
from peer.errors import Malformed, UsageError

FORMATS = [str(one) for one in Format]


def raw_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--raw: print the exact bytes of the response."""

    def take(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Setting).raw = value

    return click.option(
        "--raw",
        is_flag=True,
        expose_value=False,
        callback=take,
        help="Print the exact bytes of the response and nothing else.",
    )(function)


def accept_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--format: the content format to request."""
    return click.option(
        "--format", "body_format", type=click.Choice(FORMATS), help="Request this content format."
    )(function)


def body_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--data, --file and --format: the body to send."""
    for option in (
        click.option(
            "--format",
            "body_format",
            type=click.Choice(FORMATS),
            help="Content format of the body.  [default: text for --data, octets for --file]",
        ),
        click.option(
            "--file",
            type=click.File("rb"),
            help="Send the content of this file; - is standard input.",
        ),
        click.option("--data", help="Send this text; with --format cbor, give it as JSON."),
    ):
        function = option(function)
    return raw_option(function)


def body_of(data: str | None, file: BinaryIO | None, body_format: str | None) -> Any:
    """The arguments `body` and `body_format` of a request. Raises `UsageError`."""
    if data is not None and file is not None:
        raise UsageError("--data and --file cannot be used together", advice="Give one of them.")
    if file is not None:
        return {"body": file.read(), "body_format": Format(body_format or "octets")}
    if data is None:
        return {"body": None, "body_format": None}
    chosen = Format(body_format or "text")
    if chosen in {Format.CBOR, Format.JSON}:
        try:
            return {"body": json_text.decode_untrusted(_bytes(data)), "body_format": chosen}
        except Malformed as error:
            raise UsageError(
                f"--data is not valid JSON: {error}",
                advice='Write it like this, in single quotes: {"light": true}',
            ) from error
    return {"body": data, "body_format": chosen}


def _bytes(argument: str) -> bytes:
    """The bytes of the argument, also if they are not UTF-8."""
    return argument.encode(errors="surrogateescape")


def accept_of(body_format: str | None) -> Any:
    """The argument `accept` of a request."""
    return Format(body_format) if body_format else None
