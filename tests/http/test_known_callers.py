"""What the commands of operators know of a caller by its name alone."""

from pathlib import Path

import pytest
from tests.key_stores import new_file
from tests.keys.store_probes import statements

from awx_ratelimit import Gate, Limiter, MemoryBackend, PlanTable, StoredKeys
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.http.known_callers import known_caller, stored_caller
from awx_ratelimit.keys import KeyFormat, KeyService, KeyStore, KeyVerifier


@pytest.mark.parametrize(("account", "look_ups"), [(None, 1), ("acme", 2)])
def test_look_ups_of_a_key(tmp_path: Path, account: str | None, look_ups: int) -> None:
    """A key is looked up once, and its account only if one is named."""
    store = KeyStore.open(new_file(tmp_path))
    service = KeyService(store)
    service.accounts.create("acme", plan="starter")
    key = service.create("acme", "n").key.id

    with statements(store) as sent:
        caller = stored_caller(service, key, account)
    store.close()

    assert caller is not None
    assert (caller.subject, caller.plan, caller.account) == (key, "starter", "acme")
    assert len(sent) == look_ups


def test_text_of_a_key(tmp_path: Path) -> None:
    """The text of a key is refused as a subject, also if keys have a prefix of the app's own."""
    keys = KeyFormat("acme_")
    verifier = KeyVerifier(KeyStore.open(new_file(tmp_path)), keys=keys)
    gate = Gate(Limiter(MemoryBackend()), plans=PlanTable.default(), identify=StoredKeys(verifier))

    with pytest.raises(InvalidKeyRequest, match=r"^subject: contains an API key; write the subject of its caller"):
        known_caller(gate.parts, keys.new().reveal())
    verifier.close()
    verifier.store.close()
