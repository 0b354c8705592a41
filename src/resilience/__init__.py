"""Measures whether explanations survive an attack, and whether a Bayesian network makes them more stable.

The modules bear the names of the nouns of the field: ``data``, ``networks``, ``training``, ``posterior``,
``attacks``, ``lrp``, ``robustness``, ``comparisons``, ``claims``, ``figures``. None of them knows of Snakemake.
"""
