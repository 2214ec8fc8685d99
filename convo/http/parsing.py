"""JSON as strictly as a database needs it: what cannot be stored is refused with its place."""

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.parsers import BaseParser

from convo.errors import ConvoError, InvalidRequest, Malformed

# No deeper than can be written again anywhere.
DEEPEST = 32
# Only an escape can bring these in: raw ones are no UTF-8, or no JSON.
_SUSPECT = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class JSONParser(BaseParser):
    """application/json without duplicate keys, NaN, bottomless nesting, NUL or lone surrogates."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """The value of a JSON body, or the error that says what is wrong with it and where."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_constant)
        if _SUSPECT.search(body):
            _refuse_unstorable(value, "")
    except ConvoError:
        raise
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} does not belong there.") from error
    except RecursionError as error:
        raise Malformed("The body is nested too deeply.") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"The body is not JSON: {error}.") from error
    except ValueError as error:
        raise Malformed("The body holds a number with too many digits.") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Malformed("The body names the same key twice in one object.")
    return found


def _constant(name: str) -> None:
    raise Malformed(f"{name} is not JSON. Leave the field out instead.")


def _refuse_unstorable(value: Any, path: str) -> None:
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise InvalidRequest(
            f"{path or 'The body'} holds a NUL or half a surrogate pair, which no database stores.",
            param=path or None,
        )
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unstorable(key, path)
            _refuse_unstorable(inner, f"{path}.{key}" if path else key)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_unstorable(inner, f"{path}[{index}]")
