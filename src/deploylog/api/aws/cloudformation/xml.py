"""The XML responses of CloudFormation's Query API."""

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

#: The API's version, and the namespace of its responses.
VERSION = "2010-05-15"
NAMESPACE = f"http://cloudformation.amazonaws.com/doc/{VERSION}/"

#: Characters that XML 1.0 cannot contain.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: A value in a response; ``None`` is left out.
Value = str | Mapping[str, "Value"] | Sequence["Value"] | None


def render_result(action: str, result: Mapping[str, Value], request_id: str) -> bytes:
    """The response to an action."""
    body = {f"{action}Result": result, "ResponseMetadata": {"RequestId": request_id}}
    return _render(f"{action}Response", body)


def render_error(*, type: str, code: str, message: str, request_id: str) -> bytes:
    """The response to a failed request."""
    error = {"Type": type, "Code": code, "Message": message}
    return _render("ErrorResponse", {"Error": error, "RequestId": request_id})


def _render(root: str, body: Mapping[str, Value]) -> bytes:
    element = Element(root, xmlns=NAMESPACE)
    _fill(element, body)
    document: bytes = tostring(element, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _fill(element: Element, value: Value) -> None:
    if isinstance(value, str):
        element.text = _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value)
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if part is not None:
                _fill(SubElement(element, name), part)
    elif value is not None:
        for part in value:
            _fill(SubElement(element, "member"), part)
