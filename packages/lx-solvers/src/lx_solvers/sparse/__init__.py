"""Sparse direct solvers: analysis and factors on the host, solutions in JAX."""
