"""URLs of login and logout."""

from django.urls import path

from accounts import login
from core.api.throttling import limit_logins

urlpatterns = [
    path("login", limit_logins(login.Login.as_view()), name="login"),
    path("login/provider", login.with_failure_pages(login.ProviderLogin.as_view()), name="login-provider"),
    path("login/callback", login.with_failure_pages(login.ProviderCallback.as_view()), name="login-callback"),
    path("logout", login.logout, name="logout"),
]
