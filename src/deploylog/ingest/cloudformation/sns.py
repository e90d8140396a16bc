"""What SNS delivers over HTTP: its envelope, what is signed of it, and whose addresses are SNS's.

Source: the SNS Developer Guide, "HTTP/HTTPS subscription confirmation JSON format" and its
siblings, and "Verifying the signatures of Amazon SNS messages".
"""

import base64
import re
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from deploylog.errors import InvalidInput
from deploylog.events.times import parse_time
from deploylog.ingest.cloudformation.notifications import field_of

Kind = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]

_TOPIC = re.compile(
    r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{1,32}):([0-9]{12}):([A-Za-z0-9_-]{1,256}(\.fifo)?)"
)


class SnsMessage(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A message as SNS posts it."""

    type: Kind
    message_id: str
    topic_arn: str
    message: str
    timestamp: str
    signature_version: Literal["1", "2"]
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(name="SubscribeURL", default=None)

    @property
    def time(self) -> int:
        """When it was sent, in ns."""
        return parse_time(self.timestamp)

    @property
    def signed(self) -> bytes:
        """What the signature is of: names and values, a line each."""
        pairs = {
            "Message": self.message,
            "MessageId": self.message_id,
            "Subject": self.subject if self.type == "Notification" else None,
            "SubscribeURL": self.subscribe_url if self.type != "Notification" else None,
            "Timestamp": self.timestamp,
            "Token": self.token if self.type != "Notification" else None,
            "TopicArn": self.topic_arn,
            "Type": self.type,
        }
        lines = [f"{name}\n{value}\n" for name, value in pairs.items() if value is not None]
        return "".join(lines).encode("utf-8", "surrogatepass")

    @property
    def signature_bytes(self) -> bytes:
        """The signature."""
        return base64.b64decode(self.signature, validate=True)


def parse_sns_message(body: bytes) -> SnsMessage:
    """The message; raises InvalidInput, which names the field."""
    try:
        message = msgspec.json.decode(body, type=SnsMessage)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"not a message of SNS: {error}", field=field_of(error)) from error
    if not is_topic(message.topic_arn):
        raise InvalidInput("TopicArn is not the ARN of a topic", field="TopicArn")
    try:
        parse_time(message.timestamp)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="Timestamp") from error
    try:
        _ = message.signature_bytes
    except ValueError as error:
        raise InvalidInput("Signature is not base64", field="Signature") from error
    for name, value in (("Token", message.token), ("SubscribeURL", message.subscribe_url)):
        if message.type != "Notification" and not value:
            raise InvalidInput(f"{name} is missing", field=name)
    return message


def is_topic(arn: str) -> bool:
    """Whether it is the ARN of a topic."""
    return _TOPIC.fullmatch(arn) is not None


def is_certificate_url(url: str, topic: str) -> bool:
    """Whether SNS publishes its certificates there, in the topic's own region."""
    # One certificate under many names would push the others out of what is remembered.
    path = _path_at_sns(url, topic) if "?" not in url else None
    return path is not None and re.fullmatch(r"/[A-Za-z0-9_-]{1,128}\.pem", path) is not None


def is_confirmation_url(url: str, topic: str) -> bool:
    """Whether a GET of it confirms a subscription to the topic, and does nothing else."""
    if _path_at_sns(url, topic) != "/":
        return False
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    requested = (query.get("Action"), query.get("TopicArn"))
    return requested == (["ConfirmSubscription"], [topic]) and query.keys() <= _CONFIRMATION_PARAMS


_CONFIRMATION_PARAMS = {"Action", "TopicArn", "Token"}


def _path_at_sns(url: str, topic: str) -> str | None:
    """The path, if it is an https address of SNS in the topic's region."""
    match = _TOPIC.fullmatch(topic)
    if match is None or not url.isascii() or not url.isprintable() or len(url) > 2048:
        return None
    suffix = "amazonaws.com.cn" if match[1] == "aws-cn" else "amazonaws.com"
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    # By the whole, so that neither user, port nor a dot at the end makes another host of it.
    is_sns = (parts.scheme, parts.netloc) == ("https", f"sns.{match[2]}.{suffix}")
    return parts.path if is_sns and not parts.fragment else None
