"""Every error that this library raises on purpose.

AwxRateLimitError
├── InvalidLimit          a rate, a plan or a plan table that cannot be what it says (also a ValueError)
├── ImpossibleClaim       a cost that no waiting will ever satisfy
├── BackendUnavailable    the backend could not decide
│   ├── BackendMisconfigured   and will not before somebody changes how it is set up
│   └── StateDamaged           of one subject, of which it holds what cannot be read
└── KeyRefused            a request whose API key is not accepted; carries the code of the answer
"""


class AwxRateLimitError(Exception):
    """The root: catch it to catch all that this library raises on purpose."""


class InvalidLimit(AwxRateLimitError, ValueError):
    """A limit or a table is wrong; the message names the place and what is allowed there."""


class ImpossibleClaim(AwxRateLimitError):
    """The cost is above a rate's burst: refused before anything is asked or charged, for waiting cannot help."""


class BackendUnavailable(AwxRateLimitError):
    """The backend gave no decision; nothing is known to have been charged."""


class BackendMisconfigured(BackendUnavailable):
    """The backend cannot decide as it is set up; the message says what to change."""


class StateDamaged(BackendUnavailable):
    """What the backend holds of one subject cannot be read; of all others it decides. The message says what to do."""


class KeyRefused(AwxRateLimitError):
    """An identifier's way to say 'this key is not accepted'.

    `code` is one of the 401 codes of the wire contract, for example ``invalid_api_key``. The text of the key is
    never part of the error.
    """

    def __init__(self, code: str = "invalid_api_key") -> None:
        super().__init__(code)
        self.code = code
