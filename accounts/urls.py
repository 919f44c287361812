"""URLs of login and logout."""

from django.urls import path

from accounts import login
from accounts.lockout import limit_logins
from core.api.throttling import limit_provider_logins

provider_login = login.with_failure_pages(login.ProviderLogin.as_view())
provider_callback = login.forgets_login(login.with_failure_pages(login.ProviderCallback.as_view()))

urlpatterns = [
    path("login", limit_logins(login.Login.as_view()), name="login"),
    path("login/provider", limit_provider_logins(provider_login, "login at the provider from"), name="login-provider"),
    path(
        "login/callback",
        limit_provider_logins(provider_callback, "return from the provider to", login.completes_renewal),
        name="login-callback",
    ),
    path("logout", login.logout, name="logout"),
]
