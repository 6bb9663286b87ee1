"""The text of operators: `MatrixLinearOperator(f64[100, 80], symmetric)`."""

import functools
from typing import Any

from ._properties import declared
from ._structures import common_dtype, short_dtype

# Binding strength of the algebra's signs, to place parentheses.
SUM, PRODUCT, ATOM = 1, 2, 3


@functools.singledispatch
def layout(operator: Any) -> tuple[str, int]:
    """An operator's text, and how tightly its outermost sign binds.

    By default: the type, the dtype and shape of the matrix, and the declared tags.
    """
    try:
        structures = operator.in_structure(), operator.out_structure()
        dtype = short_dtype(common_dtype(structures))
        words = [f"{dtype}[{operator.out_size()}, {operator.in_size()}]"]
        words += sorted(getattr(tag, "name", repr(tag)) for tag in declared(operator))
    except Exception:  # printing is for debugging: half-built operators print too
        words = ["..."]
    return f"{type(operator).__name__}({', '.join(words)})", ATOM


def within(operator: Any, strength: int) -> str:
    """The operator's text as an operand of a sign of this strength."""
    text, own = layout(operator)
    return text if own >= strength else f"({text})"


def summary(operator: Any) -> str:
    """One line that names an operator."""
    return layout(operator)[0]


def type_name(x: Any) -> str:
    """The name of the type of x; with its module, if x is an operator of SciPy, whose
    classes have the names of ours."""
    kind = type(x)
    scipys = hasattr(x, "matvec")
    return f"{kind.__module__}.{kind.__name__}" if scipys else kind.__name__
