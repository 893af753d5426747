"""Options and parsing shared by the verbs that send or print bodies."""

from dataclasses import dataclass
from typing import BinaryIO, Final

import click

from client_app.commands.common import F
from client_app.commands.invocation import Invocation
from client_app.content import Body, Format
from peer import json_text
from peer.errors import Malformed, UsageError

FORMATS: Final = [str(one) for one in Format]


def raw_option(function: F) -> F:
    """--raw: print the exact bytes of the response."""

    def take(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.ensure_object(Invocation).raw = value

    return click.option(
        "--raw",
        is_flag=True,
        expose_value=False,
        callback=take,
        help="Print the exact bytes of the response and nothing else.",
    )(function)


def accept_option(function: F) -> F:
    """--format: the content format to request."""
    return click.option(
        "--format", "body_format", type=click.Choice(FORMATS), help="Request this content format."
    )(function)


def body_options(function: F) -> F:
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


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The body of a request and its content format."""

    body: Body = None
    body_format: Format | None = None


def body_of(data: str | None, file: BinaryIO | None, body_format: str | None) -> RequestBody:
    """The body that the options describe. Raises `UsageError`."""
    if data is not None and file is not None:
        raise UsageError("--data and --file cannot be used together", advice="Give one of them.")
    if file is not None:
        return RequestBody(file.read(), Format(body_format or "octets"))
    if data is None:
        return RequestBody()
    chosen = Format(body_format or "text")
    if chosen in {Format.CBOR, Format.JSON}:
        try:
            return RequestBody(json_text.decode_untrusted(_bytes(data)), chosen)
        except Malformed as error:
            raise UsageError(
                f"--data is not valid JSON: {error}",
                advice='Write it like this, in single quotes: {"light": true}',
            ) from error
    return RequestBody(data, chosen)


def _bytes(argument: str) -> bytes:
    """The bytes of the argument, even if they are not UTF-8."""
    return argument.encode(errors="surrogateescape")


def accept_of(body_format: str | None) -> Format | None:
    """The content format to request."""
    return Format(body_format) if body_format else None
