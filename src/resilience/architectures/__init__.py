"""Networks by the names that a config gives them."""
