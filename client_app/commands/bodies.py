"""What the verbs that send and show bodies have in common."""

from collections.abc import Callable
from typing import Any, BinaryIO

import click

from client_app.reply import Format
from client_app.setting import Setting
from peer import json_text
from peer.errors import Malformed, UsageError

FORMATS = [str(one) for one in Format]


def raw_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--raw: the exact bytes of the answer."""

    def take(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Setting).raw = value

    return click.option(
        "--raw",
        is_flag=True,
        expose_value=False,
        callback=take,
        help="The exact bytes of the answer, nothing else.",
    )(function)


def accept_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--format of what is asked for."""
    return click.option(
        "--format", "body_format", type=click.Choice(FORMATS), help="Ask for this content format."
    )(function)


def body_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--data, --file and --format of what is sent."""
    for option in (
        click.option(
            "--format",
            "body_format",
            type=click.Choice(FORMATS),
            help="Of the body: text for --data, octets for --file, if not given.",
        ),
        click.option("--file", type=click.File("rb"), help="Send this file's bytes; - is stdin."),
        click.option("--data", help="Send this text; with --format cbor, write it as JSON."),
    ):
        function = option(function)
    return raw_option(function)


def body_of(data: str | None, file: BinaryIO | None, body_format: str | None) -> Any:
    """The arguments `body` and `body_format` of a request. Raises `UsageError`."""
    if data is not None and file is not None:
        raise UsageError("--data and --file exclude each other", advice="Give one of them.")
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
                f"--data cannot be used: {error}",
                advice='Write it like {"light": true}, in single quotes.',
            ) from error
    return {"body": data, "body_format": chosen}


def _bytes(argument: str) -> bytes:
    """What was typed, also what is not UTF-8."""
    return argument.encode(errors="surrogateescape")


def accept_of(body_format: str | None) -> Any:
    """The argument `accept` of a request."""
    return Format(body_format) if body_format else None
