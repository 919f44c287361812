"""The reasons why a token or a login is refused, or cannot be checked."""

from core.printable import encodable


class WithReason(Exception):
    """A failure whose reason may quote a client or a provider, and goes to responses, pages and the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(encodable(reason))


class InvalidToken(WithReason):
    """The token is refused. The message gives the reason and is safe to show."""


class PermanentRefusal(InvalidToken):
    """The token is refused, and a new one would be refused too. The message has advice."""


class IssuerUnavailable(WithReason):
    """A trusted issuer did not provide what the check of a token needs. A retry may succeed."""
