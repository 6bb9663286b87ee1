"""`linear_solve`: arguments, dtypes, state, failure, many right-hand sides."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

RNG = np.random.default_rng(1)
M = RNG.standard_normal((4, 4)) + 4 * np.eye(4)
B = RNG.standard_normal(4)
OPERATOR = lxo.MatrixLinearOperator(jnp.asarray(M))


def close(ours, truth, rtol=1e-12):
    np.testing.assert_allclose(np.asarray(ours), truth, rtol=rtol, atol=1e-12)


def error_of(*args, **kwargs):
    with pytest.raises(ValueError) as info:
        lxa.linear_solve(*args, **kwargs)
    return str(info.value)


class TestArguments:
    def test_raw_array(self):
        text = error_of(jnp.asarray(M), jnp.asarray(B))
        assert "`operator`" in text and "MatrixLinearOperator(array)" in text

    def test_wrong_shape_shows_both(self):
        text = error_of(OPERATOR, jnp.ones(3))
        assert "f64[3]" in text and "f64[4]" in text and "`vector`" in text

    def test_solver_that_returns_something_else(self):
        class Bare(lxs.AbstractLinearSolver):
            def init(self, operator, options):
                return operator.as_matrix()

            def compute(self, state, vector, options):
                return jnp.linalg.solve(state, vector)

            def transpose(self, state, options):
                return state.T, options

            def conj(self, state, options):
                return state.conj(), options

            def assume_full_rank(self):
                return True

        with pytest.raises(TypeError, match="`Bare.compute` must return a solution"):
            lxa.linear_solve(OPERATOR, jnp.asarray(B), Bare())

    def test_list_of_numbers(self):
        assert "`jnp.asarray(vector)`" in error_of(OPERATOR, [1.0, 2.0, 3.0, 4.0])

    def test_unknown_option_is_warned_of_where_it_is_written(self):
        with pytest.warns(UserWarning, match="ignores the option 'y_0'") as record:
            solver = lxs.GMRES(rtol=1e-6)
            lxa.linear_solve(OPERATOR, jnp.asarray(B), solver, options={"y_0": B})
        assert record[0].filename == __file__

    def test_unknown_option_in_code_of_no_module(self):
        names = {"solve": lxa.linear_solve, "A": OPERATOR, "b": jnp.asarray(B)}
        with pytest.warns(UserWarning, match="ignores the option 'y_0'"):
            exec("solve(A, b, options={'y_0': b})", names)

    def test_wrong_tree_shows_both(self):
        text = error_of(OPERATOR, {"a": jnp.ones(4)})
        assert "{'a': f64[4]}" in text and "f64[4]" in text

    def test_vector_that_is_no_array(self):
        assert "`vector`" in error_of(OPERATOR, "four")

    def test_solver_class_instead_of_instance(self):
        assert "LU(...)" in error_of(OPERATOR, jnp.asarray(B), lxs.LU)

    def test_not_square(self):
        text = error_of(lxo.MatrixLinearOperator(jnp.ones((3, 4))), jnp.ones(3))
        assert "3 by 4" in text and "well_posed=None" in text

    def test_missing_tag(self):
        text = error_of(OPERATOR, jnp.asarray(B), lxs.Cholesky())
        assert "Cholesky" in text and "positive_semidefinite_tag" in text

    @pytest.mark.parametrize("numbers", [(True, 1, 1.0), (0.0, -0.0)])
    def test_numbers_that_compare_equal_are_not_the_same(self, numbers):
        """Python numbers are static: none may run what another one compiled."""

        def fn(x, number):
            kind = (bool, int, float).index(type(number))
            return (2 + kind) * np.copysign(1.0, number) * x

        for number in numbers:
            operator = lxo.JacobianLinearOperator(
                fn, jnp.ones(2), number, closure_convert=False
            )
            value = lxa.linear_solve(operator, jnp.ones(2)).value
            close(value, 1 / fn(np.ones(2), number))

    def test_foreign_state(self):
        state = lxs.QR().init(OPERATOR, {})
        text = error_of(OPERATOR, jnp.asarray(B), lxs.LU(), state=state)
        assert "`state`" in text and "LU()" in text

    @pytest.mark.parametrize(
        "other",
        [
            lxo.MatrixLinearOperator(jnp.eye(3)),
            lxo.MatrixLinearOperator(jnp.eye(4, dtype=jnp.float32)),
            lxo.MatrixLinearOperator(jnp.eye(4, dtype=jnp.complex128)),
        ],
        ids=str,
    )
    def test_state_of_another_structure_or_dtype(self, other):
        state = lxs.LU().init(other, {})
        text = error_of(OPERATOR, jnp.asarray(B), lxs.LU(), state=state)
        assert "`state`" in text and "f64[4, 4]" in text and "solver.init" in text

    def test_state_of_another_automatic_choice(self):
        psd = lxo.MatrixLinearOperator(jnp.eye(4), lxo.positive_semidefinite_tag)
        state = lxa.linear_solve(psd, jnp.asarray(B)).state
        assert "`state`" in error_of(OPERATOR, jnp.asarray(B), state=state)

    def test_unknown_option_warns_with_the_nearest_name(self):
        psd = lxo.MatrixLinearOperator(jnp.eye(4), lxo.positive_semidefinite_tag)
        options = {"precondtioner": lxo.MatrixLinearOperator(jnp.eye(4))}
        with pytest.warns(UserWarning, match="preconditioner"):
            lxa.linear_solve(psd, jnp.asarray(B), lxs.CG(1e-6, 1e-6), options=options)


class TestDtypes:
    @pytest.mark.standard_promotion
    @pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR(), lxs.SVD()])
    @pytest.mark.parametrize("vector", ["int32", "float32", "float64", "complex64"])
    @pytest.mark.parametrize("matrix", ["float32", "float64", "complex128"])
    def test_promotion(self, solver, matrix, vector):
        a, b = M.astype(matrix), (3 * B).astype(vector)
        solution = lxa.linear_solve(lxo.MatrixLinearOperator(a), jnp.asarray(b), solver)
        # integers become floating as JAX's do
        floating = "float64" if vector == "int32" else vector
        assert solution.value.dtype == jnp.promote_types(matrix, floating)
        single = "64" not in str(solution.value.dtype) or matrix == "float32"
        rtol = 1e-4 if single or vector == "complex64" else 1e-11
        np.testing.assert_allclose(solution.value, np.linalg.solve(a, b), rtol=rtol)

    @pytest.mark.standard_promotion
    def test_complex_vector_reuses_a_real_state(self):
        state = lxs.LU().init(OPERATOR, {})
        b = B + 1j * B[::-1]
        solution = lxa.linear_solve(OPERATOR, jnp.asarray(b), lxs.LU(), state=state)
        close(solution.value, np.linalg.solve(M, b))
        assert solution.result == lxs.RESULTS.successful

    @pytest.mark.standard_promotion
    def test_state_of_a_narrower_operator(self):
        narrow = lxo.MatrixLinearOperator(jnp.asarray(M, jnp.float32))
        state = lxs.LU().init(narrow, {})
        assert "state" in error_of(narrow, jnp.asarray(B), lxs.LU(), state=state)

    def test_strict_promotion(self):
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            close(
                lxa.linear_solve(OPERATOR, jnp.asarray(B)).value, np.linalg.solve(M, B)
            )
            text = error_of(OPERATOR, jnp.asarray(B, jnp.float32))
            assert "f32[4]" in text and "strict" in text

    @pytest.mark.parametrize("solver", [lxs.LU(), lxs.SVD(), lxs.GMRES(1e-6, 1e-6)])
    @pytest.mark.parametrize("reuse", [False, True])
    def test_mixed_precision(self, solver, reuse):
        """The solution has the input structure, and a state belongs to its operator."""

        def fn(x):
            y = jnp.asarray(M) @ jnp.append(x[0].astype("float64"), x[1])
            return y[:2].astype("float32"), y[2:]

        b = jnp.asarray(B[:2], "float32"), jnp.asarray(B[2:])
        operator = lxo.FunctionLinearOperator(fn, b)
        state = {"state": solver.init(operator, {})} if reuse else {}

        def solve(b):
            return lxa.linear_solve(operator, b, solver, **state).value

        value, pullback = jax.vjp(solve, b)
        assert [x.dtype for x in value] == ["float32", "float64"]
        truth = np.linalg.solve(M, np.append(*b))
        np.testing.assert_allclose(np.append(*value), truth, rtol=1e-5, atol=1e-6)
        (back,) = pullback(b)
        truth = np.linalg.solve(M.T, np.append(*b))
        np.testing.assert_allclose(np.append(*back), truth, rtol=1e-5, atol=1e-6)

    def test_pytrees(self):
        structure = {"u": jax.ShapeDtypeStruct((3,), float), "v": jnp.array(0.0)}
        weights = jnp.asarray(M)

        def fn(x):
            flat = weights @ jnp.append(x["u"], x["v"])
            return {"u": flat[:3], "v": flat[3]}

        operator = lxo.FunctionLinearOperator(fn, structure)
        b = {"u": jnp.asarray(B[:3]), "v": jnp.asarray(B[3])}
        value = lxa.linear_solve(operator, b).value
        close(jnp.append(value["u"], value["v"]), np.linalg.solve(M, B))


class TestFailure:
    SINGULAR = lxo.MatrixLinearOperator(jnp.ones((2, 2)))

    def test_eager(self):
        with pytest.raises(eqx.EquinoxRuntimeError) as info:
            lxa.linear_solve(self.SINGULAR, jnp.ones(2), lxs.LU())
        text = str(info.value)
        for word in (
            "singular",
            "MatrixLinearOperator(f64[2, 2])",
            "LU()",
            "throw=False",
        ):
            assert word in text

    def test_filter_jit(self):
        with pytest.raises(eqx.EquinoxRuntimeError, match="singular"):
            eqx.filter_jit(lxa.linear_solve)(self.SINGULAR, jnp.ones(2), lxs.LU())

    def test_reported(self):
        solution = lxa.linear_solve(self.SINGULAR, jnp.ones(2), lxs.LU(), throw=False)
        assert solution.result == lxs.RESULTS.singular
        assert "singular" in lxs.RESULTS[solution.result]

    def test_figures_are_in_the_text(self):
        psd = lxo.TaggedLinearOperator(
            lxo.DiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0])),
            lxo.positive_semidefinite_tag,
        )
        with pytest.raises(eqx.EquinoxRuntimeError, match="num_steps = 1"):
            lxa.linear_solve(psd, jnp.ones(3), lxs.CG(1e-9, 1e-9, max_steps=1))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR(), lxs.SVD(), lxs.Diagonal()])
    def test_nonfinite_input(self, solver, bad):
        operator = lxo.DiagonalLinearOperator(jnp.array([1.0, 0.0]))
        vector = jnp.array([1.0, bad])
        solution = lxa.linear_solve(operator, vector, solver, throw=False)
        assert solution.result == lxs.RESULTS.nonfinite_input

    @pytest.mark.parametrize("mode", ["jvp", "vjp"])
    def test_derivative_of_a_failed_solve_is_nan_and_does_not_raise(self, mode):
        def solve(matrix):
            operator = lxo.MatrixLinearOperator(matrix)
            return lxa.linear_solve(operator, jnp.ones(2), lxs.LU(), throw=False).value

        jacobian = {"jvp": jax.jacfwd, "vjp": jax.jacrev}[mode](solve)
        assert jnp.all(jnp.isnan(jax.jit(jacobian)(jnp.ones((2, 2)))))

    @pytest.mark.parametrize("mode", ["jvp", "vjp"])
    def test_derivative_of_a_failed_solve_whose_own_solves_succeed(self, mode):
        """Two steps are too few for b, but enough for the tangent's solve, which would
        be a finite derivative of the wrong solution."""
        matrix = jnp.diag(jnp.array([1.0, 2.0, 3.0]))

        def solve(scale):
            operator = lxo.MatrixLinearOperator(
                matrix.at[0, 0].multiply(scale), lxo.positive_semidefinite_tag
            )
            solver = lxs.CG(1e-9, 1e-9, max_steps=2)
            return lxa.linear_solve(operator, jnp.ones(3), solver, throw=False).value

        jacobian = {"jvp": jax.jacfwd, "vjp": jax.jacrev}[mode](solve)
        assert jnp.all(jnp.isnan(jacobian(1.0)))

    def test_how_a_derivative_ended(self):
        """Three steps are enough for b, not for a cotangent: NaN there alone, and the
        same solve, done by hand, tells why."""
        d = jnp.arange(1.0, 7.0)
        operator = lxo.TaggedLinearOperator(
            lxo.DiagonalLinearOperator(d), lxo.positive_semidefinite_tag
        )
        solver = lxs.CG(1e-9, 1e-9, max_steps=3)

        def solve(b):
            return lxa.linear_solve(operator, b, solver, throw=False).value

        easy, hard = d * jnp.eye(6)[0], jnp.ones(6)
        value, pullback = jax.vjp(solve, easy)
        close(value, np.eye(6)[0])
        close(pullback(easy)[0], np.eye(6)[0])
        assert jnp.all(jnp.isnan(pullback(hard)[0]))
        assert jnp.all(jnp.isnan(jax.jvp(solve, (easy,), (hard,))[1]))
        by_hand = lxa.linear_solve(operator.T, hard, solver, throw=False)
        assert by_hand.result == lxs.RESULTS.max_steps_reached

    def test_without_unknowns(self):
        @jax.jit
        def solve():
            return lxa.linear_solve(lxo.DiagonalLinearOperator({}), {})

        assert solve().value == {}
        assert solve().result == lxs.RESULTS.successful

    def test_no_callback_without_throw(self):
        def loss(matrix, throw):
            operator = lxo.MatrixLinearOperator(matrix)
            solution = lxa.linear_solve(operator, jnp.asarray(B), throw=throw)
            return jnp.sum(solution.value)

        lowered = [
            jax.jit(jax.grad(loss), static_argnums=1).lower(M, throw).as_text()
            for throw in (False, True)
        ]
        assert "callback" not in lowered[0] and "callback" in lowered[1]


class TestOptions:
    def test_no_derivative(self):
        """A preconditioner that is built from the differentiated matrix, and a first
        guess that depends on it: neither moves the derivative."""
        psd = jnp.asarray(M @ M.T)

        def solve(matrix):
            tags = lxo.positive_semidefinite_tag
            preconditioner = lxo.TaggedLinearOperator(
                lxo.DiagonalLinearOperator(1 / jnp.diag(matrix)), tags
            )
            options = {"preconditioner": preconditioner, "y0": matrix[0]}
            operator = lxo.MatrixLinearOperator(matrix, tags)
            solver = lxs.CG(1e-13, 1e-13)
            return lxa.linear_solve(
                operator, jnp.asarray(B), solver, options=options
            ).value

        def truth(matrix):
            return jnp.linalg.solve(matrix, jnp.asarray(B))

        direction = psd @ psd  # a symmetric one
        for ours in (solve, jax.jit(solve)):
            _, tangent = jax.jvp(ours, (psd,), (direction,))
            close(tangent, jax.jvp(truth, (psd,), (direction,))[1], rtol=1e-7)

    @pytest.mark.parametrize(
        "solver",
        [lxs.GMRES, lxs.FGMRES, lxs.BiCGStab, lxs.LSMR],
        ids=lambda s: s.__name__,
    )
    @pytest.mark.parametrize("dtype", ["float64", "complex128"])
    def test_preconditioner_of_the_transpose(self, solver, dtype):
        """The inverse as preconditioner: a solve takes three steps at most, but only
        with it, so that a derivative is NaN where it is not transposed as it must."""
        a = np.random.default_rng(7).standard_normal((2, 12, 12))
        a = (a[0] + (1j * a[1] if dtype == "complex128" else 0)) + 2 * np.eye(12)
        operator = lxo.MatrixLinearOperator(jnp.asarray(a))
        inverse = lxo.MatrixLinearOperator(jnp.asarray(np.linalg.inv(a)))
        few, b = solver(1e-8, 1e-8, max_steps=3), jnp.arange(12.0).astype(dtype)

        def solve(b, **options):
            return lxa.linear_solve(
                operator, b, few, options=options, throw=False
            ).value

        value, pullback = jax.vjp(lambda b: solve(b, preconditioner=inverse), b)
        close(value, np.linalg.solve(a, b), rtol=1e-7)
        close(pullback(b)[0], np.linalg.solve(a.T, b), rtol=1e-7)
        assert jnp.all(jnp.isnan(jax.vjp(solve, b)[1](b)[0]))

    def test_preconditioner_of_least_squares(self):
        """A tall operator's serves it alone; that of a wide one changes which solution
        it is, and has no transpose: an error, not a wrong derivative."""
        a, m = jnp.asarray(M[:, :3]), lxo.DiagonalLinearOperator(jnp.arange(1.0, 4.0))

        def solve(a, b):
            return lxa.linear_solve(
                lxo.MatrixLinearOperator(a),
                b,
                lxs.LSMR(1e-13, 1e-13),
                options={"preconditioner": m},
            ).value

        def truth(a, b):
            return jnp.linalg.solve(a.T @ a, a.T @ b)

        args, tangents = (a, jnp.asarray(B)), (a + 1, jnp.ones(4))
        close(
            jax.jvp(solve, args, tangents)[1], jax.jvp(truth, args, tangents)[1], 1e-9
        )
        with pytest.raises(ValueError, match="more columns than rows"):
            jax.vjp(lambda b: solve(a[:2], b), jnp.ones(2))[1](jnp.ones(3))

    def test_zero_gradient(self):
        def solve(y0):
            operator = lxo.MatrixLinearOperator(
                jnp.eye(2), lxo.positive_semidefinite_tag
            )
            solver, options = lxs.CG(1e-9, 1e-9), {"y0": y0}
            return lxa.linear_solve(
                operator, jnp.ones(2), solver, options=options
            ).value

        assert not jnp.any(jax.jacfwd(solve)(jnp.zeros(2)))
        assert not jnp.any(jax.jacrev(solve)(jnp.zeros(2)))

    def test_solver_is_not_differentiable(self):
        def solve(rtol):
            operator = lxo.MatrixLinearOperator(
                jnp.eye(2), lxo.positive_semidefinite_tag
            )
            return lxa.linear_solve(operator, jnp.ones(2), lxs.CG(rtol, 1e-9)).value

        with pytest.raises(ValueError, match="of its solver: `rtol`.*stop_gradient"):
            jax.jvp(solve, (1e-3,), (1.0,))


class TestState:
    @pytest.mark.parametrize(
        "solver",
        [
            lxs.LU(),
            lxs.QR(),
            lxs.SVD(),
            lxs.PivotedQR(),
            lxs.AutoLinearSolver(None),
            lxs.GMRES(1e-13, 1e-13),
        ],
        ids=repr,
    )
    def test_same_values_and_derivatives(self, solver):
        def solve(matrix, vector, reuse):
            operator = lxo.MatrixLinearOperator(matrix)
            state = {"state": solver.init(operator, {})} if reuse else {}
            return lxa.linear_solve(operator, vector, solver, **state).value

        a, b = jnp.asarray(M), jnp.asarray(B)
        for transform in (lambda f: f, lambda f: jax.jacrev(f, (0, 1)), jax.jacfwd):
            plain = transform(lambda a, b: solve(a, b, False))(a, b)
            reused = transform(lambda a, b: solve(a, b, True))(a, b)
            for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(reused)):
                close(x, y)

    def test_of_a_solution(self):
        first = lxa.linear_solve(OPERATOR, jnp.asarray(B))
        again = lxa.linear_solve(OPERATOR, jnp.asarray(B), state=first.state)
        close(again.value, first.value)


class TestIdentity:
    def test_equal_structures(self):
        operator = lxo.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), float))
        close(
            lxa.linear_solve(operator, jnp.arange(3.0), lxs.CG(1, 1)).value, [0, 1, 2]
        )

    def test_state_of_another_solver(self):
        operator = lxo.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), float))
        state = lxs.LU().init(operator, {})
        solution = lxa.linear_solve(operator, jnp.arange(3.0), lxs.LU(), state=state)
        close(solution.value, [0, 1, 2])

    @pytest.mark.parametrize("m, n", [(2, 3), (3, 2)])
    def test_pseudoinverse_between_others(self, m, n):
        def structure(k):
            return [
                jax.ShapeDtypeStruct((k - 1,), float),
                jax.ShapeDtypeStruct((), float),
            ]

        operator = lxo.IdentityLinearOperator(structure(n), structure(m))
        b = [jnp.arange(1.0, m), jnp.asarray(float(m))]
        solution = lxa.linear_solve(operator, b)
        truth = np.linalg.pinv(np.eye(m, n)) @ np.arange(1.0, m + 1)
        close(jnp.append(*solution.value), truth)

        def first(b):
            return lxa.linear_solve(operator, b).value[0]

        rows = jax.jacrev(first)(b)
        close(rows[0], np.linalg.pinv(np.eye(m, n))[: n - 1, : m - 1])

    def test_bad_vector_is_told(self):
        operator = lxo.IdentityLinearOperator(jax.ShapeDtypeStruct((1,), float))
        solution = lxa.linear_solve(operator, jnp.array([jnp.nan]), throw=False)
        assert solution.result == lxs.RESULTS.nonfinite_input


class TestManyRightHandSides:
    X = RNG.standard_normal((4, 3))

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_axis(self, axis):
        b = np.moveaxis(self.X, 1, axis)
        solution = lxa.linear_solve(OPERATOR, jnp.asarray(b), rhs_axis=axis)
        truth = np.moveaxis(np.linalg.solve(M, self.X), 1, axis)
        close(solution.value, truth)
        assert jnp.all(solution.result == lxs.RESULTS.successful)

    @pytest.mark.standard_promotion
    def test_rectangular_and_complex(self):
        tall = RNG.standard_normal((4, 2))
        operator = lxo.MatrixLinearOperator(jnp.asarray(tall))
        b = self.X + 1j
        solution = lxa.linear_solve(operator, jnp.asarray(b), lxs.QR(), rhs_axis=1)
        close(solution.value, np.linalg.pinv(tall) @ b)

    def test_derivative(self):
        def solve(a, b):
            operator = lxo.MatrixLinearOperator(a)
            return lxa.linear_solve(operator, b, lxs.LU(), rhs_axis=1).value

        args = jnp.asarray(M), jnp.asarray(self.X)
        ours = jax.jit(jax.jacrev(solve, (0, 1)))(*args)
        truth = jax.jacrev(jnp.linalg.solve, (0, 1))(*args)
        jax.tree.map(close, ours, truth)

    def test_one_factorisation_and_matrix_matrix_kernels(self):
        def solve(a, b):
            operator = lxo.MatrixLinearOperator(a)
            return lxa.linear_solve(
                operator, b, lxs.LU(), rhs_axis=1, throw=False
            ).value

        text = jax.jit(solve).lower(jnp.asarray(M), jnp.asarray(self.X)).as_text()
        assert text.count("getrf") == 1
        solves = [line for line in text.splitlines() if "trsm" in line]
        assert all('num_batch_dims = "0"' in line for line in solves)
        assert sum("tensor<4x3xf64>" in line for line in solves) == 2

    def test_a_failure_of_one_raises(self):
        b = jnp.asarray(self.X).at[0, 1].set(jnp.nan)
        solution = lxa.linear_solve(OPERATOR, b, rhs_axis=1, throw=False)
        bad = solution.result == lxs.RESULTS.nonfinite_input
        assert bad.tolist() == [False, True, False]
        with pytest.raises(eqx.EquinoxRuntimeError, match="nonfinite_input"):
            lxa.linear_solve(OPERATOR, b, rhs_axis=1)

    def test_ragged(self):
        operator = lxo.DiagonalLinearOperator({"a": jnp.ones(2), "b": jnp.ones(2)})
        b = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 4))}
        assert "rhs_axis=1" in error_of(operator, b, rhs_axis=1)

    def test_leaves_of_different_rank(self):
        operator = lxo.DiagonalLinearOperator({"a": 2 * jnp.ones((2, 3)), "s": 4.0})
        b = {"a": jnp.ones((2, 3, 5)), "s": jnp.ones(5)}
        value = lxa.linear_solve(operator, b, rhs_axis=-1).value
        close(value["a"], np.full((2, 3, 5), 0.5))
        close(value["s"], np.full(5, 0.25))
        text = error_of(operator, b, rhs_axis=2)
        assert "rhs_axis=2" in text and "f64[]" in text and "-1" in text

    def test_axis_that_the_solution_lacks(self):
        structure = jax.ShapeDtypeStruct((6,), float)
        operator = lxo.FunctionLinearOperator(lambda x: x.reshape(2, 3), structure)
        b = jnp.arange(24.0).reshape(2, 3, 4)
        close(
            lxa.linear_solve(operator, b, rhs_axis=-1).value,
            np.arange(24.0).reshape(6, 4),
        )
        assert "f64[6]" in error_of(operator, b, rhs_axis=2)

    def test_without_unknowns(self):
        operator = lxo.DiagonalLinearOperator({})
        assert lxa.linear_solve(operator, {}, rhs_axis=0).value == {}
        b = {"a": jnp.ones((2, 2)), "b": jnp.ones((2, 3))}
        assert "`vector`" in error_of(operator, b, rhs_axis=1)

    def test_none_at_all(self):
        value = lxa.linear_solve(OPERATOR, jnp.ones((4, 0)), rhs_axis=1).value
        assert value.shape == (4, 0)


class TestAdjointSolver:
    """The transposed solve may be done in another way than the forward one."""

    def loss(self, matrix, **kwargs):
        operator = lxo.MatrixLinearOperator(matrix)
        return jnp.sum(lxa.linear_solve(operator, jnp.asarray(B), **kwargs).value)

    def test_is_used_for_the_transpose_alone(self):
        kwargs = {"solver": lxs.LU(), "adjoint_solver": lxs.QR()}
        forward = str(jax.make_jaxpr(lambda a: self.loss(a, **kwargs))(M))
        backward = str(jax.make_jaxpr(jax.grad(lambda a: self.loss(a, **kwargs)))(M))
        assert "householder" not in forward and "geqrf" not in forward
        assert "geqrf" in backward or "householder" in backward

    def test_derivatives_agree(self):
        truth = jax.hessian(lambda a: jnp.sum(jnp.linalg.solve(a, jnp.asarray(B))))(M)
        kwargs = {"adjoint_solver": lxs.QR()}
        close(jax.hessian(lambda a: self.loss(a, **kwargs))(M), truth, rtol=1e-9)

    def test_options_of_its_own(self):
        psd = jnp.asarray(M @ M.T)
        tags = lxo.positive_semidefinite_tag
        options = {
            "preconditioner": lxo.MatrixLinearOperator(jnp.linalg.inv(psd), tags)
        }

        def solve(b):
            operator = lxo.MatrixLinearOperator(psd, tags)
            return lxa.linear_solve(
                operator, b, lxs.CG(1e-12, 1e-12), adjoint_options=options
            ).value

        close(jax.jacrev(solve)(jnp.asarray(B)), np.linalg.inv(psd), rtol=1e-9)
