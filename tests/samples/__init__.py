"""A payload for every event of the catalogue, written after the provider's contract."""
