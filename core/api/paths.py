"""Serializer fields for paths below a JSON field."""

from typing import Any

from rest_framework import serializers

from core.api.json_input import MAX_DEPTH
from core.api.serializers import StrictText
from core.filters import paths


class ParameterPath(StrictText):
    """A path below `parameters.`, written as in a filter, or one of the names in `others`."""

    default_error_messages = {
        "name": "Unknown name. Names: {names}, a path such as parameters.p_value.",
        "path": "Write the path of a parameter, such as parameters.p_value.",
        "depth": f"No parameter is nested deeper than {MAX_DEPTH} levels.",
    }
    others: tuple[str, ...] = ()

    def to_internal_value(self, data: Any) -> str:
        name = super().to_internal_value(data)
        if name in self.others:
            return name
        if not name.startswith("parameters."):
            self.fail("name" if self.others else "path", names=", ".join(self.others))
        try:
            names = paths.split(name)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from error
        if len(names) > MAX_DEPTH + 1:
            self.fail("depth")
        return name
