"""The search for a verb by name, which both command lines share."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import click

from peer.terminal.suggestions import did_you_mean

_Found: TypeAlias = tuple[str | None, click.Command | None, list[str]]
_NO_SYNONYMS: Final[Mapping[str, str]] = MappingProxyType({})


def resolved_verb(
    group: click.Group,
    resolve: Callable[[click.Context, list[str]], _Found],
    ctx: click.Context,
    args: list[str],
    synonyms: Mapping[str, str] = _NO_SYNONYMS,
) -> _Found:
    """Find a verb of a group; the error for an unknown one suggests what was probably meant."""
    word = args[0]
    names = group.list_commands(ctx)
    if word in names or word.startswith("-") or ctx.resilient_parsing:
        return resolve(ctx, args)
    suggestion = did_you_mean(word, names, synonyms)
    raise click.UsageError(f"There is no verb {word!r}. {suggestion}".rstrip(), ctx)
