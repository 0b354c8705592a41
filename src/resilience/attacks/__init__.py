"""Attacks by the names that a config gives them: along gradients, without gradients, and made elsewhere."""
