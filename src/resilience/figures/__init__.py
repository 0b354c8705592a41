"""Figures in the paper's form, drawn from tables and heat maps alone, without torch.

A figure is a function that the config can name. What it needs to read it says by the names of its arguments: ``panels``
(what the config asks for), ``style``, ``robustness`` (the tables of all panels under one another), ``comparisons``,
``claims``, ``cancellation``, or ``maps`` (images and heat maps of each panel).
"""
