"""Kronecker products and sums, solved by their factors."""

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.internal import slogdet_of

AUTO = {p: lxs.AutoLinearSolver(well_posed=p) for p in (True, False, None)}


def matrix(a, *tags):
    return lxo.MatrixLinearOperator(a, tags)


def hermitian(a, shift=0.0):
    a = a + a.conj().T + shift * jnp.eye(len(a), dtype=a.dtype)
    return matrix(a, lxo.hermitian_tag)


def product(draw, dtype):
    return lxo.KroneckerLinearOperator(
        matrix(draw(dtype, 3, 3) + 3 * jnp.eye(3, dtype=dtype)),
        lxo.DiagonalLinearOperator(2 + 0.3 * draw(dtype, 2)),
    )


def rectangular(draw, dtype, *shapes):
    return lxo.KroneckerLinearOperator(*(matrix(draw(dtype, *s)) for s in shapes))


def shifted(draw, dtype):
    kron = lxo.KroneckerLinearOperator(
        hermitian(draw(dtype, 3, 3)), hermitian(draw(dtype, 2, 2))
    )
    identity = lxo.IdentityLinearOperator(kron.in_structure())
    return lxo.AddLinearOperator(
        lxo.MulLinearOperator(lxo.NegLinearOperator(kron), 0.5),
        lxo.DivLinearOperator(identity, jnp.asarray(0.1, dtype)),
    )


def hermitian_sum(draw, dtype):
    return lxo.KroneckerSumLinearOperator(
        hermitian(draw(dtype, 3, 3), 6), hermitian(draw(dtype, 2, 2))
    )


def general_sum(draw, dtype):
    return lxo.KroneckerSumLinearOperator(
        matrix(draw(dtype, 3, 3) + 4 * jnp.eye(3, dtype=dtype)),
        matrix(draw(dtype, 2, 2)),
        lxo.DiagonalLinearOperator(1 + 0.1 * draw(dtype, 2)),
    )


def deficient(draw, dtype):
    """A Hermitian sum with a null vector, and a product with one."""
    a = draw(dtype, 3, 1)
    a = a @ a.conj().T
    semi = matrix(a, lxo.positive_semidefinite_tag)
    return lxo.KroneckerSumLinearOperator(semi, semi)


CASES = [
    (lxs.Kronecker(AUTO[True]), product),
    (lxs.KroneckerEigh(), shifted),
    (lxs.KroneckerEigh(well_posed=True), hermitian_sum),
    (lxs.Sylvester(), general_sum),
    (AUTO[False], deficient),
]


@pytest.mark.parametrize("solver, make", CASES, ids=[c[1].__name__ for c in CASES])
def test_laws(obeys_laws, draw, solver, make):
    """Cases that `tests/solvers/test_laws.py` does not have: factors of other kinds,
    three factors, and multiples of the identity."""
    obeys_laws(solver, make(draw, np.dtype("complex128")))


def test_tall_beside_wide(obeys_laws, draw):
    operator = rectangular(draw, np.dtype("complex64"), (3, 2), (1, 2))
    obeys_laws(lxs.Kronecker(AUTO[False]), operator)


def test_choice(draw):
    """The structured path where it holds, and only there."""
    kron, shift = product(draw, "float64"), shifted(draw, "float64")
    tall = rectangular(draw, "float64", (3, 2), (2, 1))
    mixed = rectangular(draw, "float64", (3, 2), (2, 3))
    tagged = lxo.TaggedLinearOperator(kron, lxo.nonsingular_tag)
    both = kron + kron
    for posed, operator, solver in (
        (True, kron, lxs.Kronecker(AUTO[True])),
        (True, tagged, lxs.Kronecker(AUTO[True])),
        (False, kron, lxs.Kronecker(AUTO[False])),
        (False, mixed, lxs.Kronecker(AUTO[False])),
        (None, tall, lxs.Kronecker(AUTO[None])),
        (None, mixed, lxs.LU()),
        (True, mixed, lxs.LU()),
        (True, shift, lxs.KroneckerEigh(well_posed=True)),
        (False, shift, lxs.KroneckerEigh()),
        (True, hermitian_sum(draw, "float64"), lxs.KroneckerEigh(well_posed=True)),
        (True, general_sum(draw, "float64"), lxs.Sylvester()),
        (False, general_sum(draw, "float64"), lxs.PivotedQR()),
        (True, lxo.AddLinearOperator(kron, kron), lxs.LU()),
    ):
        assert AUTO[posed].select_solver(operator) == solver
    assert both.in_size() == kron.in_size()


