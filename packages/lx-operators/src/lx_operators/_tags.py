"""Tags: promises about an operator, their implications, and the tags of its transpose.

A tag is trusted. It is never deduced from values, and data that contradicts it may be
ignored (a matrix tagged diagonal acts as its diagonal). `lx_operators.verify` checks
promises on demand.
"""

import functools
from collections.abc import Callable, Hashable, Iterable


class Tag:
    """A named promise. Two tags are equal only if they are the same object."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"{self.name}_tag"

    def __reduce__(self) -> str:  # a copy or unpickled tag is the tag itself
        return repr(self)


symmetric_tag = Tag("symmetric")  # A = Aᵀ
hermitian_tag = Tag("hermitian")  # A = Aᴴ
diagonal_tag = Tag("diagonal")
tridiagonal_tag = Tag("tridiagonal")
unit_diagonal_tag = Tag("unit_diagonal")  # every diagonal element is one
lower_triangular_tag = Tag("lower_triangular")
upper_triangular_tag = Tag("upper_triangular")
positive_semidefinite_tag = Tag("positive_semidefinite")  # Hermitian, xᴴAx ≥ 0
negative_semidefinite_tag = Tag("negative_semidefinite")  # Hermitian, xᴴAx ≤ 0
nonsingular_tag = Tag("nonsingular")  # full rank; if semidefinite: definite

Tags = frozenset[Hashable]

# Promises that only make sense for a map from a space to itself.
self_adjoint_tags: frozenset[Tag] = frozenset(
    (symmetric_tag, hermitian_tag, positive_semidefinite_tag, negative_semidefinite_tag)
)

# All tags on the left together imply all on the right. Sufficient, not necessary.
_IMPLICATIONS = (
    ({diagonal_tag}, {symmetric_tag, tridiagonal_tag}),
    ({diagonal_tag}, {lower_triangular_tag, upper_triangular_tag}),
    ({lower_triangular_tag, upper_triangular_tag}, {diagonal_tag}),
    ({lower_triangular_tag, symmetric_tag}, {diagonal_tag}),
    ({upper_triangular_tag, symmetric_tag}, {diagonal_tag}),
    ({lower_triangular_tag, hermitian_tag}, {diagonal_tag}),
    ({upper_triangular_tag, hermitian_tag}, {diagonal_tag}),
    ({positive_semidefinite_tag}, {hermitian_tag}),
    ({negative_semidefinite_tag}, {hermitian_tag}),
    ({lower_triangular_tag, unit_diagonal_tag}, {nonsingular_tag}),
    ({upper_triangular_tag, unit_diagonal_tag}, {nonsingular_tag}),
    ({diagonal_tag, unit_diagonal_tag}, {positive_semidefinite_tag}),
)
_REAL_IMPLICATIONS = (
    ({symmetric_tag}, {hermitian_tag}),
    ({hermitian_tag}, {symmetric_tag}),
)


@functools.cache
def implied(tags: Tags, real: bool) -> Tags:
    """`tags` and everything they imply; `real`: whether the operator is real."""
    rules = _IMPLICATIONS + (_REAL_IMPLICATIONS if real else ())
    grown = tags.union(*(then for given, then in rules if tags.issuperset(given)))
    return tags if grown == tags else implied(grown, real)


def tagged_diagonal(tags: Tags) -> bool:
    """Whether tags say or imply that an operator is diagonal."""
    return diagonal_tag in implied(tags, real=False)


def as_tags(tags: Hashable | Iterable[Hashable]) -> Tags:
    """One tag, or any iterable of tags, as a frozen set.

    Raises:
        ValueError: if given a string, because no rule and no question uses strings.
    """
    if isinstance(tags, Iterable) and not isinstance(tags, str):
        found = frozenset(tags)
    else:
        found = frozenset((tags,))
    for tag in found:
        if isinstance(tag, str):
            name = f"{tag.removesuffix('_tag')}_tag"
            ours = isinstance(globals().get(name), Tag)
            raise ValueError(
                f"a tag is an object, such as `{name if ours else 'symmetric_tag'}`, "
                f"but got the string {tag!r}; for a tag of your own, take an object of "
                "your own."
            )
    return found


# How tags pass through transposing: each rule takes the frozen set of an operator's
# tags and returns a tag of the transpose, or None. Open: append rules for new tags.
transpose_tags_rules: list[Callable[[Tags], Hashable | None]] = []

_TRANSPOSE = {
    symmetric_tag: symmetric_tag,
    hermitian_tag: hermitian_tag,
    diagonal_tag: diagonal_tag,
    tridiagonal_tag: tridiagonal_tag,
    unit_diagonal_tag: unit_diagonal_tag,
    lower_triangular_tag: upper_triangular_tag,
    upper_triangular_tag: lower_triangular_tag,
    positive_semidefinite_tag: positive_semidefinite_tag,
    negative_semidefinite_tag: negative_semidefinite_tag,
    nonsingular_tag: nonsingular_tag,
}


def _transpose_rule(of: Tag, becomes: Tag) -> Callable[[Tags], Hashable | None]:
    return lambda tags: becomes if of in tags else None


transpose_tags_rules.extend(_transpose_rule(*pair) for pair in _TRANSPOSE.items())


def transpose_tags(tags: Hashable | Iterable[Hashable]) -> Tags:
    """The tags of the transpose of an operator with these tags.

    Args:
        tags: a tag, or any iterable of tags.

    Returns:
        A frozen set of tags: all of them if they make the operator its own transpose.
        Otherwise, tags without a rule in `transpose_tags_rules` are dropped, because
        their meaning for the transpose is unknown.

    ```python
    lx.transpose_tags({lx.lower_triangular_tag})  # {upper_triangular_tag}
    ```
    """
    tags = as_tags(tags)
    if symmetric_tag in implied(tags, real=False):
        return tags
    found = (rule(tags) for rule in transpose_tags_rules)
    return frozenset(tag for tag in found if tag is not None)


# Tags of A that A's pseudoinverse has too (A triangular: so is A†, if nonsingular).
_INVERSE = frozenset(_TRANSPOSE) - {tridiagonal_tag, unit_diagonal_tag}


def inverse_tags(tags: Tags) -> Tags:
    """The tags of A† from all that is known of A.

    A tridiagonal matrix has a full inverse. A unit diagonal survives only where the
    diagonal of the inverse is the inverse of the diagonal: A triangular or diagonal.
    """
    kept = tags & _INVERSE
    if tags & {lower_triangular_tag, upper_triangular_tag, diagonal_tag}:
        kept |= tags & {unit_diagonal_tag}
    return kept
