"""Preconditioners: approximations of an operator's inverse, one a file."""
