"""Events: from a stored delivery to changed records (claim, parse, handle, settle)."""
