"""Option types that both command lines share: durations and times.

The parser is imported when an option is given.
"""

import re
from datetime import timedelta
from typing import Final

import click

from peer.errors import UsageError

_ZERO: Final = re.compile(r"0+(\.0+)? ?(ms|s)?")


class Duration(click.ParamType[float]):
    """The type of an option that is a duration in seconds, `longest` at most.

    Durations are more than 0, unless `least` is 0.
    """

    name = "duration"

    def __init__(self, longest: float | None = None, *, least: float | None = None) -> None:
        self._longest = longest
        self._least = least

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds, or fail with a usage error."""
        if self._least == 0 and _ZERO.fullmatch(str(value).strip()):
            return 0.0
        from peer.terminal.durations import parse_duration  # noqa: PLC0415 - see above

        try:
            seconds = parse_duration(str(value))
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
        if self._longest is not None and seconds > self._longest:
            self.fail(f"{value!r} is more than {self._longest:.0f} s", param, ctx)
        return seconds


class Time(click.ParamType[float | timedelta]):
    """The type of an option that is a time; `whole_day` as in `parse_time`."""

    name = "time"

    def __init__(self, *, whole_day: bool = False) -> None:
        self._whole_day = whole_day

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | timedelta:
        """Return what `parse_time` returns, or fail with a usage error."""
        from peer.terminal.durations import parse_time  # noqa: PLC0415 - see above

        try:
            return parse_time(str(value), whole_day=self._whole_day)
        except UsageError as error:
            self.fail(f"{error}. {error.advice}", param, ctx)
