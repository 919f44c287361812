"""A model admin that records its changes in the audit trail."""

from copy import copy
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import flatten_fieldsets
from django.core.exceptions import BadRequest, ObjectDoesNotExist
from django.db import IntegrityError
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from audit.models import Action
from audit.trail import record
from core import timestamps
from core.identity import identity_of_session
from core.mongodb.transaction import in_transaction
from core.portal.forms import VersionedForm
from core.portal.permissions import GuardedAdmin
from core.versions import VersionConflict


class AuditedAdmin(GuardedAdmin):
    """Records additions, changes and deletions, each in the transaction of the change.

    A change is saved over the version that its form has shown only, and writes no other fields than those of the form.
    """

    form = VersionedForm

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form. Report a conflict with a concurrent request. Refuse “save as new”."""
        if "_saveasnew" in request.POST:
            raise BadRequest
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            problem = "Nothing was saved. The name is taken. Choose another name."
        except VersionConflict:
            problem = (
                f"Someone else changed this {self.opts.verbose_name} after you opened it. Nothing was saved. "
                "The form shows the current values: make your changes again."
            )
        self.message_user(request, problem, messages.ERROR)
        return redirect(request.get_full_path())

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form under the stored name of the object, also if another name was refused."""
        context["subtitle"] = context["adminform"].form.stored_name
        return super().render_change_form(request, context, *args, **kwargs)

    @in_transaction
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        stored = read_again(obj) if change else None
        if stored and form.version_in(stored) != form.version:
            raise VersionConflict
        before = self.values_of(request, stored) if stored else {}
        after = self.values_of(request, obj)
        written = list(after)
        if hasattr(obj, "updated_at"):
            obj.updated_at = timestamps.now()
            written.append("updated_at")
        # A retry of the transaction finds the object as the first attempt has left it.
        obj._state.adding = not change
        obj.save(update_fields=written if change else None)
        action = Action.ADMIN_CHANGED if change else Action.ADMIN_ADDED
        record(action, identity_of_session(request), obj, before=before, after=after)

    @in_transaction
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        record(Action.ADMIN_DELETED, identity_of_session(request), obj, before=self.values_of(request, obj))
        # Django removes the id of the object that it deletes, and a retry needs the id.
        super().delete_model(request, copy(obj))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete objects one by one, so that each deletion is recorded."""
        for obj in queryset.iterator():
            self.delete_model(request, obj)

    def values_of(self, request: HttpRequest, obj: Model) -> dict[str, Any]:
        """Return the values of the editable fields."""
        names = flatten_fieldsets(self.get_fieldsets(request, obj))
        editable = [name for name in names if name not in self.get_readonly_fields(request, obj)]
        return {name: getattr(obj, name) for name in editable}


def read_again(obj: Model) -> Model:
    """Return the object as it is stored now. Raises `Http404` if it is deleted."""
    stored = copy(obj)
    try:
        stored.refresh_from_db()
    except ObjectDoesNotExist as error:
        raise Http404 from error
    return stored
