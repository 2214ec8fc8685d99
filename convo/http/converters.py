"""Whole numbers in URLs, with no more digits than every database has room for."""

import re

from django.urls.converters import IntConverter

WHOLE_NUMBER_PATTERN = "[0-9]{1,15}"


def parse_whole_number(text: str) -> int | None:
    """Return the text as a number, or None if it is not a whole number or has too many digits."""
    return int(text) if re.fullmatch(WHOLE_NUMBER_PATTERN, text) else None


class WholeNumberConverter(IntConverter):
    """The path converter `<whole:id>`. A number with more digits matches no URL, which gives a 404."""

    regex = WHOLE_NUMBER_PATTERN
