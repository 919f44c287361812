"""The models of users, their service tokens and failed logins, and dropped keys of issuers."""

from accounts.models.dropped_keys import DroppedKeys
from accounts.models.failed_logins import FailedLogins
from accounts.models.service_token import ServiceToken
from accounts.models.user import User, UserManager

__all__ = ["DroppedKeys", "FailedLogins", "ServiceToken", "User", "UserManager"]
