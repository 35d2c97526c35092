"""`Operator`: who is logged in to the operator's console, and the requests of that person."""

from dataclasses import dataclass

from awx_ratelimit.console.page_request import ConsoleRequest
from awx_ratelimit.errors import InvalidKeyRequest
from awx_ratelimit.keys.validation import readable_text
from awx_ratelimit.management.auth.tokens import MAX_OPERATOR_CHARACTERS, OPERATOR_PREFIX


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of the service, by name. It is not an Owner: neither is accepted for the other.

    Raises InvalidKeyRequest unless the name has 1 to 100 visible characters.
    """

    name: str

    def __post_init__(self) -> None:
        try:
            name = readable_text(self.name, field="name", max_characters=MAX_OPERATOR_CHARACTERS)
        except InvalidKeyRequest as error:
            raise InvalidKeyRequest(error.what, remedy=f"Operator: {error.remedy}", field="name") from error
        object.__setattr__(self, "name", name)

    @property
    def actor(self) -> str:
        """The name in the audit trail: ``operator:ann@example.com``. No customer has such a name."""
        return OPERATOR_PREFIX + self.name


class OperatorRequest(ConsoleRequest):
    """A request to the operator's console. The id of an account is in the query: it may have every visible character.

    Browsers would change some ids in a path, such as ``..``.
    """

    @property
    def operator(self) -> Operator:
        """The operator who is logged in."""
        assert isinstance(self.user, Operator)
        return self.user

    @property
    def account_id(self) -> str:
        """The id of the account that the request is about; empty if there is none."""
        return self.query.get("id", "")

    @property
    def form_context(self) -> tuple[str, ...]:
        """The operator and the account."""
        return (self.operator.name, self.account_id)
