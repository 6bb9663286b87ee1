"""The convergence vocabulary: scales, the test, exits, options."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_operators.internal import max_norm, two_norm
from lx_solvers import RESULTS
from lx_solvers._results import named
from lx_solvers._scaling import dot
from lx_solvers.krylov._options import conjugated, transposed
from lx_solvers.krylov._phases import (
    Exit,
    Phases,
    advance,
    begin,
    first_of,
    outcome,
)
from lx_solvers.krylov._scalars import pack, unpack, where
from lx_solvers.krylov._spaces import Space, spaces
from lx_solvers.krylov._stability import Left, ending
from lx_solvers.krylov._tolerances import (
    check_tolerances,
    peaks,
    resolved,
    right_hand_side,
)
from lx_solvers.krylov.cg import CG


def scaled(vector, space, rtol, atol, norm=max_norm, criterion="elementwise"):
    solver = CG(rtol, atol, norm=norm, max_steps=1, criterion=criterion)
    return right_hand_side(vector, space, solver)


def space_of(tree):
    return spaces(lo.IdentityLinearOperator(tree))[0]


def ratio(r, b, rtol=1e-3, atol=0.0, norm=max_norm, floor=1e-3):
    r, b = (np.array(x) if isinstance(x, list) else x for x in (r, b))
    space = space_of(jax.tree.map(jnp.asarray, b))
    given = scaled(jax.tree.map(jnp.asarray, b), space, rtol, atol, norm)
    floor = jnp.asarray(floor, space.real_dtype)
    scale = given.goal.scale(given.b, given.peaks, floor, space)
    r = space.ravel(jax.tree.map(jnp.asarray, r)) / given.unit.astype(space.dtype)
    return float(given.goal.ratio((space, r, scale)))


def test_elementwise():
    b = np.array([1.0, -0.1, 10.0])
    assert ratio(1e-3 * b, b) == pytest.approx(1)
    assert ratio([0, 2e-4, 0], b) == pytest.approx(2)
    assert ratio([0, 0, 5e-3], b) == pytest.approx(0.5)
    assert ratio([0, 0, 5e-3], b, rtol=0.0, atol=1e-3) == pytest.approx(5)
    assert ratio(1e-3 * b, b, norm=two_norm) == pytest.approx(3**0.5)
    assert ratio([3e-3j, 0], [1j, 1]) == pytest.approx(3)


def test_zeros_are_judged_beside_the_largest():
    assert ratio([0.0, 4e-6], [4.0, 0.0], floor=1e-3) == pytest.approx(1)
    assert ratio([0.0, 4e-3], [4.0, 0.0], floor=1.0) == pytest.approx(1)
    # each leaf relative to its own largest element; a zero leaf relative to the largest
    # of all
    b = {"a": [1e3, 0.0], "b": [1e-3, 0.0], "c": [0.0]}
    b = {k: np.array(v) for k, v in b.items()}
    for leaf, value in (("a", 1e3), ("b", 1e-3), ("c", 1e3)):
        r = {k: np.zeros_like(v) for k, v in b.items()}
        r[leaf][-1] = 1e-6 * value
        assert ratio(r, b) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_any_scale(scale):
    b = scale * np.array([1.0, 0.5])
    assert ratio(2e-3 * b, b) == pytest.approx(2)
    assert ratio(2e-3 * b, b, rtol=0.0, atol=1e-3 * scale) == pytest.approx(2)


def test_not_finite_never_passes():
    for bad in (np.nan, np.inf, -np.inf):
        for norm in (max_norm, two_norm):
            assert not ratio([0.0, bad], [1.0, 1.0], norm=norm) <= 1


def test_nothing_left_passes():
    assert ratio([0.0, 0.0], [0.0, 0.0], rtol=0.0) == 0


@pytest.mark.parametrize("norm", [max_norm, two_norm])
@pytest.mark.parametrize("rtol, atol", [(1e-3, 0.0), (0.0, 1e-3), (1e-6, 1e-3)])
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e300, 5e306])
def test_what_passes_is_in_reach(scale, rtol, atol, norm):
    """The longest residual that passes: as large as it may be in every element, or, if
    its quotients' 2-norm counts, in one of those of the largest tolerance alone."""
    rng = np.random.default_rng(0)
    real, imaginary = rng.normal(size=(2, 50))
    for b in (real, np.ones(50), real + 1j * imaginary, (real, 9 * real[:3] + 1j)):
        b = jax.tree.map(lambda x: jnp.asarray(x * scale), b)
        space = space_of(b)
        given = scaled(b, space, rtol, atol * scale, norm)
        goal = given.goal
        for floor in (1e-3, 1.0):
            scales = goal.scale(given.b, given.peaks, jnp.asarray(floor), space)
            size = np.sqrt(sum(float(jnp.sum(x**2)) for x in scales))  # of r = scales
            if norm is two_norm:
                size = max(float(jnp.max(x)) for x in scales)
            assert goal.in_reach(jnp.asarray(size))
        assert goal.in_reach(jnp.nan) and goal.in_reach(jnp.inf)
        if scale > 1e300:  # where |b|∞ / unit is above 2, every residual is
            continue
        most = max(float(jnp.max(x)) for x in scales)
        assert not goal.in_reach(jnp.asarray(10 * np.sqrt(space.size) * most))


