"""The settings of a process: x64 off, strict promotion, rank promotion."""

import pytest

LAWS = """
import jax, jax.numpy as jnp, lx_operators as lx
from lx_operators.testing import OperatorLaws

class Laws(OperatorLaws):
    promotes = {promotes}
    dtypes = {dtypes}
    test_algebra = lambda self, dtype: None  # the operator itself is enough algebra

    def structure(self, *shape):
        return jax.ShapeDtypeStruct(shape, jnp.dtype(self.dtype))

    def make(self, dtype, key):
        self.dtype = dtype
        a = jax.random.normal(key, (3, 3), dtype)
        m = lx.MatrixLinearOperator(a)
        t = lx.TridiagonalLinearOperator(a[0], a[1, 1:], a[2, 1:])
        f = lx.FunctionLinearOperator(lambda x: a @ x, self.structure(3))
        j = lx.JacobianLinearOperator(lambda x, _: x * x, a[1])
        p = lx.PyTreeLinearOperator([a], [self.structure(3)])
        i = lx.IdentityLinearOperator(self.structure(3), [self.structure(3)])
        return p + i @ ((2 * m + t @ f) @ j - lx.DiagonalLinearOperator(a[2])) / 3

for setting, value in {settings}:
    jax.config.update(setting, value)
Laws().check()
operator = Laws().make("float32", jax.random.key(0))
assert lx.verify(operator, jax.random.key(1)).ok
assert lx.verify(operator, jax.random.key(1), dense_up_to=0).ok
assert operator.mv(jnp.ones(3, "float32"))[0].dtype == jnp.float32
"""


@pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
def test_strict(run_program, x64):
    """Strict dtype promotion, and rank promotion an error."""
    settings = [
        ("jax_enable_x64", x64),
        ("jax_numpy_dtype_promotion", "strict"),
        ("jax_numpy_rank_promotion", "raise"),
    ]
    dtypes = ("complex128",) if x64 else ("float32",)
    run_program(LAWS.format(settings=settings, promotes=False, dtypes=dtypes))


def test_single_precision(run_program):
    dtypes = ("complex64", "float64")  # the last is left out
    run_program(LAWS.format(settings=[], promotes=True, dtypes=dtypes))


def test_strict_promotion_is_an_error_that_says_so(run_program):
    run_program(
        """
        import jax, jax.numpy as jnp, lx_operators as lx
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        narrow = lx.MatrixLinearOperator(jnp.ones((2, 2), "float32"))
        wide = lx.MatrixLinearOperator(jnp.ones((2, 2), "float64"))
        for mix in (
            lambda: narrow.mv(jnp.ones(2, "float64")),
            lambda: narrow.mv(jnp.ones(2, "complex64")),
            lambda: narrow + wide,
            lambda: narrow @ wide,
            lambda: 1j * narrow,
            lambda: jnp.ones((), "float64") * narrow,
            lambda: narrow / jnp.ones((), "complex64"),
        ):
            try:
                mix()
            except ValueError as error:
                assert "'strict'" in str(error), error
                assert "numpy_dtype_promotion" in str(error), error
            else:
                raise AssertionError("no error")
        assert (2.0 * narrow).mv(jnp.ones(2, "float32")).dtype == jnp.float32
        assert (3 * narrow / jnp.asarray(2)).out_structure().dtype == jnp.float32
        """
    )


def test_sharded(run_program):
    """Eight devices: automatic and explicit sharding, and `shard_map`."""
    run_program(
        """
        import jax, jax.numpy as jnp, numpy as np, lx_operators as lx
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from lx_operators.internal import adjoint_product

        assert jax.device_count() == 8
        n = 16
        rng = np.random.default_rng(0)
        A, B = rng.normal(size=(2, n, n)).astype("float32")
        d, x = rng.normal(size=(2, n)).astype("float32")

        def operators(a, b, d):
            m = lx.MatrixLinearOperator(a)
            diagonal = lx.DiagonalLinearOperator(d)
            fn = lx.FunctionLinearOperator(lambda x: b @ x, jax.eval_shape(lambda: x))
            jac = lx.JacobianLinearOperator(lambda x, _: x**3 / 3, d)
            return {
                "m": m, "d": diagonal, "f": fn, "j": jac,
                "d@m": diagonal @ m, "m@d": m @ diagonal, "d@f": diagonal @ fn,
                "j@d": jac @ diagonal, "2*m+d": 2 * m + diagonal, "m.H@m": m.H @ m,
            }

        D, J = np.diag(d), np.diag(d**2)
        dense = {
            "m": A, "d": D, "f": B, "j": J, "d@m": D @ A, "m@d": A @ D, "d@f": D @ B,
            "j@d": J @ D, "2*m+d": 2 * A + D, "m.H@m": A.T @ A,
        }

        def close(got, wanted, what):
            error = np.max(abs(np.asarray(got) - wanted))
            assert error < 2e-5 * max(1, np.max(abs(wanted))), (what, error)

        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((8,), ("i",), axis_types=(kind,))
            with jax.set_mesh(mesh):

                def put(array, *spec):
                    return jax.device_put(array, NamedSharding(mesh, P(*spec)))

                # Explicitly sharded arrays meet only what is sharded alike, or not at
                # all: the diagonals are either whole or all that there is.
                explicit = kind == AxisType.Explicit
                a, b = put(A, "i", None), put(B, "i", None)
                for spec, names in (((), set(dense)), (("i",), {"d", "j", "j@d"})):
                    made = operators(a, b, put(d, *spec))
                    v = put(x, *spec)
                    for name in names if explicit else dense:
                        operator, what = made[name], f"{kind} {name} {spec}"
                        close(operator.mv(v), dense[name] @ x, what)
                        if not (explicit and "f" in name):  # `fn` says how it is summed
                            close(operator.T.mv(v), dense[name].T @ x, what + ".T")
                            adjoint = adjoint_product(operator)
                            close(adjoint(v), dense[name].T @ x, what + ".H")
                        if not (explicit and ("f" in name or spec)):
                            close(operator.as_matrix(), dense[name], what)
                        for space in operator.in_structure(), operator.out_structure():
                            assert space == jax.ShapeDtypeStruct((n,), "float32"), what
                    made = operators(a, b, put(d))
                assert lx.is_positive_semidefinite(made["m.H@m"])

        mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))

        def local(a, b, d, x):
            made = operators(a[0], b[0], d[0])
            out = {}
            for name, operator in made.items():
                assert operator.in_structure() == operator.out_structure()
                out[name] = operator.mv(x[0]), operator.T.mv(x[0]), operator.as_matrix()
            return jax.tree.map(lambda leaf: leaf[None], out)

        def stack(array):
            return jnp.stack([array] * 8)

        specs = (P("i"),) * 4
        out = jax.jit(
            jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("i"))
        )(stack(A), stack(B), stack(d), stack(x))
        for name, (mv, t, matrix) in out.items():
            close(mv[3], dense[name] @ x, name)
            close(t[3], dense[name].T @ x, name)
            close(matrix[3], dense[name], name)
        """,
        JAX_NUM_CPU_DEVICES="8",
    )
