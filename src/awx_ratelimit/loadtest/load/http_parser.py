"""Incremental parsers for HTTP responses and WebSocket frames. They keep no more than the audit reads.

A gateway may send anything for any length of time. Malformed input raises ParseError, and every buffer is bounded.
"""

from typing import Final

from geventhttpclient.response import HTTPParseError, HTTPResponse

from awx_ratelimit.loadtest.audit.observation import MAX_BODY_BYTES

ParseError = HTTPParseError
MAX_HEAD_BYTES: Final = 65_536
MAX_RESPONSE_BYTES: Final = 16 << 20
_CLOSE, _MASKED, _LENGTH_BYTES = 0x8, 0x80, {126: 2, 127: 8}
#: The code for a close frame that contains none (RFC 6455, 7.4.1).
_NO_CODE: Final = 1005


class ResponseParser(HTTPResponse):
    """The response to one request; interim (1xx) responses are skipped. `body` is cut at MAX_BODY_BYTES."""

    def __init__(self, method: str) -> None:
        super().__init__(method)
        self.body = bytearray()
        self.complete = False
        self._fed_bytes = 0

    @property
    def has_head(self) -> bool:
        """Whether the status and all headers have arrived."""
        return self.headers_complete and self.get_code() >= 200

    def take(self, data: bytes) -> None:
        """Parse `data`; empty data means that the connection was closed. Raises ParseError."""
        self._fed_bytes += len(data)
        self.feed(data)
        if not data and not self.complete:
            raise ParseError("closed before the response was complete")
        if self._fed_bytes > (MAX_RESPONSE_BYTES if self.has_head else MAX_HEAD_BYTES):
            raise ParseError("the response is too long")

    def _on_message_begin(self) -> None:
        if self.complete:
            raise ParseError("received more than one response")
        super()._on_message_begin()

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        self.complete = self.has_head

    def _on_body(self, buf: bytes | bytearray) -> None:
        self.body += buf[: MAX_BODY_BYTES - len(self.body)]


class CloseFrameParser:
    """Finds the close frame in the frames that a WebSocket server sends (RFC 6455, 5.2) and skips all others."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip_bytes = 0

    def close_code(self, data: bytes) -> int:
        """The code of the close frame if it has arrived with `data`, else 0."""
        self._buffer += data
        while True:
            skipped = min(self._skip_bytes, len(self._buffer))
            del self._buffer[:skipped]
            self._skip_bytes -= skipped
            if (sizes := self._frame_sizes()) is None:
                return 0
            head, length = sizes
            if self._buffer[0] & 0xF == _CLOSE:
                payload = self._buffer[head : head + 2]
                return int.from_bytes(payload) if len(payload) > 1 else _NO_CODE if length < 2 else 0
            self._skip_bytes = head + length

    def _frame_sizes(self) -> tuple[int, int] | None:
        """The next frame's sizes of head and payload in bytes; None if its head is incomplete."""
        if len(self._buffer) < 2:
            return None
        short = self._buffer[1] & ~_MASKED
        more = _LENGTH_BYTES.get(short, 0)
        if len(self._buffer) < 2 + more:
            return None
        length = int.from_bytes(self._buffer[2 : 2 + more]) if more else short
        return 2 + more + 4 * (self._buffer[1] >= _MASKED), length
