"""Page tokens: authenticated cursors of the next page of a list."""

import base64
import hmac

from deploylog.errors import InvalidCursor

_MAC_BYTES = 16

#: The longest token, in characters, that CloudFormation accepts.
MAX_LENGTH = 1024


class PageTokens:
    """Renders tokens, and parses those of this log, from any process."""

    def __init__(self, key: bytes) -> None:
        """``key`` is the log's token key."""
        self._key = key

    def render(self, list_name: str, cursor: bytes) -> str:
        """The token for ``cursor``, valid only for the same list."""
        token = base64.urlsafe_b64encode(self._mac(list_name, cursor) + cursor)
        return token.rstrip(b"=").decode()

    def parse(self, list_name: str, token: str) -> bytes:
        """The cursor in ``token``; raises InvalidCursor."""
        try:
            padding = "=" * (-len(token) % 4)
            decoded = base64.b64decode(token + padding, altchars=b"-_", validate=True)
        except ValueError as error:
            raise InvalidCursor("nextToken is not valid", field="nextToken") from error
        cursor = decoded[_MAC_BYTES:]
        if not hmac.compare_digest(decoded[:_MAC_BYTES], self._mac(list_name, cursor)):
            raise InvalidCursor("nextToken is not valid", field="nextToken")
        return cursor

    def _mac(self, list_name: str, cursor: bytes) -> bytes:
        message = b"\0".join((list_name.encode("utf-8", "surrogatepass"), cursor))
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]
