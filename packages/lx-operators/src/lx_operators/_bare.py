"""An operator without what is wrapped around it."""

from typing import Any

from .composites.promoted import PromotedLinearOperator
from .composites.tagged import TaggedLinearOperator


def bare(operator: Any) -> Any:
    """The operator inside tags and promotions: what a structured solver looks at. Its
    dtype may be narrower than the operator's."""
    while isinstance(operator, TaggedLinearOperator | PromotedLinearOperator):
        operator = operator.operator
    return operator
