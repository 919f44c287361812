"""The filter language: MongoDB-style JSON filters, made safe.

    filter    = { (logical | path) : … , … }
    logical   = "$and" | "$or" | "$nor" : [ filter, … ]      at least one filter
    path      = a field of the resource, or a path inside a JSON field (`parameters.a.b`), as in `paths.py`
    condition = value | { operator : operand, … }
    operator  = "$eq" "$ne" "$gt" "$gte" "$lt" "$lte" : value
              | "$in" "$nin" "$all"                    : [ value, … ]
              | "$exists" : boolean | "$size" : count | "$type" : type or [ type, … ]
              | "$mod" : [ divisor, remainder ]
              | "$regex" : pattern, with "$options" : some of "imsx"
              | "$not" : { operator : operand, … }
              | "$elemMatch" : { operator : operand, … } or filter

A filter has at most 100 clauses: each path, operator and value of `$all` counts as one. At most ten are
regular expressions, which never match a string of more than 1,000 characters.

Match documents cannot hold a path with an escaped name. `expressions.py` translates the conditions on it to `$expr`.
There `$mod` and `$elemMatch` are not allowed.

`fields.py` maps names to columns and values to their stored form. `language.py` checks a filter against
the grammar and translates it to a MongoDB match document.
"""

from core.filters.fields import FilterError
from core.filters.language import translate

__all__ = ["FilterError", "translate"]