def test_any_norm_is_in_reach():
    """For a user's norm, nothing is ruled out beforehand."""
    given = scaled(jnp.ones(3), space_of(jnp.ones(3)), 1e-6, 0.0, lambda r: max_norm(r))
    assert given.goal.in_reach(jnp.asarray(1e300))


def test_where():
    np.testing.assert_array_equal(
        where(jnp.array([True, False]), 1, jnp.array([5.0, 6.0])), [1, 6]
    )


@pytest.mark.parametrize(
    "tree, size",
    [
        (jnp.zeros((2, 3)), (2, 3)),
        ((jnp.zeros((2, 3)), jnp.zeros(4, jnp.float32)), (10,)),
        ((jnp.zeros(2), jnp.zeros(3, complex)), (8,)),
        ({}, (0,)),
        ((jnp.zeros((0, 2)), jnp.zeros(())), (1,)),
        (jnp.zeros(3, jnp.float16), (3,)),
    ],
)
def test_space(tree, size):
    """To an array and back, dtypes included; a single leaf keeps its shape."""
    space = space_of(tree)
    rng = np.random.default_rng(0)
    filled = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), tree
    )
    array = space.ravel(filled)
    assert array.shape == size == space.shape
    assert isinstance(space, Space)
    back = space.solution(array)
    jax.tree.map(np.testing.assert_array_equal, filled, back)
    assert jax.tree.map(lambda x: x.dtype, back) == jax.tree.map(
        lambda x: x.dtype, tree
    )
    assert len(peaks(space, array)) == len(jax.tree.leaves(tree))


def test_complex_leaf_is_two_real_ones():
    """Beside a real leaf; the inner product is then Re ⟨x, y⟩."""
    x = (jnp.array([1.0]), jnp.array([1 + 2j]))
    y = (jnp.array([3.0]), jnp.array([2 - 1j]))
    space = space_of(x)
    assert space.dtype == jnp.float64
    product = dot(space.ravel(x), space.ravel(y))
    assert float(product) == pytest.approx(3 + np.real(np.conj(1 + 2j) * (2 - 1j)))


# The phases of a solve


def phases(check=True):
    given = scaled(jnp.ones(3), space_of(jnp.ones(3)), 1e-6, 0.0, max_norm)
    return given.goal, begin(given, 100, check=check)


def move(state, goal, ratio, **given):
    usual = dict(settled=True, broken=False, finite=True, limit=100, due=False)
    given = {**usual, **given}
    given["finite"] = jnp.asarray(given["finite"])
    return advance(state, goal, jnp.asarray(ratio), **given)


def test_success_only_of_a_true_residual():
    goal, state = phases(check=False)
    state = move(state, goal, 0.5)  # recurred
    assert state.running and state.check and state.claimed
    assert state.num_steps == 1
    assert move(state, goal, 0.9).exit == Exit.converged
    failed = move(state, goal, 2.0)
    assert failed.running and not failed.check
    assert failed.num_steps == 1


