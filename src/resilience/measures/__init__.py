"""Measures: one value per test point, of heat maps, predictions, explanations or networks, one module for each."""
