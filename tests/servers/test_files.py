"""Downloads: files that servers send in their own way (`wsgi.file_wrapper`, `http.response.pathsend`)."""

from tests.servers.harness import FILE, SPECS, Server, on, on_named
from tests.servers.limits import SLOTS, api_key
from tests.servers.wire import Connection

#: Far less than the file, so that a server cannot be done before the client reads.
SMALL_BUFFER_BYTES = 4096


@on(SPECS)
def test_a_file_arrives_whole(server: Server) -> None:
    """A download has every byte of the file and its length, and releases its slot."""
    subject = server.new_subject("slots")

    answer = server.request("GET", "/file", subject)
    expected = (200, str(len(FILE)), True, SLOTS)
    assert (
        answer.status,
        answer.header("content-length"),
        answer.body == FILE,
        server.free_becomes(subject, SLOTS),
    ) == expected


@on(SPECS, without="gunicorn-sync")
def test_a_download_holds_its_slot(server: Server) -> None:
    """While a client still reads the file its slot is taken, and afterwards free."""
    subject = server.new_subject("slots")

    with Connection(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
        connection.send_request("GET", "/file", api_key(subject))
        begun = connection.begun().status
        # granian takes the path (pathsend) and answers for the rest: for the app the body has ended.
        expected = SLOTS if server.name == "granian-asgi" else SLOTS - 1
        meanwhile = server.free_becomes(subject, expected)
        whole = connection.read(len(FILE)) == FILE
    assert begun == 200
    assert meanwhile == expected
    assert whole is True
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on(SPECS)
def test_a_client_that_leaves_a_download_gives_its_slot_back(server: Server) -> None:
    """If the client disconnects in the middle of a file, the slot is released."""
    subject = server.new_subject("slots")

    with Connection(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as connection:
        connection.send_request("GET", "/file", api_key(subject))
        begun = connection.begun().status
    assert begun == 200
    assert server.free_becomes(subject, SLOTS) == SLOTS


@on_named("gunicorn-sync", "gunicorn-gthread", "gunicorn-preload")
def test_sendfile_is_not_lost(server: Server) -> None:
    """A file under the middleware still goes out by sendfile: Python reads not a byte of it, and it is closed."""
    subject = server.new_subject("slots")

    answer = server.request("GET", "/counted-file", subject)
    free = server.free_becomes(subject, SLOTS)
    assert answer.body == FILE
    assert (server.folder / "reads").read_text() == "0"
    assert free == SLOTS
