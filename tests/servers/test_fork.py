"""Workers that are forked from a process that has already loaded the app (gunicorn --preload)."""

from contextlib import ExitStack

from tests.servers.harness import WSGI, Server, on, on_named
from tests.servers.limits import IMPORT_SUBJECT, SLOTS
from tests.servers.test_streams import Stream

# Slots taken while the app is imported belong to the importing process until a test releases them.


@on_named("gunicorn-preload", "gunicorn-gevent-preload")
def test_a_worker_holds_nothing_of_its_parent(server: Server) -> None:
    """A slot that the parent took before the fork is free in the worker, which can take exactly all slots."""
    before = server.free(IMPORT_SUBJECT)

    with ExitStack() as stack:
        seen = [stack.enter_context(Stream(server, IMPORT_SUBJECT)).first for _ in range(SLOTS)]
        refused = server.request("GET", "/plain", IMPORT_SUBJECT).status
    after = server.free_becomes(IMPORT_SUBJECT, SLOTS)
    assert before == SLOTS
    assert seen == [b"2\n", b"1\n", b"0\n"]
    assert refused == 429
    assert after == SLOTS


@on(WSGI, everywhere=True)
def test_a_slot_of_the_parent_given_back_in_the_worker_frees_nothing(server: Server) -> None:
    """Releasing the parent's lease in a forked worker frees no slot."""
    before = server.free(IMPORT_SUBJECT)

    released = [server.request("POST", "/release-import").status for _ in range(2)]
    expected = SLOTS if server.name.endswith("preload") else SLOTS - 1
    assert before == expected
    assert released == [200, 200]
    assert server.free(IMPORT_SUBJECT) == SLOTS
