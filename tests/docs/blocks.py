"""Blocks of Python in the pages of the docs, and what they state that they print.

Where a comment after a `print` looks like output, that is, begins with a number, a
bracket, a quotation mark, the call of a class or `True`, `False`, `None`, it is what is
printed: the same text, and the same numbers to the digits that are given.
"""

import math
import re
from pathlib import Path
from textwrap import dedent

_BLOCK = re.compile(
    r'^( *)```(\w+)(?: title="([^"]*)")?\n(.*?)^\1```', re.MULTILINE | re.DOTALL
)
_OUTPUT = re.compile(r"""[-+]?[\d.]|[\[({'"]|[A-Z]\w*\(|(True|False|None)\b""")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?\binf\b|\bnan\b")


def python(page: Path) -> list[tuple[int, str]]:
    """The Python of a page, each with the line it starts in, less blocks that have a
    title (files of a tutorial) or only include a file (which is run as that file)."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start()) + 2, dedent(match[4]))
        for match in _BLOCK.finditer(text)
        if match[2] == "python" and not match[3] and "--8<--" not in match[4]
    ]


def tutorial(page: Path) -> list[tuple[str, str]]:
    """The steps of a tutorial: ("console", commands) or (file name, its text)."""
    return [
        (match[3] or match[2], dedent(match[4]))
        for match in _BLOCK.finditer(page.read_text())
        if match[3] or match[2] == "console"
    ]


def stated(line: str) -> str | None:
    """The output that the comment of a line states, if it does."""
    comment = line.rpartition("  # ")[2].strip() if "  # " in line else ""
    return comment if _OUTPUT.match(comment) else None


def same(printed: str, stated: str) -> bool:
    """Whether text and numbers are the same, numbers to the digits that are stated."""

    def words(text: str) -> str:
        return "".join("".join(_NUMBER.split(text)).split())

    got, wanted = _NUMBER.findall(printed), _NUMBER.findall(stated)
    alike = words(printed) == words(stated) and len(got) == len(wanted)
    return alike and all(map(_close, got, wanted))


def _close(printed: str, stated: str) -> bool:
    """One decimal or none is the number itself, as in `[0.5 1.]`, but for rounding;
    more are digits to round to."""
    value, number = float(printed), float(stated)
    if math.isnan(number):
        return math.isnan(value)
    if "." not in stated + printed and "e" not in stated:
        return value == number
    mantissa, _, exponent = stated.partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = 1e-5 * max(abs(number), 1)
    if exponent or decimals > 1:
        unit = 10.0 ** (int(exponent or 0) - decimals)
    return value == number or abs(value - number) <= 0.51 * unit
