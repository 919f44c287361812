"""The filter language: MongoDB-style JSON filters, made safe.

    filter    = { (logical | path) : … , … }
    logical   = "$and" | "$or" | "$nor" : [ filter, … ]      at least one filter
    path      = a field of the resource, or a path below a free one (`parameters.a.b`)
    condition = value | { operator : operand, … }
    operator  = "$eq" "$ne" "$gt" "$gte" "$lt" "$lte" : value
              | "$in" "$nin" "$all"                    : [ value, … ]
              | "$exists" : boolean | "$size" : count | "$type" : type or [ type, … ]
              | "$mod" : [ divisor, remainder ]
              | "$regex" : pattern, with "$options" : some of "imsx"
              | "$not" : { operator : operand, … }
              | "$elemMatch" : { operator : operand, … } or filter

A filter has at most 100 clauses: each path, operator and value of `$all` is one. Ten of them at most are
regular expressions, which find nothing in a string of more than 1,000 characters.

`fields.py` says what a field is called in the database and what its values look like;
`language.py` walks a filter, refuses what is not in the grammar, and returns the match document.
"""

from core.filters.fields import FilterError
from core.filters.language import translate

__all__ = ["FilterError", "translate"]
