"""Random trees of sums, products, scalings, transposes and conjugates agree with NumPy,
and every property they claim is true."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lx_operators._tags import Tag

MINE = Tag("mine")

# real and complex operands meet
pytestmark = pytest.mark.standard_promotion

SIZE = 3
TAGS = {
    lx.is_symmetric: lambda a: np.max(abs(a - a.T)),
    lx.is_hermitian: lambda a: np.max(abs(a - a.conj().T)),
    lx.is_diagonal: lambda a: np.max(abs(a - np.diag(np.diagonal(a)))),
    lx.is_tridiagonal: lambda a: np.max(abs(np.triu(a, 2)) + abs(np.tril(a, -2))),
    lx.is_lower_triangular: lambda a: np.max(abs(np.triu(a, 1))),
    lx.is_upper_triangular: lambda a: np.max(abs(np.tril(a, -1))),
    lx.has_unit_diagonal: lambda a: np.max(abs(np.diagonal(a) - 1)),
    lx.is_positive_semidefinite: lambda a: _negative(a),
    lx.is_negative_semidefinite: lambda a: _negative(-a),
}


def _negative(a):
    """The distance from Hermitian positive semidefinite matrices."""
    hermitian = (a + a.conj().T) / 2
    return max(np.max(abs(a - hermitian)), -np.min(np.linalg.eigvalsh(hermitian)))


def _elements(draw, shape, complex_):
    """Small integers: sums and products of them are exact."""
    draws = st.integers(-2, 2)
    a = np.array(draw(st.lists(draws, min_size=9, max_size=9)), float)
    if complex_:
        a = a + 1j * np.array(draw(st.lists(draws, min_size=9, max_size=9)), float)
    return a[: int(np.prod(shape))].reshape(shape)


@st.composite
def leaves(draw):
    """An operator and its matrix."""
    complex_ = draw(st.booleans())
    a = _elements(draw, (SIZE, SIZE), complex_)
    kind = draw(st.sampled_from(sorted(LEAVES)))
    return LEAVES[kind](a)


def _matrix(a, *tags):
    return lx.MatrixLinearOperator(a, tags), a


def _function(a, *tags):
    array = jnp.asarray(a)
    structure = jnp.zeros(SIZE, array.dtype)
    fn = lx.FunctionLinearOperator(lambda x: array @ x, structure, tags)
    return fn, a


def _jacobian(a):
    array = jnp.asarray(a)
    point = jnp.zeros(SIZE, array.dtype)
    return lx.JacobianLinearOperator(lambda x, a: a @ x, point, array), a


def _tridiagonal(a):
    main, lower, upper = (np.diagonal(a, k) for k in (0, -1, 1))
    dense = np.diag(main) + np.diag(lower, -1) + np.diag(upper, 1)
    return lx.TridiagonalLinearOperator(main, lower, upper), dense


def _diagonal(a):
    return lx.DiagonalLinearOperator(a[0]), np.diag(a[0])


def _unit(a):
    a = np.tril(a, -1) + np.eye(SIZE)
    return _matrix(a, lx.lower_triangular_tag, lx.unit_diagonal_tag)


def _definite(a):
    a = a.conj().T @ a + np.eye(SIZE)
    return _function(a, lx.positive_semidefinite_tag, lx.nonsingular_tag)


class Plain(lx.AbstractLinearOperator):
    """A third party's operator: the abstract methods, and nothing else."""

    a: jax.Array

    def mv(self, vector):
        return self.a @ vector

    def as_matrix(self):
        return self.a

    def transpose(self):
        return Plain(self.a.T)

    def in_structure(self):
        return jax.eval_shape(lambda: self.a[0])

    def out_structure(self):
        return jax.eval_shape(lambda: self.a[:, 0])


LEAVES = {
    "matrix": _matrix,
    "symmetric": lambda a: _matrix(a + a.T, lx.symmetric_tag),
    "hermitian": lambda a: _matrix(a + a.conj().T, lx.hermitian_tag),
    "upper": lambda a: _matrix(np.triu(a), lx.upper_triangular_tag),
    "unit": _unit,
    "negative": lambda a: _matrix(-a @ a.conj().T, lx.negative_semidefinite_tag),
    "definite": _definite,
    "function": _function,
    "jacobian": _jacobian,
    "diagonal": _diagonal,
    "tridiagonal": _tridiagonal,
    "third party": lambda a: (Plain(jnp.asarray(a)), a),
    "identity": lambda a: (lx.IdentityLinearOperator(a[0]), np.eye(SIZE)),
}


def _grow(children):
    def unary(drawn):
        (operator, matrix), name = drawn
        return UNARY[name](operator, matrix)

    def binary(drawn):
        (a, da), (b, db), sign = drawn
        return _combine(a, da, b, db, sign)

    return st.one_of(
        st.tuples(children, st.sampled_from(sorted(UNARY))).map(unary),
        st.tuples(children, children, st.sampled_from("+-@s")).map(binary),
    )


