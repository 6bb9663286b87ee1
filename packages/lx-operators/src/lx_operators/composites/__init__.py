"""Operators made of operators, one in each file; shared rules are in `_rules.py`."""
