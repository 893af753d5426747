"""Explanations for spellings of times and durations that people use and that are not read."""

import re
from types import MappingProxyType
from typing import Final

_DATE_FORM: Final = r"[0-9]{4}-[0-9]{1,2}(-[0-9]{1,2}.*)?|[0-9]{8}t.*"
_KNOWN_SPELLINGS: Final = tuple(
    (re.compile(form), why)
    for form, why in (
        (r"[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{2,4}.*", "a date starts with the year"),
        (r"[0-9]{4}[./][0-9]{1,2}[./][0-9]{1,2}.*", "a date is written with -"),
        (r"[0-9]{4}-?w[0-9].*", "a week is not a day"),
        (_DATE_FORM, "the calendar has no such day, or a part is missing"),
        (
            r".*(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec).*",
            "a month is written as a number",
        ),
        (r"[0-9]{1,2}:[0-9]{2}.*|[0-9]{1,2} ?[ap]\.?m\.?", "a time of day needs its date"),
        (r"now|next .*|tomorrow.*|yesterday.*|.*[a-z]day", "give the date, or a time from now"),
        (r"never|none|no|forever|always|unlimited", "where a limit can be removed, 0 does that"),
        (r"-.*|.* ago", "it is in the past"),
        (r"0+(\.0+)? ?[a-z]*", "it must be more than 0"),
        (r".*[0-9],[0-9].*", "a fraction has a point, as in 1.5h"),
        (r".*[0-9] ?(mo|months?|y|yrs?|years?)", "months and years differ in length; give days"),
        (r"(in|after|for) .*|\+.*|pt?[0-9].*", "give the number and its unit alone, as in 2h"),
        (r"[0-9 .]+[a-z][0-9a-z .]*[0-9]", "the last number has no unit"),
    )
)
"""Spellings that are not read, each with what to write instead; the first one that fits is told."""

_CLOCK_DIGITS: Final = "a T separates date and time, as in 20301224T1800"
_NUMBERS: Final = MappingProxyType(
    {
        8: "eight digits are read as a date, and the calendar has no such day",
        12: _CLOCK_DIGITS,
        14: _CLOCK_DIGITS,
    }
)
"""The reason why a number is not a time, by its number of digits."""


def hint(text: str, *, is_duration: bool = False) -> str:
    """Say what is wrong with a spelling that people use; empty if it is not a known one."""
    if is_duration and re.fullmatch(_DATE_FORM, text):
        return ": it is a date"
    if not is_duration and (number := _NUMBERS.get(len(text))) and re.fullmatch("[0-9]+", text):
        return f": {number}"
    return next((f": {why}" for form, why in _KNOWN_SPELLINGS if form.fullmatch(text)), "")
