"""Forms of the admin portal: saved over the version that was shown, and validated by the API's serializers."""

import json
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget, ForeignKeyRawIdWidget
from django.core.exceptions import ValidationError as InvalidId
from django.db.models import Model
from django.http import HttpRequest
from django_mongodb_backend.forms import SimpleArrayField
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import ModelSerializer

from core.api.errors import sentences
from core.api.json_input import refuse_unstorable, text_problem
from core.identity import identity_of_session
from core.json_text import parsed_text
from core.tags import tags_of, written_tags
from core.versions import version_of_fields

# The name of the hidden input, in templates/admin/change_form.html.
VERSION = "_version"


class Decoder(json.JSONDecoder):
    """Parses JSON with the rules of the API."""

    def decode(self, text: str, *args: Any) -> Any:
        try:
            return parsed_text(text)
        except ValidationError as error:
            _, sentence = next(sentences(error.detail))
            raise json.JSONDecodeError(sentence, text, 0) from error


class JSONText(forms.JSONField):
    """JSON in a form. A refusal says what is wrong, and where."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "decoder": Decoder})

    def to_python(self, value: Any) -> Any:
        try:
            # `json.loads` refuses a byte order mark, which the API ignores.
            return super().to_python(value.removeprefix("\ufeff") if isinstance(value, str) else value)
        except forms.ValidationError as error:
            mistake = error.__context__
            raise forms.ValidationError(mistake.msg if isinstance(mistake, json.JSONDecodeError) else error) from error


class LinesWidget(AdminTextareaWidget):
    """A text of several lines. Browsers send CR LF at their ends; the text keeps the LF of the API."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        value = super().value_from_datadict(data, files, name)
        return value.replace("\r\n", "\n") if isinstance(value, str) else value


class TagsField(SimpleArrayField):
    """Tags in one text, separated by commas."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "strip": False, "help_text": "Separate with commas"})
        self.base_field.strip = False

    def prepare_value(self, value: Any) -> Any:
        return written_tags(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        try:
            return value if isinstance(value, list) else tags_of(value or "")
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self, value: Any) -> list[str]:
        try:
            return super().clean(value)
        except forms.ValidationError as error:
            problems = [sentence for tag in self.to_python(value) if (sentence := self.problem_of(tag))]
            raise forms.ValidationError(problems or error) from error

    def problem_of(self, tag: str) -> str | None:
        longest = self.base_field.max_length
        if problem := text_problem(tag):
            return problem
        return f"Tag “{tag}” has more than {longest} characters." if len(tag) > longest else None


class ListedIdWidget(ForeignKeyRawIdWidget):
    """Shows the name beside an id only if its object is a choice of the field. Django's widget names any object."""

    # Set by the field.
    choices: Any

    def label_and_url_for_value(self, value: Any) -> tuple[str, str]:
        try:
            is_choice = self.choices.queryset.filter(pk=value).exists()
        except (ValueError, InvalidId):
            is_choice = False
        return super().label_and_url_for_value(value) if is_choice else ("", "")


def label_parts(field: forms.SplitDateTimeField) -> None:
    """Name the two inputs of a time for screen readers. Django writes the words beside them, but not as labels."""
    assert isinstance(field.widget, forms.MultiWidget)
    for part, widget in zip(("date", "time"), field.widget.widgets, strict=True):
        widget.attrs["aria-label"] = f"{field.label}: {part}"


class VersionedForm(forms.ModelForm):
    """A model form that holds the version of the object that it shows, and refuses to save over another version.

    `version` and `stored_name` are those of the object as the request has read it; empty for a new object.
    """

    # The request of the page with the form.
    request: ClassVar[HttpRequest]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        is_new = self.instance._state.adding
        self.version = "" if is_new else self.version_in(self.instance)
        self.stored_name = "" if is_new else str(self.instance)
        for field in self.fields.values():
            if isinstance(field, forms.SplitDateTimeField):
                label_parts(field)

    def version_in(self, instance: Model) -> str:
        """Return the version of the fields of this form in an object."""
        return version_of_fields(instance, self.fields)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.data.get(VERSION, "") != self.version:
            self.add_error(
                None,
                f"Someone else changed this {self.instance._meta.verbose_name} after you opened it. Nothing was saved. "
                "Save again to replace those changes, or open the page again to discard yours.",
            )
        return cleaned


class ApiForm(VersionedForm):
    """A form that the API's serializer validates, so that the rules are stated once."""

    serializer: ClassVar[type[ModelSerializer[Any]]]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for field in self.fields.values():
            if isinstance(field, forms.CharField):
                field.strip = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        context = {"request": self.api_request()}
        stored = None if self.instance._state.adding else self.instance
        names = self.serializer(context=context).fields.keys() & cleaned.keys()
        data = {name: self.sent(name) for name in names if self.is_sent(name)}
        checked = self.serializer(stored, data=data, partial=True, context=context)
        try:
            refuse_unstorable(data)
            checked.is_valid(raise_exception=True)
        except ValidationError as error:
            for path, sentence in sentences(error.detail):
                name, _, part = path.partition(".")
                self.add_error(name if name in self.fields else None, self.error_prefix(data, name, part) + sentence)
            return cleaned
        return cleaned | checked.validated_data

    def api_request(self) -> Request:
        """Return the page's request as an API request, with the identity of the session."""
        request = Request(self.request)
        request.user, request.auth = self.request.user, identity_of_session(self.request)
        return request

    def error_prefix(self, data: dict[str, Any], name: str, part: str) -> str:
        """Return the beginning of a message about a part of a field, such as an entry of a list."""
        return ""

    def is_sent(self, name: str) -> bool:
        """Return whether the serializer receives this field. Others keep their values."""
        return True

    def sent(self, name: str) -> Any:
        """Return the value of a field in the form of the API. JSON without text is an empty object."""
        is_blank = isinstance(self.fields[name], forms.JSONField) and not (self[name].data or "").strip()
        return {} if is_blank else self.cleaned_data[name]
