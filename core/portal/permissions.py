"""The permission check of every model in the admin portal."""

from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from rest_framework.exceptions import ValidationError as InvalidSearch

from core.api.error_pages import refusal_page
from core.api.errors import invalid
from core.api.search import bounded_time
from core.identity import Identity, Level, Requirement, identity_of_session
from core.portal.changelists import BoundedChangeList, BoundedPaginator
from core.portal.filters import parameters_of
from core.portal.forms import ListedIdWidget

# The largest number of objects that one request changes, each in its own transaction with its audit event.
MAX_CHANGED = 500
ADVICE = "choose fewer days, an experiment or other filters"


class GuardedAdmin(admin.ModelAdmin):
    """A model admin that applies the permissions of the session's identity, with bounded query times.

    `required_levels` maps each action ("view", "add", "change", "delete") to a `Requirement`, or to the `Level`
    that staff need on the experiment of the object. None forbids the action to everyone. Subclasses with
    levels implement `gives` and `has_anywhere`, and limit `get_queryset`.
    """

    required_levels: ClassVar[Mapping[str, Requirement | Level | None]]
    list_prefetch_related: tuple[str | Prefetch, ...] = ()
    list_deferred: tuple[str, ...] = ()
    # The sentence of the page that asks to confirm a deletion.
    deletion_note = "This cannot be undone."
    # Limits of actions that differ from `MAX_CHANGED`.
    action_limits: ClassVar[Mapping[str, int]] = {}
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 200

    def gives(self, obj: Any, identity: Identity, level: Level) -> bool:
        """Return whether the identity has the level on the experiment of an object."""
        raise NotImplementedError

    def has_anywhere(self, identity: Identity, level: Level) -> bool:
        """Return whether the identity has the level on any experiment."""
        raise NotImplementedError

    def may(self, action: str, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the session may perform the action on the object, or on any object if None is given."""
        identity, required = identity_of_session(request), self.required_levels[action]
        if not isinstance(required, Level):
            return required is not None and identity.has(required)
        if not identity.has(Requirement.STAFF):
            return False
        if obj is None:
            return required is Level.READ or identity.is_admin or self.has_anywhere(identity, required)
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
        """Show the history of an object to users who may change it."""
        if not self.has_change_permission(request, self.get_object(request, unquote(object_id))):
            raise PermissionDenied("You need the right to change this object to see its history.")
        return super().history_view(request, object_id, extra_context)

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> HttpResponse:
        if not context["perms_lacking"]:
            context |= {"title": f"Delete {self.opts.verbose_name}?", "deletion_note": self.deletion_note}
        return super().render_delete_form(request, context)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        # The form class is created for this request, and can therefore hold the request.
        form.request = request
        return form

    def get_field_queryset(self, db: str | None, db_field: Any, request: HttpRequest) -> QuerySet[Any]:
        """Let a form choose among the objects that the portal lists for this user, and refuse the others as unknown."""
        return self.admin_site.get_model_admin(db_field.remote_field.model).get_queryset(request)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.raw_id_fields:
            kwargs["widget"] = ListedIdWidget(db_field.remote_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[BoundedChangeList]:
        return BoundedChangeList

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Show the changelist, or an error page with advice if MongoDB exceeds the time limit."""
        try:
            with bounded_time(ADVICE):
                title = str(self.opts.verbose_name_plural).capitalize()
                return super().changelist_view(request, {"title": title, **(extra_context or {})})
        except InvalidSearch as error:
            return refusal_page(request, invalid(error).data, error)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        """Run an action. With “select all”, limit it to the first objects, with a warning. Refuse malformed ids."""
        if request.POST.get("select_across") == "1":
            at_most = self.action_limits.get(request.POST.get("action", ""), MAX_CHANGED)
            chosen = list(queryset.values_list("pk", flat=True)[: at_most + 1])
            if len(chosen) > at_most:
                warning = (
                    f"The action took only the first {at_most:,} objects, the most for one action. "
                    "Repeat the action for the other objects."
                )
                self.message_user(request, warning, messages.WARNING)
            queryset = self.get_queryset(request).filter(pk__in=chosen[:at_most])
        elif not all(map(self.is_id, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            self.message_user(request, "Nothing was done. Select the rows again.", messages.ERROR)
            return redirect(request.get_full_path())
        return super().response_action(request, queryset, *args)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the object, or None if the id is unknown or malformed."""
        return super().get_object(request, object_id, from_field) if self.is_id(object_id) else None

    def is_id(self, text: str) -> bool:
        try:
            self.opts.pk.to_python(text)
        except (ValueError, ValidationError):
            return False
        return True

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """Allow only the lookups of this page's filters, so that clients cannot build their own queries."""
        return any(lookup in parameters_of(each) for each in self.get_list_filter(request))
