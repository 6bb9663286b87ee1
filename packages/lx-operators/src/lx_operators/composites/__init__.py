"""Operators made of operators: one sign a file, the rules of all in `_rules.py`."""
