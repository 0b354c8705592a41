"""Datasets by the names that a config gives them: bundled, published, and of one's own."""
