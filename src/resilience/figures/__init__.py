"""Figures in the paper's form, drawn from tables and heat maps alone, without torch.

A figure is a function that the config can name. What it needs to read it says by the names of its arguments: ``panels``
(what the config asks for), ``style``, ``measured`` (the tables of all panels under one another), ``summary`` (means of all
measures), ``comparisons``, ``claims``, ``cancellation``, ``scores`` (of what networks learn again from), ``maps`` (images
and heat maps of each panel), or of every seed of the networks of the panels ``gradients`` (expected ones), ``fits``
(what training says of them) and ``weights``.
"""
