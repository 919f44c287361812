"""The import of the predecessor's database. docs/legacy.md describes it for operators."""
