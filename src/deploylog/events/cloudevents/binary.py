"""CloudEvents in binary mode: attributes in HTTP headers, and data as the body."""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from deploylog.errors import InvalidEvent
from deploylog.events.cloudevents.attributes import Defaults, checked_json, parse_attributes
from deploylog.events.event import MAX_DATA_BYTES, NewEvent

#: Attributes that binary mode carries in the body and its Content-Type.
_NOT_IN_HEADERS = frozenset({"data", "data_base64", "datacontenttype"})

_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)

_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

#: Types besides ``text/…`` whose data is text.
_TEXTUAL = re.compile(
    r"(?:.+\+)?(?:xml|yaml|x-yaml|toml|graphql|javascript|ecmascript|sql|x-sh|ndjson|x-ndjson|jsonl"
    r"|x-www-form-urlencoded)"
)

_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]+)', re.IGNORECASE)


def parse_binary(headers: Mapping[str, str], body: bytes, defaults: Defaults) -> NewEvent:
    """Parse an event from its ``ce-`` headers, in lower case, and the data in ``body``."""
    if len(body) > MAX_DATA_BYTES:
        raise InvalidEvent(f"data is longer than {MAX_DATA_BYTES} bytes", field="data")
    attributes: dict[str, Any] = {
        name.removeprefix("ce-"): _header_value(name, value)
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    for name in _NOT_IN_HEADERS & attributes.keys():
        message = f"ce-{name} must not be a header: the body and its Content-Type carry the data"
        raise InvalidEvent(message, field=name)
    if "elapsedms" in attributes:
        attributes["elapsedms"] = _integer(attributes["elapsedms"])
    if body:
        attributes |= _binary_data(headers.get("content-type"), body)
    return parse_attributes(msgspec.json.encode(attributes), defaults)


def _header_value(name: str, text: str) -> str:
    """The value of an attribute's header: unquoted, then percent-decoded once."""
    value = text.encode("latin-1")
    if quoted := _QUOTED.fullmatch(value):
        value = _ESCAPED.sub(rb"\1", quoted[1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise InvalidEvent(f"{name} is not UTF-8", field=name.removeprefix("ce-")) from None


def _binary_data(content_type: str | None, body: bytes) -> dict[str, Any]:
    """The data of binary mode, and its content type."""
    attributes = {} if content_type is None else {"datacontenttype": content_type}
    if content_type is None or _is_json(content_type):
        return {**attributes, "data": checked_json(body)}
    if _is_text(content_type):
        try:
            return {**attributes, "data": body.decode()}
        except UnicodeDecodeError:
            # Any other bytes are stored as they are.
            pass
    return {**attributes, "data_base64": base64.b64encode(body).decode()}


def _integer(text: str) -> int | str:
    # Python refuses to read thousands of digits; what is longer is out of range anyway.
    if len(text) > 19:
        raise InvalidEvent("elapsedms must have at most 19 digits", field="elapsedms")
    return int(text) if text.isascii() and text.isdigit() else text


def _is_json(content_type: str) -> bool:
    subtype = _essence(content_type).partition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _is_text(content_type: str) -> bool:
    """Whether the data is text in UTF-8, the default of text without a charset."""
    charset = _CHARSET.search(content_type)
    if charset is not None:
        return charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    type_, _, subtype = _essence(content_type).partition("/")
    return type_ == "text" or _TEXTUAL.fullmatch(subtype) is not None


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
