"""A real server on this machine that receives webhooks."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from standardwebhooks import Webhook


class Receiver:
    """Answers each request with the next of `statuses`, then with 204, and verifies signatures with `secret`."""

    def __init__(self, secret: str) -> None:
        self.statuses: list[int] = []
        self.messages: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.paths: list[str] = []
        #: Cleared by a test that wants no answer.
        self.answers = Event()
        self.answers.set()
        self.reached = Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.paths.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                # Raises an error for a wrong signature, and the test gets no message.
                receiver.messages.append(Webhook(secret).verify(body, dict(self.headers)))
                receiver.ids.append(self.headers["webhook-id"])
                receiver.reached.set()
                receiver.answers.wait(30)
                status = receiver.statuses.pop(0) if receiver.statuses else 204
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.paths.append(self.path)
                self.send_error(405)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks?token=not-for-logs"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
