"""SNS as a test plays it: its certificate, its signature, and what CloudFormation sends by it."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from deploylog.auth.sns import Fetched
from deploylog.errors import Unavailable
from deploylog.ingest.cloudformation.sns import parse_sns_message
from deploylog.ingest.cloudformation.stack_event import StackEvent

TOPIC = "arn:aws:sns:eu-west-1:123456789012:stacks"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1b2c.pem"
SUBSCRIBE = (
    f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=token"
)


def envelope(
    arn: str, status: str, *, logical: str | None = None, id: str = "e-1", **fields: Any
) -> dict[str, Any]:
    """What EventBridge sends of a stack, or of the resource ``logical`` in it."""
    kind = "Stack" if logical is None else "Resource"
    detail: dict[str, Any] = {
        "stack-id": arn,
        "status-details": {"status": status, "status-reason": fields.pop("reason", "")},
        "client-request-token": "token-1",
    }
    if logical is not None:
        detail |= {
            "logical-resource-id": logical,
            "physical-resource-id": f"{logical.lower()}-1",
            "resource-type": "AWS::S3::Bucket",
        }
    return {
        "version": "0",
        "id": id,
        "detail-type": f"CloudFormation {kind} Status Change",
        "source": "aws.cloudformation",
        "account": "123456789012",
        "time": "2026-03-01T12:00:00Z",
        "region": "eu-west-1",
        "resources": [arn],
        "detail": detail,
        **fields,
    }


def message_text(event: StackEvent) -> str:
    """What CloudFormation publishes to a stack's topics."""
    fields: dict[str, str] = msgspec.to_builtins(event)
    fields |= {"Namespace": "123456789012", "PrincipalId": "AIDA"}
    return "".join(f"{name}='{value}'\n" for name, value in sorted(fields.items()))


def sns_message(message: str, **fields: Any) -> dict[str, Any]:
    """A notification that nobody has signed."""
    return {
        "Type": "Notification",
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": message,
        "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertURL": CERTIFICATE,
        **fields,
    }


class PlayedSns:
    """Signs messages, and publishes its certificate to ``fetch``."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.certificate = self.certify(days=30)
        self.fetched: list[str] = []
        self.is_down = False

    def certify(self, *, days: int) -> bytes:
        """A certificate that ends in so many days."""
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=60))
            .not_valid_after(now + timedelta(days=days))
            .sign(self._key, SHA256())
        )
        return built.public_bytes(Encoding.PEM)

    def sign(self, told: dict[str, Any]) -> bytes:
        """The message, signed."""
        algorithm = SHA1() if told["SignatureVersion"] == "1" else SHA256()
        signed = parse_sns_message(json.dumps(told).encode()).signed
        signature = self._key.sign(signed, padding.PKCS1v15(), algorithm)
        return json.dumps(told | {"Signature": base64.b64encode(signature).decode()}).encode()

    async def fetch(self, url: str) -> Fetched:
        self.fetched.append(url)
        if self.is_down:
            raise Unavailable("SNS does not answer")
        if url in (CERTIFICATE, SUBSCRIBE):
            return Fetched(status=200, body=self.certificate if url == CERTIFICATE else b"<ok/>")
        return Fetched(status=404, body=b"")
