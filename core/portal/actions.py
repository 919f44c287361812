"""Actions on the selected objects of every changelist of the admin portal."""

from typing import Any

from django.contrib import admin
from django.contrib.admin import actions
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse


@admin.action(permissions=["delete"], description="Delete the selected %(verbose_name_plural)s")
def delete_selected(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
    """Delete the selected objects as Django's action does, with a title that asks for a confirmation."""
    page: TemplateResponse | None = actions.delete_selected(model_admin, request, queryset)
    if page and page.context_data and not page.context_data["perms_lacking"]:
        title = f"Delete the selected {model_admin.opts.verbose_name_plural}?"
        page.context_data |= {"title": title, "deletion_note": model_admin.deletion_note}
    return page
