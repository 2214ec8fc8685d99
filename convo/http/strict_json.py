"""Strict JSON parsing: a value that no database or model server could take is refused, with its path."""

import json
import re
from collections.abc import Mapping
from math import isinf
from typing import IO, Any

from rest_framework.parsers import BaseParser

from convo.errors import ConvoError, InvalidRequest, MalformedBody

# Anything nested deeper might not be serialized again everywhere.
MAX_DEPTH = 32
# NUL and surrogates arrive only as escapes: in raw form they are not valid UTF-8, or not valid JSON.
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class StrictJSONParser(BaseParser):
    """A parser for JSON without duplicate keys, NaN, bottomless nesting, NUL or lone surrogates."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON body, or raise an error that says what is wrong and where."""
    infinities: list[float] = []

    def parse_float(text: str) -> float:
        # Python reads 1e999 as infinity, and would write `Infinity`, which is not JSON.
        if isinf(value := float(text)):
            infinities.append(value)
        return value

    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_object_with_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=parse_float,
        )
        if infinities or _SUSPECT_ESCAPE.search(body):
            _refuse_unstorable(value, "")
    except ConvoError:
        raise
    except UnicodeDecodeError as error:
        raise MalformedBody(f"The body is not UTF-8: byte {error.start} does not belong there.") from error
    except RecursionError as error:
        raise MalformedBody("The body is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise MalformedBody(f"The body is not JSON: {error}.") from error
    except ValueError as error:
        raise MalformedBody("The body holds a number with too many digits.") from error
    return value


def _object_with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise MalformedBody("The body names the same key twice in one object.")
    return result


def _refuse_constant(name: str) -> None:
    raise MalformedBody(f"{name} is not JSON. Leave the field out instead.")


def _refuse_unstorable(value: Any, path: str) -> None:
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise InvalidRequest(
            f"{path or 'The body'} holds a NUL or half a surrogate pair, which no database stores.",
            param=path or None,
        )
    if isinstance(value, float) and isinf(value):
        raise InvalidRequest(f"{path or 'The body'} is a number that is too large.", param=path or None)
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, path)
            _refuse_unstorable(inner, f"{path}.{key}" if path else key)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unstorable(inner, f"{path}[{index}]")
