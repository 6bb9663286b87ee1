"""Iterative solvers: one method a file, in the letters of its paper."""