def _combine(a, da, b, db, sign):
    match sign:
        case "+":
            return a + b, da + db
        case "-":
            return a - b, da - db
        case "@":
            return a @ b, da @ db
    # B S Bᴴ
    return b @ a @ b.H, db @ da @ db.conj().T


UNARY = {
    "T": lambda a, d: (a.T, d.T),
    "H": lambda a, d: (a.H, d.conj().T),
    "conj": lambda a, d: (lx.conj(a), d.conj()),
    "neg": lambda a, d: (-a, -d),
    "2": lambda a, d: (2 * a, 2 * d),
    "-1": lambda a, d: (a * -1.0, -d),
    "0": lambda a, d: (0 * a, 0 * d),
    "1j": lambda a, d: (1j * a, 1j * d),
    "/2": lambda a, d: (a / 2, d / 2),
    "array": lambda a, d: (jnp.asarray(-2.0) * a, -2 * d),
    "gram": lambda a, d: (a.H @ a, d.conj().T @ d),
    "cogram": lambda a, d: (a @ a.H, d @ d.conj().T),
    "square": lambda a, d: (a @ a, d @ d),
    "AᵀA": lambda a, d: (a.T @ a, d.T @ d),
    "A+Aᴴ": lambda a, d: (a + a.H, d + d.conj().T),
    "A+Aᵀ": lambda a, d: (a + a.T, d + d.T),
    "linearise": lambda a, d: (lx.linearise(a), d),
    "materialise": lambda a, d: (lx.materialise(a), d),
    "tagged": lambda a, d: (lx.TaggedLinearOperator(a, MINE), d),
}

expressions = st.recursive(leaves(), _grow, max_leaves=4)


@pytest.mark.standard_promotion
@given(expressions)
@settings(max_examples=75, deadline=None, derandomize=True)
def test_expression(expression):
    operator, matrix = expression
    scale = max(1.0, np.max(abs(matrix)))

    def close(got, wanted, what):
        error = np.max(abs(np.asarray(got) - wanted), initial=0)
        assert error <= 1e-12 * scale, f"{what} of {operator} is off by {error}"

    x = np.array([1.0, -2.0, 0.5])
    close(operator.as_matrix(), matrix, "as_matrix")
    close(operator.mv(jnp.asarray(x)), matrix @ x, "mv")
    close(operator.mv(jnp.asarray(1j * x)), matrix @ (1j * x), "mv of complex")
    close(operator.T.mv(jnp.asarray(x)), matrix.T @ x, "T.mv")
    close(operator.H.as_matrix(), matrix.conj().T, "H")
    close(lx.conj(operator).as_matrix(), matrix.conj(), "conj")
    close(lx.diagonal(operator), np.diagonal(matrix), "diagonal")
    for band, offset in zip(lx.tridiagonal(operator), (0, -1, 1), strict=True):
        close(band, np.diagonal(matrix, offset), f"diagonal {offset}")
    for question, deviation in TAGS.items():
        if question(operator):
            off = deviation(matrix)
            assert off <= 1e-12 * scale, f"{operator}: {question.__name__} is wrong"
    if lx.is_nonsingular(operator):
        assert np.linalg.matrix_rank(matrix) == SIZE, f"{operator} is singular"
    assert lx.is_nonsingular(operator.T) == lx.is_nonsingular(operator)


CLAIMS = {  # what the algebra must find, of A and of B
    "Hermitian part": (lambda a, b: a + a.H, lx.is_hermitian),
    "symmetric part": (lambda a, b: a + a.T, lx.is_symmetric),
    "XᴴX": (lambda a, b: a.H @ a, lx.is_positive_semidefinite),
    "XXᴴ": (lambda a, b: a @ a.H, lx.is_positive_semidefinite),
    "XᵀX": (lambda a, b: a.T @ a, lx.is_symmetric),
    "BᴴXᴴXB": (lambda a, b: (a @ b).H @ (a @ b), lx.is_positive_semidefinite),
    "conj(X)ᵀX": (lambda a, b: lx.conj(a).T @ a, lx.is_positive_semidefinite),
    "conj(Xᵀ)X": (lambda a, b: lx.conj(a.T) @ a, lx.is_positive_semidefinite),
    "B(XᴴX)Bᴴ": (lambda a, b: b @ (a.H @ a) @ b.H, lx.is_positive_semidefinite),
    "-XᴴX": (lambda a, b: -(a.H @ a), lx.is_negative_semidefinite),
    "XᴴX + BBᴴ": (lambda a, b: a.H @ a + b @ b.H, lx.is_positive_semidefinite),
}


@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("complex_", [False, True])
def test_what_must_be_recognised(name, complex_):
    build, question = CLAIMS[name]
    a, b = (np.random.default_rng(i).normal(size=(SIZE, SIZE)) for i in range(2))
    if complex_:
        a, b = a + 1j * b, b - 1j * a
    for leaf in (_matrix, _function, _jacobian):
        assert question(build(leaf(a)[0], leaf(b)[0])), f"{name} of {leaf.__name__}"
