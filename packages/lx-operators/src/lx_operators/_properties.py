"""Questions about an operator: one for each tag.

A question is answered from type and tags, never from values. Each operator type says
what it declares (`declared`); what follows from that is in `_tags.py`, once. So
`known(operator)`, the set of all tags that are known to hold, takes one pass over the
parts of a composite, and a question is a look-up in that set.

A third party's type may register with any question (`is_symmetric.register(MyType)`);
what it registers is its declaration, and the implications hold for it as well.
"""

import functools
import threading
from typing import Any

from ._functions import reject
from ._structures import is_real, size_of, structures_of
from ._tags import (
    Tag,
    Tags,
    diagonal_tag,
    hermitian_tag,
    implied,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)

_QUESTIONS: dict[Tag, Any] = {}
_asked = threading.local()


@functools.singledispatch
def declared(operator: Any) -> Tags:
    """What an operator's type and tags say, before implications.

    By default, the answers that the type has registered with the questions. (A
    registered answer may ask another question about the same operator, which leads back
    here.)
    """
    asked = vars(_asked).setdefault("tags", set())
    found = []
    for tag, question in _QUESTIONS.items():
        answer = question.dispatch(type(operator))
        if answer is question.dispatch(object) or (tag, id(operator)) in asked:
            continue
        asked.add((tag, id(operator)))
        try:
            if answer(operator):
                found.append(tag)
        finally:
            asked.discard((tag, id(operator)))
    return frozenset(found)


def known(operator: Any) -> Tags:
    """All tags that are known to hold for an operator."""
    tags = declared(operator)
    in_structure, out_structure = structures_of(operator)
    if size_of(in_structure) == size_of(out_structure) == 1:
        tags |= {diagonal_tag}
    return implied(tags, is_real(in_structure, out_structure))


def is_own_transpose(operator: Any) -> bool:
    """Whether Aᵀ is A, as an operator: symmetric, and from a space to itself."""
    in_structure, out_structure = structures_of(operator)
    return in_structure == out_structure and symmetric_tag in known(operator)


def is_own_adjoint(operator: Any) -> bool:
    """Whether Aᴴ is A, as an operator: Hermitian, and from a space to itself."""
    in_structure, out_structure = structures_of(operator)
    return in_structure == out_structure and hermitian_tag in known(operator)


def _question(name: str, tag: Tag, meaning: str) -> Any:
    def question(operator: Any) -> bool:
        if not callable(getattr(type(operator), "in_structure", None)):
            reject(operator, f"`{name}`")
        return tag in known(operator)

    question.__name__ = question.__qualname__ = name
    question.__module__ = __name__
    question.__doc__ = f"""Whether the operator is known to be {meaning}.

    Answered from type and tags, never from values: `False` means "not known".

    Args:
        operator: an `AbstractLinearOperator`.

    Returns:
        A Python `bool`.

    Raises:
        ValueError: `operator` is not an operator.

    ```python
    operator = lx.MatrixLinearOperator(jnp.eye(2), lx.{tag!r})
    lx.{name}(operator)  # True
    lx.{name}(lx.MatrixLinearOperator(jnp.eye(2)))  # False: not known
    ```
    """
    _QUESTIONS[tag] = functools.singledispatch(question)
    return _QUESTIONS[tag]


is_symmetric = _question("is_symmetric", symmetric_tag, "symmetric, A = Aᵀ")
is_hermitian = _question("is_hermitian", hermitian_tag, "Hermitian, A = Aᴴ")
is_diagonal = _question("is_diagonal", diagonal_tag, "diagonal")
is_tridiagonal = _question("is_tridiagonal", tridiagonal_tag, "tridiagonal")
has_unit_diagonal = _question(
    "has_unit_diagonal", unit_diagonal_tag, "one in every element of its diagonal"
)
is_lower_triangular = _question(
    "is_lower_triangular", lower_triangular_tag, "lower triangular"
)
is_upper_triangular = _question(
    "is_upper_triangular", upper_triangular_tag, "upper triangular"
)
is_positive_semidefinite = _question(
    "is_positive_semidefinite",
    positive_semidefinite_tag,
    "Hermitian positive semidefinite",
)
is_negative_semidefinite = _question(
    "is_negative_semidefinite",
    negative_semidefinite_tag,
    "Hermitian negative semidefinite",
)
is_nonsingular = _question(
    "is_nonsingular",
    nonsingular_tag,
    "of full rank, min(m, n); if semidefinite as well, then definite",
)
