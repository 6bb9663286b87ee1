"""Names, arguments, defaults that code written for the published `lineax` relies on."""

import inspect

import jax.numpy as jnp
import lineax as lx
import pytest

REQUIRED = inspect.Parameter.empty
ANY = object()

SIGNATURES = {
    "MatrixLinearOperator": {"matrix": REQUIRED, "tags": ()},
    "PyTreeLinearOperator": {
        "pytree": REQUIRED,
        "output_structure": REQUIRED,
        "tags": (),
    },
    "DiagonalLinearOperator": {"diagonal": REQUIRED},
    "TridiagonalLinearOperator": dict.fromkeys(
        ("diagonal", "lower_diagonal", "upper_diagonal"), REQUIRED
    ),
    "IdentityLinearOperator": {"input_structure": REQUIRED, "output_structure": ANY},
    "FunctionLinearOperator": {
        "fn": REQUIRED,
        "input_structure": REQUIRED,
        "tags": (),
        "closure_convert": True,
    },
    "JacobianLinearOperator": {
        "fn": REQUIRED,
        "x": REQUIRED,
        "args": None,
        "tags": (),
        "jac": None,
        "closure_convert": True,
    },
    "TaggedLinearOperator": {"operator": REQUIRED, "tags": REQUIRED},
    "AddLinearOperator": {"operator1": REQUIRED, "operator2": REQUIRED},
    "ComposedLinearOperator": {"operator1": REQUIRED, "operator2": REQUIRED},
    "MulLinearOperator": {"operator": REQUIRED, "scalar": REQUIRED},
    "DivLinearOperator": {"operator": REQUIRED, "scalar": REQUIRED},
    "NegLinearOperator": {"operator": REQUIRED},
    "TangentLinearOperator": {"primal": REQUIRED, "tangent": REQUIRED},
    "AutoLinearSolver": {"well_posed": REQUIRED},
    "LU": {},
    "QR": {},
    "SVD": {"rcond": None},
    "Cholesky": {},
    "Diagonal": {"well_posed": False, "rcond": None},
    "Triangular": {},
    "Tridiagonal": {},
    "CG": {
        "rtol": ANY,
        "atol": ANY,
        "norm": lx.internal.max_norm,
        "stabilise_every": 10,
        "max_steps": None,
    },
    "BiCGStab": {
        "rtol": ANY,
        "atol": ANY,
        "norm": lx.internal.max_norm,
        "max_steps": None,
    },
    "GMRES": {
        "rtol": ANY,
        "atol": ANY,
        "norm": lx.internal.max_norm,
        "max_steps": None,
        "restart": 20,
        "stagnation_iters": 20,
    },
    "LSMR": {
        "rtol": ANY,
        "atol": ANY,
        "norm": lx.internal.two_norm,
        "max_steps": None,
        "conlim": 1e8,
    },
    "Normal": {"inner_solver": REQUIRED},
    "invert": {"operator": REQUIRED, "solver": ANY, "options": None, "throw": True},
    "linear_solve": {
        "operator": REQUIRED,
        "vector": REQUIRED,
        "solver": ANY,
        "options": None,
        "state": ANY,
        "throw": True,
    },
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name):
    """The published arguments come first, in their order; ours may follow."""
    parameters = inspect.signature(getattr(lx, name)).parameters
    wanted = SIGNATURES[name]
    assert list(parameters)[: len(wanted)] == list(wanted)
    for argument, default in wanted.items():
        if default is not ANY:
            assert parameters[argument].default == default, argument
    for extra in list(parameters)[len(wanted) :]:
        assert parameters[extra].default is not REQUIRED, extra


@pytest.mark.parametrize("name", ["AbstractLinearOperator", "AbstractLinearSolver"])
def test_abstract_methods(name):
    wanted = {
        "AbstractLinearOperator": {
            "mv",
            "as_matrix",
            "transpose",
            "in_structure",
            "out_structure",
        },
        "AbstractLinearSolver": {
            "init",
            "compute",
            "transpose",
            "conj",
            "assume_full_rank",
        },
    }
    assert getattr(lx, name).__abstractmethods__ == wanted[name]


def test_generic_in_its_state():
    class MySolver(lx.AbstractLinearSolver[int]):
        pass

    assert issubclass(MySolver, lx.AbstractLinearSolver)


def test_results():
    names = (
        "successful",
        "max_steps_reached",
        "singular",
        "breakdown",
        "stagnation",
        "conlim",
        "nonfinite_input",
    )
    for name in names:
        item = getattr(lx.RESULTS, name)
        assert bool(item == item)
        assert isinstance(lx.RESULTS[item], str)
    assert lx.RESULTS[lx.RESULTS.successful] == ""

    class Further(lx.RESULTS):
        diverged = "further results, as optimisers have them"

    promoted = Further.promote(lx.RESULTS.singular)
    assert bool(promoted == Further.singular)


def test_internal():
    operator = lx.MatrixLinearOperator(jnp.arange(6.0).reshape(2, 3))
    packed = lx.internal.pack_structures(operator)
    assert isinstance(packed, lx.internal.PackedStructures)
    assert lx.internal.ravel_vector(jnp.ones(2), packed).shape == (2,)
    assert lx.internal.unravel_solution(jnp.ones(3), packed).shape == (3,)
    swapped = lx.internal.transpose_packed_structures(packed)
    assert swapped == lx.internal.pack_structures(operator.T)
    assert lx.internal.linear_solve_p.name == "linear_solve"


def test_autolinearsolver_is_the_default_and_selects():
    assert inspect.signature(lx.linear_solve).parameters[
        "solver"
    ].default == lx.AutoLinearSolver(well_posed=True)
    matrix = lx.MatrixLinearOperator(jnp.eye(2))
    assert lx.AutoLinearSolver(well_posed=True).select_solver(matrix) == lx.LU()
    assert "LU" in lx.AutoLinearSolver(well_posed=True).explain(matrix)
