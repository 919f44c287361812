"""Forms of the admin portal, which take what the API takes."""

from typing import Any, ClassVar

from django import forms
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.serializers import ModelSerializer

from accounts.sessions import SessionAuthentication
from driftwatch.api.errors import sentences


class ApiForm(forms.ModelForm):
    """Has the API's serializer check what was filled in, so that each rule stands there alone."""

    serializer: ClassVar[type[ModelSerializer[Any]]]
    # Of the page with the form.
    request: ClassVar[HttpRequest]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        context = {"request": Request(self.request, authenticators=[SessionAuthentication()])}
        stored = None if self.instance._state.adding else self.instance
        names = self.serializer(context=context).fields.keys() & cleaned.keys()
        data = {name: self.sent(name) for name in names}
        checked = self.serializer(stored, data=data, partial=True, context=context)
        if checked.is_valid():
            return cleaned | checked.validated_data
        for name, problems in checked.errors.items():
            self.add_error(name if name in self.fields else None, [sentence for _, sentence in sentences(problems)])
        return cleaned

    def sent(self, name: str) -> Any:
        """The value of a field as a client of the API would send it."""
        return self.cleaned_data[name]
