"""Tags, what they imply, and how they pass through the algebra."""

import copy
import pickle

import jax
import jax.numpy as jnp
import lx_operators as lx
import pytest
from lx_operators._tags import Tag
from lx_operators.internal import inverse_tags, known

MINE = Tag("mine")
TURNED = Tag("mine transposed")

TAGS = {
    tag: question
    for tag, question in (
        (lx.symmetric_tag, lx.is_symmetric),
        (lx.hermitian_tag, lx.is_hermitian),
        (lx.diagonal_tag, lx.is_diagonal),
        (lx.tridiagonal_tag, lx.is_tridiagonal),
        (lx.unit_diagonal_tag, lx.has_unit_diagonal),
        (lx.lower_triangular_tag, lx.is_lower_triangular),
        (lx.upper_triangular_tag, lx.is_upper_triangular),
        (lx.positive_semidefinite_tag, lx.is_positive_semidefinite),
        (lx.negative_semidefinite_tag, lx.is_negative_semidefinite),
        (lx.nonsingular_tag, lx.is_nonsingular),
    )
}
sym, herm, diag, tri, unit, low, up, psd, nsd, full = TAGS


def op(*tags, complex_=False):
    return lx.MatrixLinearOperator(
        jnp.eye(3, dtype=complex if complex_ else float), tags
    )


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_answers_its_question(tag):
    assert TAGS[tag](op(tag)) and TAGS[tag](op(tag, complex_=True))
    assert not TAGS[tag](op())
    assert TAGS[tag](op(tag).T) == (tag not in (low, up))


@pytest.mark.parametrize("tag", TAGS)
def test_copies_are_the_tag_itself(tag):
    assert copy.deepcopy(tag) is tag and copy.copy(tag) is tag
    assert pickle.loads(pickle.dumps(tag)) is tag
    assert repr(tag) == next(name for name in lx.__all__ if getattr(lx, name) is tag)


def test_operators_are_copied_and_pickled():
    x = lx.MatrixLinearOperator(jnp.arange(6.0).reshape(3, 2), low)
    for operator in (x.T, x.T @ x, 2 * x, lx.TaggedLinearOperator(x.H, up)):
        known_before = known(operator)
        for again in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):
            assert known(again) == known_before
            assert (again.as_matrix() == operator.as_matrix()).all()


DIAGONAL = {diag, sym, tri, low, up}
IMPLIED = [  # given, all that is known of a complex operator, and of a real one besides
    ({diag}, DIAGONAL, {herm}),
    ({low, up}, DIAGONAL, {herm}),
    ({low, sym}, DIAGONAL, {herm}),
    ({up, herm}, DIAGONAL | {herm}, set()),
    ({psd}, {psd, herm}, {sym}),
    ({nsd}, {nsd, herm}, {sym}),
    ({sym}, {sym}, {herm}),
    ({herm}, {herm}, {sym}),
    ({low, unit}, {low, unit, full}, set()),
    ({up, unit}, {up, unit, full}, set()),
    ({diag, unit}, DIAGONAL | {unit, full, psd, herm}, set()),
    ({tri, unit}, {tri, unit}, set()),
    ({psd, unit}, {psd, unit, herm}, {sym}),
]


@pytest.mark.parametrize(("given", "known_of_complex", "besides"), IMPLIED)
def test_what_is_implied(given, known_of_complex, besides):
    assert known(op(*given, complex_=True)) == known_of_complex
    assert known(op(*given)) == known_of_complex | besides


def test_one_by_one_is_diagonal():
    one = lx.MatrixLinearOperator(jnp.ones((1, 1), complex))
    assert lx.is_diagonal(one) and lx.is_symmetric(one) and not lx.is_hermitian(one)
    scalar = lx.FunctionLinearOperator(lambda x: x[None], jnp.zeros(()))
    assert lx.is_diagonal(scalar) and scalar.T.mv(jnp.ones(1)).shape == ()


# API table: tags of A and B, and the tag of their sum and product that they give, or
# None.
TABLE = [
    # A, B, sum, product
    (sym, sym, sym, None),
    (herm, herm, herm, None),
    (diag, diag, diag, diag),
    (low, low, low, low),
    (up, up, up, up),
    (tri, tri, tri, None),
    (psd, psd, psd, None),
    (nsd, nsd, nsd, None),
    (unit, unit, None, None),
    (full, full, None, full),
    (low, up, None, None),
    (sym, diag, sym, None),
    (psd, nsd, herm, None),
]


