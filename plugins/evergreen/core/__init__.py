"""Pure decisions: standard library, pydantic and yaml. No outside system."""
