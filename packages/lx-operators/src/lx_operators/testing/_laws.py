"""The laws."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._functions import (
    adjoint_product,
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._properties import known
from .._structures import (
    common_dtype,
    describe,
    is_complex,
    is_real,
    size_of,
    structure_of,
    structures_of,
)
from .._tags import (
    diagonal_tag,
    implied,
    positive_semidefinite_tag,
)
from ._checks import check_derivative, check_fields, check_promotion
from ._running import available_dtypes, run_laws
from ._subject import (
    QUESTIONS,
    Subject,
    claims,
    norm,
    ravel_leaves,
    times,
    vector_of,
    wide,
)

_MADE: dict[tuple[type, str], "Subject"] = {}


class OperatorLaws:
    """The laws that every linear operator obeys. Subclass it, and define `make`.

    Class attributes, which a subclass may override:

    - `dtypes`: the dtypes to call `make` with; 64-bit ones only while x64 is enabled.
    - `promotes`: whether `mv` takes vectors of other dtypes than `in_structure()`.
    - `differentiable`: whether products can be differentiated with respect to the
      operator's arrays.
    - `seed`: the seed of all random numbers.

    ```python
    class TestScaled(lx.testing.OperatorLaws):
        def make(self, dtype, key):
            return 2.0 * lx.MatrixLinearOperator(jax.random.normal(key, (3, 2), dtype))

        def matrix(self, operator):
            return 2.0 * np.asarray(operator.operator.matrix)

    TestScaled().check()
    ```
    """

    dtypes: tuple[str, ...] = ("float32", "float64", "complex64", "complex128")
    promotes: bool = True
    differentiable: bool = True
    seed: int = 0

    def make(self, dtype: str, key: Array) -> AbstractLinearOperator:
        """An operator of small size (say 3 to 6) with elements of about one."""
        raise NotImplementedError

    def matrix(self, operator: AbstractLinearOperator) -> np.ndarray | None:
        """The operator's dense matrix, if it is known independently."""
        return None

    def check(self) -> None:
        """Run all laws for all dtypes, without pytest.

        Raises:
            AssertionError: naming every law that fails.
        """
        run_laws(self, self._dtypes())

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tells pytest of the dtypes."""
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", self._dtypes())

    def _dtypes(self) -> list[str]:
        return available_dtypes(self.dtypes)

    def _subject(self, dtype: str) -> "Subject":
        """The operator under test: made once for each class and dtype."""
        if (type(self), dtype) not in _MADE:
            operator = self.make(dtype, jax.random.key(self.seed))
            _MADE[type(self), dtype] = Subject(operator, dtype)
        subject = _MADE[type(self), dtype]
        subject.reseed(self.seed)
        return subject

    # What an operator is

    def test_structures(self, dtype):
        """Structures have floating or complex leaves, and products have these
        structures."""
        subject = self._subject(dtype)
        operator, (ins, outs) = subject.operator, structures_of(subject.operator)
        for leaf in jtu.tree_leaves((ins, outs)):
            subject.demand(
                isinstance(leaf, jax.ShapeDtypeStruct)
                and jnp.issubdtype(leaf.dtype, jnp.inexact)
                and leaf == jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
                f"{leaf} is no plain `ShapeDtypeStruct` of inexact dtype",
            )
        given = structure_of(operator.mv(subject.vector()))
        subject.demand(
            given == outs, f"`mv` gives {describe(given)}, not {describe(outs)}"
        )
        subject.equal(operator.in_size(), size_of(ins), "in_size")
        subject.equal(operator.out_size(), size_of(outs), "out_size")

    def test_linearity(self, dtype):
        """A(ax + by) = a Ax + b Ay."""
        subject = self._subject(dtype)
        ins, _ = structures_of(subject.operator)
        a, b = (0.7 + 0.4j, -1.3j) if is_complex(ins) else (0.7, -1.3)
        x, y = subject.flat(ins), subject.flat(ins)
        apart = a * subject.times(x) + b * subject.times(y)
        subject.close(subject.times(a * x + b * y), apart, "A(ax + by)")

    def test_matrix(self, dtype):
        """`as_matrix` is the matrix of the products, in the common dtype."""
        subject = self._subject(dtype)
        matrix = subject.operator.as_matrix()
        subject.close(matrix, subject.dense, "as_matrix()")
        x = subject.flat(structures_of(subject.operator)[0])
        subject.close(subject.times(x), subject.dense @ x, "mv")
        subject.equal(
            matrix.dtype,
            common_dtype(*structures_of(subject.operator)),
            "as_matrix().dtype",
        )
        expected = self.matrix(subject.operator)
        if expected is not None:
            subject.close(matrix, expected, "as_matrix() against `matrix`")

    def test_transpose(self, dtype):
        """`.T` has the transposed matrix and structures."""
        subject = self._subject(dtype)
        subject.reflected(subject.operator.T, subject.dense.T, "T")

    def test_transpose_of_transpose(self, dtype):
        """(Aᵀ)ᵀ = A."""
        subject = self._subject(dtype)
        subject.same(subject.operator.T.T, subject.dense, "T.T")

    def test_adjoint(self, dtype):
        """⟨y, Ax⟩ = ⟨Aᴴy, x⟩, and `.H` is the conjugate transpose."""
        subject = self._subject(dtype)
        operator = subject.operator
        subject.reflected(operator.H, subject.dense.conj().T, "H")
        subject.reflected(operator.adjoint(), subject.dense.conj().T, "adjoint()")
        ins, outs = structures_of(operator)
        x, y = subject.flat(ins), subject.flat(outs)
        left = np.vdot(y, subject.times(x))
        right = np.vdot(times(operator.H, y), x)
        subject.close(left, right, "⟨y, Ax⟩", scale=norm(x) * norm(y))
        product = wide(ravel_leaves(adjoint_product(operator)(vector_of(y, outs))))
        subject.close(product, subject.dense.conj().T @ y, "Aᴴy", scale=norm(y))

    def test_conj(self, dtype):
        """`conj` gives the conjugate matrix; applied twice, it changes nothing."""
        subject = self._subject(dtype)
        conjugate = conj(subject.operator)
        subject.same(conjugate, subject.dense.conj(), "conj")
        subject.same(conj(conjugate), subject.dense, "conj(conj)")

    def test_linearise(self, dtype):
        """`linearise` is the same map, and knows as much."""
        subject = self._subject(dtype)
        linear = linearise(subject.operator)
        subject.same(linear, subject.dense, "linearise")
        subject.knows(linear, known(subject.operator), "linearise")

    def test_materialise(self, dtype):
        """`materialise` is the same map, and knows as much."""
        subject = self._subject(dtype)
        stored = materialise(subject.operator)
        subject.same(stored, subject.dense, "materialise")
        subject.knows(stored, known(subject.operator), "materialise")

    def test_diagonal(self, dtype):
        """`diagonal` is the diagonal of the matrix."""
        subject = self._subject(dtype)
        subject.close(diagonal(subject.operator), np.diagonal(subject.dense), "diag")

    def test_tridiagonal(self, dtype):
        """`tridiagonal` gives the diagonals of the matrix; for a rectangular operator
        it raises."""
        subject = self._subject(dtype)
        m, n = subject.dense.shape
        if m != n:
            try:
                tridiagonal(subject.operator)
            except ValueError:
                return
            subject.fail("`tridiagonal` of a rectangular operator raised no ValueError")
        bands = tridiagonal(subject.operator)
        for band, offset in zip(bands, (0, -1, 1), strict=True):
            # NumPy has no off-diagonals of a 0×0 matrix
            expected = np.diagonal(subject.dense, offset) if n else np.zeros(0)
            subject.close(band, expected, f"diagonal {offset}")

    # What is known of it

    def test_tags(self, dtype):
        """Every property that is claimed is true of the dense matrix."""
        subject = self._subject(dtype)
        subject.honest(subject.operator, subject.dense, "A")
        subject.honest(subject.operator.T, subject.dense.T, "A.T")
        subject.honest(subject.operator.H, subject.dense.conj().T, "A.H")
        subject.honest(conj(subject.operator), subject.dense.conj(), "conj(A)")

    def test_implications(self, dtype):
        """All implications of claimed tags are claimed."""
        subject = self._subject(dtype)
        claimed = claims(subject.operator)
        real = is_real(*structures_of(subject.operator))
        if subject.dense.shape == (1, 1):
            claimed |= {diagonal_tag}
        missing = implied(claimed, real) & frozenset(QUESTIONS) - claimed
        subject.demand(not missing, f"{set(claimed)} imply {set(missing)}")

    def test_algebra(self, dtype):
        """Sums, products and scalings have the matrices they should have, and claim
        only what is true."""
        subject = self._subject(dtype)
        a, d = subject.operator, subject.dense
        h, dh = a.H, d.conj().T
        composites = {
            "A + A": (a + a, d + d),
            "A - A": (a - a, d - d),
            "-A": (-a, -d),
            "2 * A": (2 * a, 2 * d),
            "A / -2.0": (a / -2.0, d / -2.0),
            "0 * A": (0 * a, 0 * d),
            "A.H @ A": (h @ a, dh @ d),
            "A @ A.T": (a @ a.T, d @ d.T),
            "(A.H @ A) @ (A.H @ A)": ((h @ a) @ (h @ a), dh @ d @ dh @ d),
        }
        for name, (operator, matrix) in composites.items():
            subject.close(operator.as_matrix(), matrix, name)
            x = subject.flat(structures_of(operator)[0])
            subject.close(times(operator, x), matrix @ x, f"({name}).mv")
            subject.honest(operator, matrix, name)
        gram = claims(h @ a)
        subject.demand(positive_semidefinite_tag in gram, "A.H @ A is not known as psd")

    # How it behaves under JAX's transformations

    def test_jit(self, dtype):
        """Products under `eqx.filter_jit`, with the operator as argument and as
        constant."""
        subject = self._subject(dtype)
        x = subject.vector()
        expected = wide(ravel_leaves(subject.operator.mv(x)))
        inside = eqx.filter_jit(lambda operator, x: operator.mv(x))(subject.operator, x)
        subject.close(ravel_leaves(inside), expected, "mv of an argument")
        around = jax.jit(lambda x: subject.operator.mv(x))(x)
        subject.close(ravel_leaves(around), expected, "mv of a constant")

    def test_vmap(self, dtype):
        """Products with a batch of vectors."""
        subject = self._subject(dtype)
        ins, _ = structures_of(subject.operator)
        columns = [subject.flat(ins) for _ in range(3)]
        vectors = [vector_of(x, ins) for x in columns]
        batch = jtu.tree_map(lambda *leaves: jnp.stack(leaves), *vectors)
        times = jax.vmap(lambda x: ravel_leaves(subject.operator.mv(x)), axis_size=3)
        out = times(batch)
        subject.close(out.T, subject.dense @ np.stack(columns, axis=1), "batch")

    def test_jvp(self, dtype):
        """A product is its own derivative."""
        subject = self._subject(dtype)
        ins, _ = structures_of(subject.operator)
        x, v = subject.flat(ins), subject.flat(ins)
        vectors = (vector_of(x, ins),), (vector_of(v, ins),)
        _, out = jax.jvp(lambda x: subject.operator.mv(x), *vectors)
        subject.close(ravel_leaves(out), subject.dense @ v, "jvp")

    def test_vjp(self, dtype):
        """The reverse derivative of a product is the product of the transpose."""
        subject = self._subject(dtype)
        _, outs = structures_of(subject.operator)
        y = subject.flat(outs)
        _, vjp = jax.vjp(lambda x: subject.operator.mv(x), subject.vector())
        (out,) = vjp(vector_of(y, outs))
        subject.close(ravel_leaves(out), subject.dense.T @ y, "vjp")

    def test_linear_transpose(self, dtype):
        """JAX's transpose of a product is the product of the transpose."""
        subject = self._subject(dtype)
        ins, outs = structures_of(subject.operator)
        y = subject.flat(outs)
        transpose = jax.linear_transpose(lambda x: subject.operator.mv(x), ins)
        (out,) = transpose(vector_of(y, outs))
        subject.close(ravel_leaves(out), subject.dense.T @ y, "linear_transpose")

    def test_derivative(self, dtype):
        """The derivative with respect to the operator's arrays is a difference quotient
        of its matrix, and what `TangentLinearOperator` gives."""
        if self.differentiable:
            check_derivative(self._subject(dtype))

    # What it takes, and how it looks

    def test_promotion(self, dtype):
        """A real operator takes complex vectors, and any operator takes wider ones and
        integers; dtypes promote by JAX's rules."""
        if not self.promotes:
            return
        with jax.numpy_dtype_promotion("standard"):
            check_promotion(self._subject(dtype))

    def test_pytree(self, dtype):
        """An operator is a pytree: flattened and unflattened, it is the same."""
        subject = self._subject(dtype)
        leaves, treedef = jtu.tree_flatten(subject.operator)
        again = jtu.tree_unflatten(treedef, leaves)
        subject.same(again, subject.dense, "unflattened")
        subject.knows(again, known(subject.operator), "unflattened")

    def test_fields(self, dtype):
        """An operator is exactly its fields: no question changes its pytree. So a
        function of it is traced once, and equal operators add leaf by leaf."""
        check_fields(self._subject(dtype))

    def test_printing(self, dtype):
        """An operator prints on one line, also while it is traced."""
        subject = self._subject(dtype)
        text = repr(subject.operator)
        subject.demand(text and "\n" not in text, f"{text!r} is no single line")
        seen = []

        def trace(operator: AbstractLinearOperator) -> None:
            seen.append(repr(operator))

        eqx.filter_jit(trace)(subject.operator)
        subject.equal(seen, [text], "text of a traced operator")
