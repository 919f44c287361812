"""The stored models: users, and the service tokens that they make."""

from accounts.models.service_token import ServiceToken
from accounts.models.user import User, UserManager

__all__ = ["ServiceToken", "User", "UserManager"]
