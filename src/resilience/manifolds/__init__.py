"""Manifolds of data, learned from the training images of a dataset; images can be projected on them."""
