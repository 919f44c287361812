"""The access rule at the door of every model of the admin portal."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from rest_framework.exceptions import ValidationError as InvalidSearch

from core.api.errors import invalid
from core.api.search import bounded_time
from core.identity import Identity, Level, Requirement, identity_of_session
from core.portal.changelists import BoundedChangeList, BoundedPaginator
from core.portal.filters import parameters_of

# Each of them by itself, in a transaction that the audit trail is a part of.
CHANGED_AT_ONCE = 500
ADVICE = "choose fewer days, an experiment, or other filters"


class GuardedAdmin(admin.ModelAdmin):
    """Shows and changes what the identity of the session may see and change, on pages that take a bounded time.

    `required_levels` says for each deed ("view", "add", "change", "delete") what it asks: a
    `Requirement`, or a `Level` on the experiment of the object, which is for staff; None stands for what
    nobody does here. Where it is a level, `gives`, `has_anywhere` and `get_queryset` know of experiments.
    """

    required_levels: ClassVar[Mapping[str, Requirement | Level | None]]
    list_prefetch_related: tuple[str, ...] = ()
    # By action, where it is not `CHANGED_AT_ONCE`.
    taken_at_once: ClassVar[Mapping[str, int]] = {}
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200

    def gives(self, obj: Any, identity: Identity, level: Level) -> bool:
        """Whether the identity has the level on the experiment of an object."""
        raise NotImplementedError

    def has_anywhere(self, level: Level, identity: Identity) -> bool:
        """Whether the identity holds the level on any experiment."""
        raise NotImplementedError

    def may(self, deed: str, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the session may do this to the object; without one, whether there is one to do it to."""
        identity, required = identity_of_session(request), self.required_levels[deed]
        if not isinstance(required, Level):
            return required is not None and identity.has(required)
        if not identity.has(Requirement.STAFF):
            return False
        if obj is None:
            return required is Level.READ or identity.is_admin or self.has_anywhere(required, identity)
        return self.gives(obj, identity, required)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may("view", request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may("view", request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may("add", request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may("change", request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may("delete", request, obj)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Who changed it here is for those who may change it."""
        if not self.has_change_permission(request, self.get_object(request, unquote(object_id))):
            raise PermissionDenied("The history is for those who may change it.")
        return super().history_view(request, object_id, extra_context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        # The class was made for this one page.
        form.request = request
        return form

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return BoundedChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """As a page of its own where MongoDB would take too long, with what to do about it."""
        try:
            with bounded_time(ADVICE):
                title = str(self.opts.verbose_name_plural).capitalize()
                return super().changelist_view(request, {"title": title, **(extra_context or {})})
        except InvalidSearch as error:
            return render(request, "refusal.html", invalid(error).data, status=422)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        """One on all that match takes no more than one request can do, and says so. Without ids nothing is done."""
        if request.POST.get("select_across") == "1":
            at_most = self.taken_at_once.get(request.POST.get("action", ""), CHANGED_AT_ONCE)
            chosen = list(queryset.values_list("pk", flat=True)[: at_most + 1])
            if len(chosen) > at_most:
                said = f"These are the first {at_most:,} of all that match: one request takes no more."
                self.message_user(request, said, messages.WARNING)
            queryset = self.get_queryset(request).filter(pk__in=chosen[:at_most])
        elif not all(map(self.is_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            self.message_user(request, "Nothing was done: select the rows again.", messages.ERROR)
            return redirect(request.get_full_path())
        return super().response_action(request, queryset, *args)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """None, which is told on the page, also for an id that no object can have."""
        return super().get_object(request, object_id, from_field) if self.is_id(object_id) else None

    def is_id(self, text: str) -> bool:
        try:
            self.opts.pk.to_python(text)
        except (ValueError, ValidationError):
            return False
        return True

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """What a filter here offers. Any other would be a query of the client's own making."""
        return any(lookup in parameters_of(each) for each in self.get_list_filter(request))
