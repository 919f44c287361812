"""The permission list of an experiment in the admin portal, as a form that names people by email."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from django import forms
from django.template.loader import render_to_string
from django_mongodb_backend.forms.fields.embedded_model_array import (
    EmbeddedModelArrayBoundField,
    EmbeddedModelArrayField,
    EmbeddedModelArrayWidget,
)

from core.identity import Level, identity_of_session, is_entitlement
from core.portal.forms import ApiForm
from experiments.models import TOO_MANY_PERMISSIONS, NoManager, Permission, completed, max_permissions, with_manager
from experiments.serializers import ExperimentSerializer, entities_of
from experiments.sharing import Preview, holders, preview_of
from experiments.views import ExperimentView

KEEP_EDITING = "_edit"
NOT_SAVED = "Not saved yet."
CHOOSE_LEVEL = f"Choose {Level.READ}, {Level.EDIT} or {Level.MANAGE}."


class PermissionsWidget(EmbeddedModelArrayWidget):
    """Tells an empty list from a form without the list: Django keeps the stored value if a form leaves a field out."""

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return f"{name}-TOTAL_FORMS" not in data


class PermissionsField(EmbeddedModelArrayField):
    """The permission list as a field, with `suggestions` of entitlements."""

    suggestions: Sequence[str] = ()
    formset: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.widget = PermissionsWidget()
        # Django compares a field whose default is callable with hidden inputs, which this form does not have.
        self.show_hidden_initial = False
        rows = self.formset.form.base_fields
        rows["entity"].error_messages["required"] = "Name a person or group."
        rows["level"].error_messages |= dict.fromkeys(("required", "invalid_choice"), CHOOSE_LEVEL)

    def limit_to(self, most: int) -> None:
        """Set the most entries. A form may claim any number: more are not read, and not shown again."""
        messages = {
            **self.formset.default_error_messages,
            "missing_management_form": "The form was incomplete. Open the page again.",
            "too_many_forms": TOO_MANY_PERMISSIONS.format(most),
        }
        limits = {"max_num": most, "absolute_max": most + 1, "default_error_messages": messages}
        self.formset = type(self.formset.__name__, (self.formset,), limits)

    def clean(self, value: Any) -> list[Permission]:
        """Return the entries. The messages of a refusal name the entries that are wrong."""
        try:
            return super().clean(value)
        except forms.ValidationError as error:
            formset = self.formset(value, prefix=self.prefix_override or self.prefix)
            problems = [
                f"{(row['entity'].value() or '').strip() or 'An entry without a name'}: {message}"
                for row in formset
                if not row["DELETE"].value()
                for messages in row.errors.values()
                for message in messages
            ]
            raise forms.ValidationError(problems or error) from error

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> EmbeddedModelArrayBoundField:
        super().get_bound_field(form, field_name)
        return PermissionRows(form, self, field_name, self.prefix_override)


class PermissionRows(EmbeddedModelArrayBoundField):
    """A row of the form for each entry."""

    def __str__(self) -> str:
        known = holders(str(row["entity"].value()) for row in self.formset if row["entity"].value())
        rows = [(row, known.get(row["entity"].value())) for row in self.formset]
        context = {"rows": rows, "formset": self.formset, "suggestions": self.field.suggestions}
        return render_to_string("admin/experiments/permissions.html", context)


class ExperimentForm(ApiForm):
    """The form of an experiment. A preview of its permissions is shown before they are saved."""

    serializer = ExperimentSerializer

    class Meta:
        error_messages: ClassVar = {"name": {"unique": ExperimentView.conflict}}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        field = self.fields.get("permissions")
        if isinstance(field, PermissionsField):
            named = identity_of_session(self.request).entities | entities_of(self.instance)
            field.limit_to(max_permissions(self.instance))
            field.suggestions = sorted(filter(is_entitlement, named))

    def sent(self, name: str) -> Any:
        if name != "permissions":
            return super().sent(name)
        return [{"entity": entry.entity, "level": entry.level} for entry in self.cleaned_data[name]]

    def error_prefix(self, data: dict[str, Any], name: str, part: str) -> str:
        number = part.partition(".")[0]
        return f"{data[name][int(number)]['entity']}: " if name == "permissions" and number.isdecimal() else ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        identity = identity_of_session(self.request)
        if "permissions" in cleaned:
            complete = with_manager if self.instance._state.adding else completed
            # `Experiment.clean` refuses a list without a manager, unless the stored list has none either.
            with suppress(NoManager):
                cleaned["permissions"] = complete(cleaned["permissions"], identity)
        if KEEP_EDITING in self.data:
            self.add_error(None, NOT_SAVED)
        return cleaned

    def preview(self) -> Preview:
        """The changes of access that saving the form would make."""
        stored = type(self.instance).objects.get(pk=self.instance.pk)
        return preview_of(stored, self.cleaned_data["permissions"], self.cleaned_data["public"])
