"""`verify` finds every broken promise, and none that is kept."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
SMALL, LARGE = 4, 12  # LARGE is checked by probes: see `verification`

GENERAL = rng.normal(size=(LARGE, LARGE)) + 1j * rng.normal(size=(LARGE, LARGE))
HERMITIAN = GENERAL + GENERAL.conj().T
BROKEN = {  # a matrix that breaks each tag
    lx.symmetric_tag: HERMITIAN,
    lx.hermitian_tag: GENERAL + GENERAL.T,
    lx.diagonal_tag: np.eye(LARGE) + np.eye(LARGE, k=1),
    lx.tridiagonal_tag: np.eye(LARGE) + 0.1 * np.eye(LARGE, k=2),
    lx.unit_diagonal_tag: np.tril(GENERAL),
    lx.lower_triangular_tag: np.triu(GENERAL),
    lx.upper_triangular_tag: np.tril(GENERAL),
    lx.positive_semidefinite_tag: HERMITIAN,
    lx.negative_semidefinite_tag: np.diag(np.arange(LARGE) - 3.0),
    lx.nonsingular_tag: np.diag(np.arange(LARGE) * 1.0),
}
KEPT = {  # and one that keeps it
    lx.symmetric_tag: GENERAL + GENERAL.T,
    lx.hermitian_tag: HERMITIAN,
    lx.diagonal_tag: np.diag(GENERAL[0]),
    lx.tridiagonal_tag: np.triu(np.tril(GENERAL, 1), -1),
    lx.unit_diagonal_tag: np.tril(GENERAL, -1) + np.eye(LARGE),
    lx.lower_triangular_tag: np.tril(GENERAL),
    lx.upper_triangular_tag: np.triu(GENERAL),
    lx.positive_semidefinite_tag: GENERAL[:, :3] @ GENERAL[:, :3].conj().T,
    lx.negative_semidefinite_tag: -GENERAL @ GENERAL.conj().T,
    lx.nonsingular_tag: GENERAL,
}


def _verify(operator, large):
    return lx.verify(operator, KEY, dense_up_to=SMALL if large else 256)


def _operator(matrix, tags=(), dtype=complex):
    matrix = jnp.asarray(matrix, dtype)
    return lx.FunctionLinearOperator(
        lambda x: matrix @ x, jnp.zeros(matrix.shape[1], dtype), tags
    )


@pytest.mark.parametrize("large", [False, True], ids=["dense", "probes"])
@pytest.mark.parametrize("tag", KEPT, ids=repr)
def test_every_tag(tag, large):
    kept = _verify(_operator(KEPT[tag], tag), large)
    assert kept.ok and not kept.broken, kept
    assert tag.name in [check.promise for check in kept.checks]
    broken = _verify(_operator(BROKEN[tag], tag), large)
    assert not broken.ok and tag.name in broken.broken, broken


@pytest.mark.parametrize("large", [False, True], ids=["dense", "probes"])
@pytest.mark.parametrize("shape", [(LARGE, 3), (3, LARGE)])
def test_rectangular(shape, large):
    matrix = GENERAL[: shape[0], : shape[1]]
    tags = lx.lower_triangular_tag, lx.tridiagonal_tag, lx.nonsingular_tag
    banded = np.tril(np.triu(matrix, -1))
    assert _verify(_operator(banded, tags), large).ok
    report = _verify(_operator(np.ones(shape), tags), large)
    assert set(report.broken) == {"lower_triangular", "tridiagonal", "nonsingular"}


def test_matrix_and_its_tag_disagree():
    """A matrix tagged diagonal acts as its diagonal, but still holds the rest."""
    report = lx.verify(lx.MatrixLinearOperator(jnp.ones((2, 2)), lx.diagonal_tag), KEY)
    assert {"as_matrix", "diagonal"} <= set(report.broken)


def test_not_linear():
    for fn in (lambda x: x + 1, jnp.abs):
        report = lx.verify(_FunctionOnly(fn), KEY)
        assert "linearity" in report.broken


class _FunctionOnly(lx.AbstractLinearOperator):
    """An operator made of any function."""

    fn: object
    reflected: object = None

    def mv(self, vector):
        return self.fn(vector)

    def as_matrix(self):
        return jnp.eye(3)

    def transpose(self):
        return _FunctionOnly(self.reflected or self.fn, self.fn)

    def in_structure(self):
        return jax.ShapeDtypeStruct((3,), jnp.float64)

    def out_structure(self):
        return jax.ShapeDtypeStruct((3,), jnp.float64)


def test_wrong_transpose_and_matrix():
    report = lx.verify(_FunctionOnly(jnp.cumsum), KEY)
    assert set(report.broken) == {"transpose", "adjoint", "as_matrix"}
    right = _FunctionOnly(jnp.cumsum, lambda x: jnp.cumsum(x[::-1])[::-1])
    assert lx.verify(right, KEY).broken == ("as_matrix",)


def test_wrong_structure():
    report = lx.verify(_FunctionOnly(lambda x: x[:2]), KEY)
    (check,) = report.checks
    assert not check.ok and "`mv` gives f64[2], not f64[3]" in check.promise


def test_nan_is_broken():
    report = lx.verify(_operator(np.full((3, 3), np.nan), lx.nonsingular_tag), KEY)
    assert {"linearity", "as_matrix", "nonsingular"} <= set(report.broken)
    large = _verify(
        _operator(np.full((LARGE, LARGE), np.nan), lx.nonsingular_tag), True
    )
    assert "nonsingular" in large.broken


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_precision(dtype):
    """Rounding is no broken promise, in any precision."""
    a = lx.MatrixLinearOperator(jnp.asarray(GENERAL.real, dtype))
    assert _verify(a.H @ a, large=True).ok and _verify(a.H @ a, large=False).ok


def test_tolerance():
    nearly = _operator(np.eye(3) + 1e-6 * np.eye(3, k=1), lx.symmetric_tag)
    assert not lx.verify(nearly, KEY).ok
    assert lx.verify(nearly, KEY, rtol=1e-5).ok


@pytest.mark.parametrize("structure", [(), [jnp.zeros(0)], {"a": jnp.zeros((0, 2))}])
def test_nothing(structure):
    operator = lx.IdentityLinearOperator(structure)
    assert lx.verify(operator, KEY).ok


@pytest.mark.standard_promotion
def test_pytrees_of_mixed_dtypes():
    operator = lx.DiagonalLinearOperator([jnp.ones(2), 1j * jnp.ones(20, "complex64")])
    assert _verify(operator, large=True).ok and _verify(operator, large=False).ok


def test_report_reads_as_a_table():
    report = lx.verify(_operator(np.eye(2, k=1), lx.symmetric_tag, float), KEY)
    lines = str(report).splitlines()
    assert lines[0] == "FunctionLinearOperator(f64[2, 2], symmetric)"
    assert lines[1].split() == ["promise", "error", "tolerance", "checked", "by"]
    (line,) = [line for line in lines if line.split()[1] == "symmetric"]
    assert line.startswith("BROKEN") and "1.0e+00" in line and "elements" in line


def test_throw():
    operator = _operator(np.eye(2, k=1), lx.symmetric_tag, float)
    with pytest.raises(ValueError, match="is not what it claims to be: .*symmetric"):
        lx.verify(operator, KEY, throw=True)
    assert lx.verify(_operator(np.eye(2)), KEY, throw=True).ok


def test_eager_only():
    matrix = jnp.eye(2)
    for fn in (
        lambda m: lx.verify(lx.MatrixLinearOperator(m), KEY).ok,
        lambda m: lx.verify(lx.MatrixLinearOperator(matrix), KEY).ok,
    ):
        with pytest.raises(ValueError, match="cannot be traced; call it outside `jit`"):
            jax.jit(fn)(matrix)
    with pytest.raises(ValueError, match="`verify` takes a linear operator"):
        lx.verify(matrix, KEY)
