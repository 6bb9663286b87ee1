"""Operators that hold data, one in each file."""