@pytest.mark.parametrize(("a", "b", "of_sum", "of_product"), TABLE)
@pytest.mark.parametrize("complex_", [False, True])
def test_sums_and_products(a, b, of_sum, of_product, complex_):
    x, y = op(a, complex_=complex_), op(b, complex_=complex_)
    for result, tag in ((x + y, of_sum), (x @ y, of_product)):
        expected = op(*(tag and [tag] or []), complex_=complex_)
        assert known(result) == known(expected)


@pytest.mark.parametrize("complex_", [False, True])
def test_products_of_special_factors(complex_):
    def is_(question, *factors):
        a, b = (op(*tags, complex_=complex_) for tags in factors)
        return question(a @ b)

    assert is_(lx.is_tridiagonal, [diag], [tri]) and is_(
        lx.is_tridiagonal, [tri], [diag]
    )
    assert not is_(lx.is_symmetric, [diag], [sym])
    for triangular in (low, up, diag):
        assert is_(lx.has_unit_diagonal, [unit, triangular], [unit, triangular])
        assert is_(lx.is_nonsingular, [unit, triangular], [full])
    assert not is_(lx.has_unit_diagonal, [unit, low], [unit, up])


@pytest.mark.parametrize("tag", TAGS)
def test_scalings(tag):
    flipped = {psd: nsd, nsd: psd, unit: None}.get(tag, tag)
    assert TAGS[tag](2.0 * op(tag)) == TAGS[tag](op(tag) / 2) == (tag is not unit)
    for negative in (-op(tag), op(tag) * -2, op(tag) / -2):
        assert flipped is None or TAGS[flipped](negative)
        assert TAGS[tag](negative) == (flipped is tag)


def test_definite_and_semidefinite():
    assert lx.is_nonsingular(op(psd, full) + op(psd))
    assert lx.is_nonsingular(op(nsd) + op(nsd, full))
    assert not lx.is_nonsingular(op(psd, full) + op(nsd, full))
    assert not lx.is_nonsingular(op(psd) + op(psd))


def test_full_rank_of_rectangular_products():
    def full_rank(m, n):
        return lx.MatrixLinearOperator(jnp.eye(m, n), full)

    assert lx.is_nonsingular(full_rank(2, 3) @ full_rank(3, 4))
    assert lx.is_nonsingular(full_rank(4, 3) @ full_rank(3, 2))
    assert not lx.is_nonsingular(full_rank(2, 4) @ full_rank(4, 2))
    assert not lx.is_nonsingular(full_rank(4, 2) @ full_rank(2, 4))


def test_transpose_tags():
    assert lx.transpose_tags(low) == lx.transpose_tags([low]) == {up}
    assert lx.transpose_tags({up, unit, full}) == {low, unit, full}
    assert lx.transpose_tags(()) == frozenset()
    for own in (sym, diag):  # its own transpose: nothing is lost
        assert lx.transpose_tags({own, MINE}) == {own, MINE}
    assert lx.transpose_tags({psd, herm, tri, MINE}) == {psd, herm, tri}


def test_transpose_rules_are_open():
    def rule(tags):
        return TURNED if MINE in tags else None

    lx.transpose_tags_rules.append(rule)
    try:
        assert lx.transpose_tags({MINE, low}) == {TURNED, up}
        operator = lx.MatrixLinearOperator(jnp.eye(2), [MINE, low])
        assert operator.T.tags == {TURNED, up}
        fn = lx.FunctionLinearOperator(lambda x: x, jnp.zeros(2), MINE)
        assert fn.T.tags == {TURNED}
    finally:
        lx.transpose_tags_rules.remove(rule)


def test_inverse_tags():
    assert inverse_tags(frozenset((sym, tri, full))) == {sym, full}
    assert inverse_tags(frozenset((unit, low))) == {unit, low}
    assert inverse_tags(frozenset((unit, sym))) == {sym}
    assert inverse_tags(frozenset((psd, diag, unit))) == {psd, diag, unit}


# Provenance


@pytest.fixture(params=[float, complex], ids=["real", "complex"])
def x(request):
    a = jnp.arange(6.0).reshape(3, 2).astype(request.param)
    return lx.MatrixLinearOperator(
        a + a[::-1] * (1j if request.param is complex else 0)
    )