def test_exits():
    goal, state = phases(check=False)
    nan = move(state, goal, np.nan)
    assert nan.running and not nan.check
    assert move(state, goal, 9.0, finite=False).exit == Exit.nonfinite
    later = move(move(state, goal, 9.0), goal, 9.0, finite=False)
    assert later.exit == Exit.breakdown
    ends = {
        Exit.breakdown: dict(broken=True),
        Exit.singular: dict(broken=True, failure=Exit.singular),
        Exit.tired: dict(limit=1),
    }
    # before a solve ends without a claim, the true residual is seen, and decides alone
    for exit, given in ends.items():
        for recurred in (0.5, 9.0):
            last = move(state, goal, recurred, **given)
            assert last.check and last.running and not last.claimed
            passed = move(last, goal, 0.5, limit=1, settled=jnp.asarray(False))
            assert passed.exit == Exit.converged
            assert move(last, goal, 1.5, limit=1).exit == exit


def test_stall_first_relaxes_then_ends():
    """Claims that fail without progress: first the test becomes normwise, then the
    solve ends."""
    goal, state = phases(check=False)
    space = space_of(jnp.ones(3))
    floors, exits = [], []
    for _ in range(8):
        state = move(state, goal, 0.9)
        floors.append(float(state.floor(goal, space)))
        state = move(state, goal, 3.0)
        exits.append(int(state.exit))
        if state.last:
            exits.append(int(move(state, goal, 3.0).exit))
            break
    assert floors[0] == pytest.approx(1e-3)
    assert floors[-1] == 1
    assert exits[-1] == Exit.stagnated


def test_progress_is_no_stall():
    goal, state = phases(check=False)
    for k in range(9):
        state = move(move(state, goal, 0.9), goal, 1e6 / 4**k)
    assert state.running
    assert not state.relaxed


def test_beginning():
    space = space_of(jnp.ones(2))

    def first(b, limit=5, rtol=1e-3, check=False):
        given = scaled(jnp.asarray(b), space, rtol, 0.0, max_norm)
        return int(begin(given, limit, check=check).exit)

    assert first([1.0, 2.0]) == first([1.0, 2.0], limit=0) == Exit.running
    assert first([0.0, 0.0], limit=0) == first([0.0, 0.0], rtol=0.0) == Exit.running
    zero = scaled(jnp.zeros(2), space, 1e-3, 0.0, max_norm)
    assert begin(zero, 5, check=False).check  # it shows whether A is finite
    assert first([np.nan, 0.0]) == first([np.inf, 0.0]) == Exit.nonfinite
    none = scaled(jnp.ones(2), space, 1e-3, 0.0)
    assert begin(none, 0, check=False).last  # no step is allowed


def test_results():
    """Every exit has its result; the first condition decides."""
    goal, state = phases()
    wanted = {
        Exit.converged: RESULTS.successful,
        Exit.tired: RESULTS.max_steps_reached,
        Exit.breakdown: RESULTS.breakdown,
        Exit.stagnated: RESULTS.stagnation,
        Exit.nonfinite: RESULTS.nonfinite_input,
        Exit.singular: RESULTS.singular,
        Exit.ill_conditioned: RESULTS.conlim,
        Exit.stopped: RESULTS.stopped,
    }
    assert set(wanted) == set(Exit) - {Exit.running}
    for exit, result in wanted.items():
        ended = Phases(state.counts.at[1].set(int(exit)))
        assert (named(outcome(ended, goal)) == result).item()
    exits = (False, Exit.tired), (True, Exit.singular), (True, Exit.tired)
    assert first_of(*exits) == Exit.singular
    assert first_of((False, Exit.tired)) == Exit.running


@pytest.mark.parametrize(
    "arguments",
    [(-1.0, 0.0), (0.0, -1.0), (np.nan, 0.0), (0.0, 0.0), (np.float32(-1), 1)],
)
def test_tolerances(arguments):
    with pytest.raises(ValueError, match="`Solver`"):
        check_tolerances(*arguments, None, "Solver")
    check_tolerances(1e-3, 0.0, None, "Solver")
    check_tolerances(0.0, 0.0, 3, "Solver")


def test_options_of_transpose_and_conjugate():
    m = np.array([[1j, 2.0], [0.0, 3.0]])
    options = {"preconditioner": lo.MatrixLinearOperator(m), "y0": 1, "other": 2}
    for fn, matrix in ((transposed, m.T), (conjugated, m.conj())):
        new = fn(options)
        np.testing.assert_array_equal(new.pop("preconditioner").as_matrix(), matrix)
        assert new == {"other": 2}
    assert transposed({}) == {}


