"""Operators that hold data: one a file."""