def test_gram_operators(x):
    real = x.matrix.dtype == float
    s = op(psd, complex_=not real)
    for gram in (x.H @ x, x @ x.H, x.H @ s @ x, x.H @ (s @ x), x.adjoint() @ x):
        assert lx.is_positive_semidefinite(gram) and lx.is_hermitian(gram)
        assert lx.is_symmetric(gram) == real
        assert lx.is_positive_semidefinite(gram.T) and lx.is_hermitian(lx.conj(gram))
        assert lx.is_positive_semidefinite(lx.materialise(gram))
    assert lx.is_symmetric(x.T @ x) and lx.is_positive_semidefinite(x.T @ x) == real
    assert lx.is_negative_semidefinite(x.H @ op(nsd, complex_=not real) @ x)
    assert lx.is_hermitian(x.H @ op(herm, complex_=not real) @ x)
    assert lx.is_symmetric(x.T @ op(sym, complex_=not real) @ x)


def test_what_is_no_gram_operator(x):
    other = lx.MatrixLinearOperator(x.matrix + 0)  # equal, but not the same
    s = lx.MatrixLinearOperator(jnp.eye(3, dtype=x.matrix.dtype))
    for product in (x.H @ other, x.H @ s @ x, x @ (2 * x).H, -x.H @ x):
        assert not lx.is_hermitian(product)
    square = lx.MatrixLinearOperator(x.matrix[:2])
    assert not lx.is_symmetric(square @ square)
    assert not lx.is_hermitian(square - square.H)


def test_squares_of_reflected_operators():
    hermitian, symmetric = op(herm, complex_=True), op(sym, complex_=True)
    assert lx.is_positive_semidefinite(hermitian @ hermitian)
    assert lx.is_symmetric(symmetric @ symmetric)
    assert not lx.is_positive_semidefinite(symmetric @ symmetric)
    assert lx.is_positive_semidefinite(op(sym) @ op(sym)) is False  # two operators
    real = op(sym)
    assert lx.is_positive_semidefinite(real @ real)


def test_definite_gram_operators():
    tall = lx.MatrixLinearOperator(jnp.eye(3, 2), full)
    wide = tall.T
    assert lx.is_nonsingular(tall.T @ tall) and not lx.is_nonsingular(tall @ tall.T)
    assert lx.is_nonsingular(wide @ wide.T) and not lx.is_nonsingular(wide.T @ wide)
    assert lx.is_nonsingular(tall.T @ op(psd, full) @ tall)
    assert not lx.is_nonsingular(tall.T @ op(psd) @ tall)
    # an indefinite middle factor may annihilate: [[1, 1]] diag(1, -1) [[1], [1]] = 0
    assert not lx.is_nonsingular(tall.T @ op(sym, full) @ tall)


def test_provenance_under_jit(x):
    """Recognised where it is built inside `jit`, and kept by what crosses it."""

    def build(matrix):
        operator = lx.MatrixLinearOperator(matrix)
        gram = operator.H @ operator
        assert lx.is_positive_semidefinite(gram)
        return gram

    outside = jax.jit(build)(x.matrix)
    assert lx.is_positive_semidefinite(outside) and lx.is_positive_semidefinite(
        outside.T
    )

    @jax.jit
    def ask(gram, operator, transpose):
        assert lx.is_positive_semidefinite(gram)
        assert not lx.is_hermitian(transpose @ operator)  # no longer known to be one's
        return gram.mv(jnp.ones(2, x.matrix.dtype))

    ask(x.H @ x, x, x.H)
    mapped = jax.tree.map(lambda leaf: 2 * leaf, x.H @ x)
    assert lx.is_positive_semidefinite(mapped)


def test_questions_grow_with_the_tree():
    """Each part is asked once: a sum of n products costs O(n)."""
    from lx_operators._properties import declared

    asked = []

    class Leaf(lx.DiagonalLinearOperator):
        pass

    declared.register(Leaf, lambda op: asked.append(1) or frozenset((diag,)))
    for n in (4, 16):
        total = Leaf(jnp.ones(2))
        for _ in range(n):
            total = total + Leaf(jnp.ones(2)) @ Leaf(jnp.ones(2))
        asked.clear()
        assert all(TAGS[tag](total) for tag in (sym, diag, tri, low, up))
        assert len(asked) <= 2 * n + 1
