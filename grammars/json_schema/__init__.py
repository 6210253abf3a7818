"""JSON Schema (draft 2020-12 and draft 7) to GBNF, refusing by name whatever no grammar can enforce.

`document` resolves references, `keywords` knows every name, `merge` turns a schema into alternatives without
applicators, `shapes` turns each of those into one constraint per JSON type, `disjoint` proves that the options of
a oneOf exclude one another, `convert` writes the rules. `validate` is for afterwards: what a finished text still lacks.
"""

from grammars.json_schema.convert import to_gbnf
from grammars.json_schema.document import Draft
from grammars.json_schema.validate import validate

__all__ = ["Draft", "to_gbnf", "validate"]
