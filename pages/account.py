"""The pages of the caller's account and access tokens."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.contrib import messages
from django.db import IntegrityError
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect
from rest_framework.request import Request

from accounts.models.service_token import delegable
from accounts.token_serializers import IssuedTokenSerializer, NewTokenSerializer
from accounts.token_views import TokenView
from core.api.errors import sentences
from core.identity import Level, Requirement
from experiments.access import granted_to
from experiments.models import Experiment
from pages.page import Page

MAX_SHOWN = 100
# The labels of the form's controls, by field.
LABELS = {
    "name": "Name",
    "days": "Expires after (days)",
    "level": "Highest level",
    "experiments": "Experiments",
    "entitlements": "Groups",
    "refresh": "Short-lived",
}


class AccountPage(Page):
    """The caller's account and entitlements."""

    resource = "account-page"
    required_levels = {"retrieve": Requirement.REGISTERED}

    def retrieve(self, request: Request) -> HttpResponse:
        return self.show("account.html", entitlements=sorted(self.identity.entitlements))


class TokensPage(Page, TokenView):
    """The caller's access tokens, with the same requirements as in the API."""

    resource = "tokens-page"
    missing = "token"

    def list(self, request: Request) -> HttpResponse:  # type: ignore[override]
        """List the tokens, with the form for a new one."""
        return self.show_tokens(new_token(self.identity.entitlements))

    def create(self, request: Request) -> HttpResponse:
        """Create a token and show its secret, which no later page can show."""
        form = self.form
        serializer = NewTokenSerializer(data=token_in(form), context=self.get_serializer_context())
        if not serializer.is_valid():
            return self.show_tokens(token_in(form), list(problems_of(serializer.errors, form)), 422)
        try:
            token = serializer.save()
        except IntegrityError:
            return self.show_tokens(token_in(form), [self.conflict], 409)
        return self.show(
            "token.html",
            201,
            issued=IssuedTokenSerializer(token).data,
            token=token,
            address=request.build_absolute_uri("/api/v1/user/self"),
            refresh_address=request.build_absolute_uri("/api/v1/token/refresh"),
        )

    def destroy(self, request: Request, token_id: str) -> HttpResponse:
        """Revoke a token."""
        token = self.revoke_token()
        messages.success(request._request, f"Token “{token}” was revoked. Code that uses it stops working.")
        return redirect("tokens")

    def show_tokens(self, typed: dict[str, Any], problems: Collection[str] = (), status: int = 200) -> HttpResponse:
        """Render the caller's tokens, and the form for a new one with its values and problems."""
        reached = Experiment.objects.without_large_fields().matching(granted_to(self.identity))
        reached = reached.order_by("-created_at", "-id")[:MAX_SHOWN]
        shown = [str(experiment.pk) for experiment in reached]
        return self.show(
            "tokens.html",
            status,
            tokens=self.get_queryset()[:MAX_SHOWN],
            experiments=reached,
            others=" ".join(each for each in typed["experiments"] if each not in shown),
            entitlements=sorted(delegable(self.identity.entitlements)),
            levels=Level.values,
            typed=typed,
            problems=problems,
            most=MAX_SHOWN,
        )


def new_token(entitlements: Iterable[str]) -> dict[str, Any]:
    """The values of the form at first: 30 days, level Edit, and all entitlements that a token may carry."""
    return token_in(QueryDict("days=30")) | {"level": Level.EDIT, "entitlements": sorted(delegable(entitlements))}


def experiments_in(form: QueryDict) -> list[str]:
    """The experiment ids in the form: ticked boxes and typed ids."""
    return " ".join(form.getlist("experiments")).split()


def problems_of(errors: Any, form: QueryDict) -> Iterator[str]:
    """The errors of the API request as sentences, each with the label of its control."""
    for path, sentence in sentences(errors):
        field, _, place = path.partition(".")
        if field == "experiments" and place:
            typed = experiments_in(form)[int(place)]
            yield f'Add by id: "{typed[:50]}" is not an experiment\'s id. Copy it from the address of the experiment.'
        else:
            yield f"{LABELS.get(field, field)}: {sentence}"


def token_in(form: QueryDict) -> dict[str, Any]:
    """Convert the form to the body of an API request."""
    days = form.get("days", "")
    return {
        "name": form.get("name", ""),
        "days": int(days) if re.fullmatch(r"[0-9]{1,9}", days) else days,
        "level": form.get("level", ""),
        "experiments": experiments_in(form),
        "entitlements": form.getlist("entitlements"),
        "refresh": "refresh" in form,
    }
