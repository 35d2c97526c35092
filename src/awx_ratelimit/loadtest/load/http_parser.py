"""`Answer` and `Frames`: what comes back, while it comes. Of neither is more kept than an audit looks at.

A gateway may send whatever it likes, as long as it likes: what is no answer is a ParseError, and nothing is without
a bound.
"""

from typing import Final

from geventhttpclient.response import HTTPParseError, HTTPResponse

from awx_ratelimit.loadtest.audit.observation import MOST_BODY_BYTES

ParseError = HTTPParseError
MOST_HEAD_BYTES: Final = 65_536
MOST_READ_BYTES: Final = 16 << 20
_CLOSE, _MASKED, _MODES = 0x8, 0x80, {126: 2, 127: 8}
#: The codes of a close frame without one (RFC 6455, 7.4.1).
_NO_CODE: Final = 1005


class Answer(HTTPResponse):
    """The answer to one request, after whatever interim ones come before it. Its `body` is cut at MOST_BODY_BYTES."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.body = bytearray()
        self.whole = False
        self._taken_bytes = 0

    @property
    def has_head(self) -> bool:
        """Whether its status and headers have come."""
        return self.headers_complete and self.get_code() >= 200

    def take(self, data: bytes) -> None:
        """Go on with `data`; none is the end of the connection. Raises ParseError."""
        self._taken_bytes += len(data)
        self.feed(data)
        if not data and not self.whole:
            raise ParseError("it was closed before an answer was whole")
        if self._taken_bytes > (MOST_READ_BYTES if self.has_head else MOST_HEAD_BYTES):
            raise ParseError("what it sends has no end")

    def _on_message_begin(self) -> None:
        if self.whole:
            raise ParseError("more came than the answer to what was asked")
        super()._on_message_begin()

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        self.whole = self.has_head

    def _on_body(self, buf: bytes | bytearray) -> None:
        self.body += buf[: MOST_BODY_BYTES - len(self.body)]


class Frames:
    """What a server sends over a WebSocket (RFC 6455, 5.2), of which its close frame alone is read."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipped_bytes = 0

    def closed_with(self, data: bytes) -> int:
        """The code of the close frame, where it has come with `data`; else 0."""
        self._buffer += data
        while True:
            gone = min(self._skipped_bytes, len(self._buffer))
            del self._buffer[:gone]
            self._skipped_bytes -= gone
            if (sizes := self._sizes()) is None:
                return 0
            head, length = sizes
            if self._buffer[0] & 0xF == _CLOSE:
                payload = self._buffer[head : head + 2]
                return int.from_bytes(payload) if len(payload) > 1 else _NO_CODE if length < 2 else 0
            self._skipped_bytes = head + length

    def _sizes(self) -> tuple[int, int] | None:
        """Of the next frame: bytes before its payload, and of its payload; None while they have not come."""
        if len(self._buffer) < 2:
            return None
        short = self._buffer[1] & ~_MASKED
        more = _MODES.get(short, 0)
        if len(self._buffer) < 2 + more:
            return None
        length = int.from_bytes(self._buffer[2 : 2 + more]) if more else short
        return 2 + more + 4 * (self._buffer[1] >= _MASKED), length
