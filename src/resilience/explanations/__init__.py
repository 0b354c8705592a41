"""Explanations of a network's output, how much each pixel counts: functions that explain one draw of the weights."""