def test_default_tolerances():
    for dtype, rtol in ((np.float32, 1e-5), (np.float64, 1e-8)):
        assert resolved(None, None, dtype) == (rtol, 0.0)
        assert resolved(1e-3, None, dtype) == (1e-3, 0.0)
        assert resolved(None, 1e-2, dtype) == (rtol, 1e-2)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_two_norm(scale):
    """‖r‖ ≤ max(rtol ‖b‖, atol), by NumPy."""
    b = np.array([3.0, 0.0, 4.0])
    space = space_of(jnp.asarray(b))
    for rtol, atol in ((1e-3, 0.0), (0.0, 2e-3), (1e-3, 2e-2), (1e-3, 1e-3)):
        vector = jnp.asarray(scale * b)
        given = scaled(vector, space, rtol, atol * scale, criterion="two_norm")
        limit = max(rtol * np.linalg.norm(b), atol)
        for size in (0.9 * limit, 1.1 * limit):
            r = space.ravel(jnp.asarray(scale * size * np.array([0.6, 0.8, 0.0])))
            ratio = given.goal.residual_ratio(
                r / given.unit, given.b, given.peaks, jnp.asarray(1.0), space
            )
            assert float(ratio) == pytest.approx(size / limit)


def test_packing():
    """A state comes back from its arrays: names, dtypes, more scalars than go into one
    array, and no vector."""
    state = {
        "vectors": (jnp.arange(3.0), None, jnp.ones((2, 2), complex)),
        "scalars": [jnp.asarray(float(k)) for k in range(9)],
        "flags": (jnp.asarray(True), jnp.asarray(False), jnp.asarray(1 + 2j)),
    }
    back = unpack(pack(state), state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    assert len(pack(state).scalars) == 2


def test_backward_error():
    """It is the least relative change of A and b that makes x an exact solution."""
    rng = np.random.default_rng(0)
    a, x, b = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    r = b - a @ x
    sizes = [np.linalg.norm(z, 2) for z in (r, a, x, b)]
    given = sizes[0], sizes[1] * sizes[2], sizes[3]
    error = float(Left(*map(jnp.asarray, given)).error)
    da = error * sizes[1] * np.outer(r, x) / sizes[0] / sizes[2]
    db = -error * sizes[3] * r / sizes[0]
    np.testing.assert_allclose((a + da) @ x, b + db)
    assert np.linalg.norm(da, 2) == pytest.approx(error * sizes[1])
    assert Left(*jnp.zeros(3)).error == 0


@pytest.mark.parametrize("least_squares", [False, True])
def test_what_is_left_without_quotients(least_squares):
    """`within` and `much` compare as the backward error itself would."""
    rng = np.random.default_rng(1)
    r, Ax, b, slope, cond = 10 ** rng.uniform(-6, 6, (5, 1000))
    error, change = r / (Ax + b), np.maximum(Ax / cond, r)
    if least_squares:
        error = np.minimum(error, slope / change)
    more = (jnp.asarray(slope), jnp.asarray(cond)) if least_squares else ()
    left = Left(*map(jnp.asarray, (r, Ax, b)), *more)
    np.testing.assert_allclose(left.error, error)
    for most in (1e-3, 1.0):
        np.testing.assert_array_equal(left.within(most), error <= most)
    np.testing.assert_array_equal(left.much, error * (Ax + b) > 0.01 * b)


def test_ending():
    """What a backward stable solution turns an exit into."""
    eps, one = 2.0**-52, jnp.ones(())

    def end(exit, error, Ax):
        left = Left(error * (Ax + 1) * one, Ax * one, one)
        return int(ending(jnp.int32(exit), left, eps))

    for exit in (Exit.tired, Exit.stagnated, Exit.breakdown, Exit.singular):
        assert end(exit, 10 * eps, 1e3) == Exit.converged
        assert end(exit, 1e3 * eps, 1e3) == exit
        assert end(exit, 10 * eps, 1e16) == Exit.singular
        assert end(exit, 30 * eps, 1e12) == Exit.converged  # 0.7 % of b is left
        assert end(exit, 30 * eps, 3e12) == exit  # 2 %
        assert end(exit, np.nan, 1e3) == exit
    for exit in (Exit.nonfinite, Exit.ill_conditioned):
        assert end(exit, 0.0, 1.0) == exit