def test_verdicts(outcome, draw):
    a = hermitian(draw("float64", 2, 2))
    zero = lxo.KroneckerSumLinearOperator(a, -a)  # λᵢ - λⱼ
    assert outcome(lxs.KroneckerEigh(well_posed=True), zero)[1] == "singular"
    assert outcome(lxs.KroneckerEigh(), zero)[1] == "successful"
    b = matrix(draw("float64", 2, 2))
    zero = lxo.KroneckerSumLinearOperator(b, -b)
    assert outcome(lxs.Sylvester(), zero)[1] == "singular"
    ones = matrix(jnp.ones((2, 2)))
    kron = lxo.KroneckerLinearOperator(matrix(jnp.eye(2)), ones)
    assert outcome(lxs.Kronecker(lxs.LU()), kron)[1] == "singular"
    nan = matrix(jnp.full((2, 2), jnp.nan), lxo.hermitian_tag)
    for solver, of in (
        (lxs.Kronecker(lxs.LU()), lxo.KroneckerLinearOperator),
        (lxs.KroneckerEigh(), lxo.KroneckerLinearOperator),
        (lxs.Sylvester(), lxo.KroneckerSumLinearOperator),
    ):
        assert outcome(solver, of(nan, a))[1] == "nonfinite_input"
        bad = jnp.ones((2, 2)).at[0, 1].set(jnp.inf)
        fine = of(hermitian(jnp.eye(2)), hermitian(jnp.eye(2)))
        assert outcome(solver, fine, bad)[1] == "nonfinite_input"


def test_ill_conditioned_schur_is_told(solve):
    """Eigenvalues apart, but the inverse beyond working precision."""
    n = 25
    jordan = jnp.eye(n) + 10 * jnp.eye(n, k=1)
    operator = lxo.KroneckerSumLinearOperator(matrix(jordan), matrix(jnp.zeros((1, 1))))
    solver = lxs.Sylvester()
    _, result, _ = solve(solver, operator, jnp.ones((n, 1)))
    assert np.linalg.cond(np.asarray(jordan)) > 1e20
    assert result == lxs.RESULTS.singular


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    "solver, make", CASES[:4], ids=[c[1].__name__ for c in CASES[:4]]
)
def test_slogdet(draw, solver, make, dtype):
    operator = make(draw, np.dtype(dtype))
    sign, log = slogdet_of(solver.init(operator, {}))
    wanted = np.linalg.slogdet(np.asarray(operator.as_matrix()))
    np.testing.assert_allclose(sign, wanted[0], rtol=1e-10)
    np.testing.assert_allclose(log, wanted[1], rtol=1e-10)


def test_wrong_operators(draw):
    plain = matrix(jnp.eye(2))
    for solver in (lxs.Kronecker(lxs.LU()), lxs.KroneckerEigh(), lxs.Sylvester()):
        with pytest.raises(ValueError, match=type(solver).__name__):
            solver.init(plain, {})
    with pytest.raises(ValueError, match="hermitian_tag"):
        lxs.KroneckerEigh().init(product(draw, "float64"), {})
    mixed = rectangular(draw, "float64", (3, 2), (2, 3))
    with pytest.raises(ValueError, match="of one kind"):
        lxs.Kronecker(lxs.QR()).init(mixed, {})
