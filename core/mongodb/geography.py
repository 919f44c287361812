"""No geography: `django.contrib.gis` is never imported.

django-mongodb-backend tries to import its spatial fields, lookups and operations, and does without them if Django
raises `ImproperlyConfigured`, because the library GDAL is missing. To find that out, Django looks for twelve names of
the library, three times, by starting `ldconfig`, `gcc` and `ld` for each, in every process. There is no setting that
says no. Without the search, `django.setup()` takes 1.12 s of processor time instead of 1.50 s, and `manage.py check`
1.34 s instead of 1.78 s (medians of 20 in turns, with gcc, on two busy cores).
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured

NAME = "django.contrib.gis"


class WithoutGeography(MetaPathFinder):
    """Refuses the import of `django.contrib.gis`, as Django does without GDAL. Other modules are found as usual."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if fullname == NAME:
            raise ImproperlyConfigured(f"Drift Watch has no geography: {__name__} refuses {NAME}.")


sys.meta_path.insert(0, WithoutGeography())
