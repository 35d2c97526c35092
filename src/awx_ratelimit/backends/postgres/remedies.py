"""What an operator must change after an error of a database, and what to write."""

import re
from typing import Final

#: The class of an error, or its whole code, and a remedy.
_BY_CODE: Final = {
    "28": "correct user and password in the URL",
    "3D": "create the database, or correct its name in the URL",
    "42501": "allow its user to create a schema: GRANT CREATE ON DATABASE ... TO ... Or run `awx-ratelimit doctor` as "
    "a user who may, and write GRANT USAGE ON SCHEMA {schema} TO ..., and GRANT SELECT, INSERT, UPDATE, DELETE ON ALL "
    "TABLES IN SCHEMA {schema} TO ...",
    "42883": "its tables are of a newer version; upgrade awx_ratelimit. If somebody has dropped some functions, drop "
    "the schema, or write another prefix",
    "25006": "it is a read-only standby: name its primary, or all of them with &target_session_attrs=read-write",
}
_HBA: Final = "allow this host, user and database in pg_hba.conf"
_LOGIN: Final = "correct user and password in the URL, or create the user: CREATE ROLE ... LOGIN PASSWORD '...'"
#: Patterns of errors of libpq, which have no code, and remedies. The server does not say whether it knows a user whose
#: password is wrong.
_BY_TEXT: Final = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (
            'database "(?P<name>.*)" does not exist',
            'create it: CREATE DATABASE "{name}", or name another one in the URL: postgresql://user@host/database',
        ),
        (
            'role "(?P<name>.*)" does not exist',
            "create it: CREATE ROLE \"{name}\" LOGIN PASSWORD '...', or correct the user in the URL",
        ),
        ('role "(?P<name>.*)" is not permitted to log in', 'allow it: ALTER ROLE "{name}" LOGIN'),
        ("no password supplied", "write the password into the URL: postgresql://user:password@host/database"),
        ("authentication failed|no such user", _LOGIN),
        ("no such database", "create it, or correct its name in the URL"),
        ("no pg_hba.conf entry.*no encryption", f"{_HBA}, or use TLS with ?sslmode=require"),
        ("no pg_hba.conf entry|pg_hba.conf rejects", _HBA),
        ("server does not support SSL", "switch on TLS there, or write ?sslmode=prefer"),
        ("certificate verify failed", "name the authority of its certificate with ?sslrootcert=/path/to/ca.pem"),
        ("^invalid ", "correct this option in the URL"),
        ("does not exist", "create it, or correct its name in the URL"),
    )
)
#: What libpq and psycopg write before the error of the server. The name in our message has host and port, but not the
#: path of a socket, which matters if nobody listens there.
_PREFIXES: Final = re.compile(
    r"(connection (failed|is bad): )?"
    r'(connection to server (at "[^"]*"( \([^)]*\))?, port \d+|on socket "[^"]*"(?= failed: FATAL)) failed: )?'
    r"((FATAL|ERROR): +)?"
)


def short_text(error: BaseException) -> str:
    """The first line of what `error` says, without the address and the severity."""
    text = (str(error) or type(error).__name__).partition("\n")[0]
    return text[_PREFIXES.match(text).end() :] or text  # type: ignore[union-attr]  # every part may be missing


def remedy_for(code: str, text: str, schema: str) -> str:
    """What to change after an error with this `code` (empty: it has none) and `text`; empty if only waiting helps."""
    remedy = _BY_CODE.get(code) or _BY_CODE.get(code[:2]) if code else None
    if remedy:
        return remedy.format(schema=schema)
    for pattern, advice in () if code else _BY_TEXT:
        if found := pattern.search(text):
            # A quote in a name is doubled in SQL, but not in the error.
            return advice.format(**{part: text.replace('"', '""') for part, text in found.groupdict().items()})
    return ""
