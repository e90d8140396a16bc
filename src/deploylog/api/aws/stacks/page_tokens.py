"""Tokens: where the next page of one list begins; nobody else can make one."""

import base64
import hmac

from deploylog.errors import InvalidCursor

_MAC = 16

#: The longest that CloudFormation takes.
MAX_LENGTH = 1024


class PageTokens:
    """Gives tokens, and reads those that it, or another process of this log, gave."""

    def __init__(self, key: bytes) -> None:
        """``key`` is the log's."""
        self._key = key

    def render(self, of: str, place: bytes) -> str:
        """The token for ``place`` in the list that ``of`` names."""
        token = base64.urlsafe_b64encode(self._mac(of, place) + place)
        return token.rstrip(b"=").decode()

    def parse(self, of: str, token: str) -> bytes:
        """The place that ``token`` was given for; raises InvalidCursor."""
        try:
            padding = "=" * (-len(token) % 4)
            shown = base64.b64decode(token + padding, altchars=b"-_", validate=True)
        except ValueError as error:
            raise InvalidCursor("nextToken is not valid", field="nextToken") from error
        place = shown[_MAC:]
        if not hmac.compare_digest(shown[:_MAC], self._mac(of, place)):
            raise InvalidCursor("nextToken is not valid", field="nextToken")
        return place

    def _mac(self, of: str, place: bytes) -> bytes:
        message = b"\0".join((of.encode("utf-8", "surrogatepass"), place))
        return hmac.digest(self._key, message, "sha256")[:_MAC]
