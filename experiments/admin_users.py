"""The parts of a user's page in the portal that need experiments: what the user may access and why, and the tokens."""

import uuid
from dataclasses import dataclass

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin import UserAdmin, UserPart
from accounts.models import ServiceToken, User
from core.identity import Identity, identity_of_session
from core.portal.changelists import COUNTED_AT_MOST
from core.totals import Total
from experiments.models import Experiment
from experiments.sharing import overview_of

MAX_TOKENS = 50
# The most experiments of a token to name.
MAX_NAMED = 5


@dataclass(frozen=True)
class TokenRow:
    """A token with the first experiments that it is limited to, and the number of the others.

    Experiments that the viewer may not read, and deleted ones, count as others.
    """

    token: ServiceToken
    experiments: list[Experiment]
    others: int


def access_part(request: HttpRequest, user: User) -> UserPart:
    """The access of the user with its reasons, as far as the viewer may see it."""
    return UserPart("admin/experiments/user_access.html", overview_of(user, identity_of_session(request)))


def tokens_part(request: HttpRequest, user: User) -> UserPart | None:
    """The newest tokens of the user, for those who may see tokens."""
    if not admin.site.get_model_admin(ServiceToken).has_view_permission(request):
        return None
    tokens = ServiceToken.objects.filter(user=user)
    content = {
        "user": user,
        "rows": rows_of(list(tokens[:MAX_TOKENS]), identity_of_session(request)),
        "total": Total.up_to(COUNTED_AT_MOST, tokens.count_up_to(COUNTED_AT_MOST + 1)),
    }
    return UserPart("admin/experiments/user_tokens.html", content)


def rows_of(tokens: list[ServiceToken], viewer: Identity) -> list[TokenRow]:
    """The rows of the table. Takes one query."""
    ids = {pk for token in tokens for pk in token.experiments[:MAX_NAMED]}
    visible = Experiment.objects.visible_to(viewer).matching({"_id": {"$in": [uuid.UUID(pk).hex for pk in ids]}})
    names = {str(each.pk): each for each in visible.only("name")}
    rows = []
    for token in tokens:
        named = [names[pk] for pk in token.experiments[:MAX_NAMED] if pk in names]
        rows.append(TokenRow(token, named, len(token.experiments) - len(named)))
    return rows


UserAdmin.parts += [access_part, tokens_part]
