"""Each package alone, from its wheel, in an environment that never saw the others."""

import json
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# One worker builds the wheels and fills the environments.
pytestmark = pytest.mark.xdist_group("packaging")

_INSTALLED = """
import importlib.metadata, json
print(json.dumps([d.name for d in importlib.metadata.distributions()]))
"""

_OPERATORS = """
import jax.numpy as jnp
import numpy as np
import lx_operators as lxo

rng = np.random.default_rng(0)
a, d, x = rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
operator = lxo.MatrixLinearOperator(jnp.asarray(a, "float32"))
operator = 2.0 * (operator.T @ operator) + lxo.DiagonalLinearOperator(
    jnp.asarray(d, "float32")
)
truth = 2 * a.T @ a + np.diag(d)
np.testing.assert_allclose(operator.mv(jnp.asarray(x, "float32")), truth @ x, rtol=1e-4)
np.testing.assert_allclose(operator.as_matrix(), truth, rtol=1e-4)
np.testing.assert_allclose(lxo.diagonal(operator), np.diag(truth), rtol=1e-4)
assert lxo.is_symmetric(operator) and not lxo.is_diagonal(operator)
"""

_SOLVERS = """
import jax.numpy as jnp
import numpy as np
import lx_operators as lxo
import lx_solvers as lxs

a = np.array([[4.0, 1.0], [1.0, 3.0]])
b = np.array([1.0, 2.0])
operator = lxo.MatrixLinearOperator(
    jnp.asarray(a, "float32"), lxo.positive_semidefinite_tag
)
solvers = (
    lxs.AutoLinearSolver(well_posed=True), lxs.LU(), lxs.CG(rtol=1e-6, atol=1e-6)
)
for solver in solvers:
    state = solver.init(operator, {})
    value, result, _ = solver.compute(state, jnp.asarray(b, "float32"), {})
    assert result == lxs.RESULTS.successful
    np.testing.assert_allclose(value, np.linalg.solve(a, b), rtol=1e-5)
"""

_SOLVE = """
import jax
import jax.numpy as jnp
import numpy as np
import {operators} as lxo
import {autodiff} as lxa

a = np.array([[2.0, 1.0], [1.0, 3.0]])
b = np.array([3.0, 4.0])

def total(a):
    operator = lxo.MatrixLinearOperator(a)
    return lxa.linear_solve(operator, jnp.asarray(b, "float32")).value.sum()

value, gradient = jax.value_and_grad(total)(jnp.asarray(a, "float32"))
x, adjoint = np.linalg.solve(a, b), np.linalg.solve(a.T, np.ones(2))
np.testing.assert_allclose(value, x.sum(), rtol=1e-5)
np.testing.assert_allclose(gradient, -np.outer(adjoint, x), rtol=1e-5)
"""

PROGRAMS = {
    "lx-operators": _OPERATORS,
    "lx-solvers": _SOLVERS,
    "lx-autodiff": _SOLVE.format(operators="lx_operators", autodiff="lx_autodiff"),
    "lineax": _SOLVE.format(operators="lineax", autodiff="lineax"),
}


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(path).decode())
    required = map(Requirement, metadata.get_all("Requires-Dist", []))
    return [r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]


def test_alone(package, environment, floors):
    """A package works with what it declares, and brings no floor above it."""
    run = environment(package)
    run(PROGRAMS[package])
    installed = {canonicalize_name(n) for n in json.loads(run(_INSTALLED))}
    assert installed & set(floors) == set(floors[: floors.index(package) + 1])


def test_operators_bring_nothing_else(wheels):
    declared = {
        requirement.name for requirement in _requirements(wheels["lx-operators"])
    }
    assert declared == {"jax", "equinox", "jaxtyping", "numpy"}


def test_lowest_versions(environment, wheels):
    """The lowest versions that are declared install together and work."""
    lowest = {}
    for wheel in wheels.values():
        for requirement in _requirements(wheel):
            if requirement.name not in wheels:
                (version,) = (s.version for s in requirement.specifier)
                assert requirement.specifier == SpecifierSet(f">={version}")
                assert lowest.setdefault(requirement.name, version) == version
    # NumPy 2.0 has no wheels for Python 3.13; there the lowest is what installs
    pins = [
        f"{name}=={version}" if name != "numpy" else f"numpy>={version},<2.2"
        for name, version in lowest.items()
    ]
    run = environment("lineax", *pins)
    for program in PROGRAMS.values():
        run(program)


def test_contents(package, wheels):
    """The wheel has the modules of the source tree, the type marker and the licence."""
    module = package.replace("-", "_")
    source = Path(__file__).parents[2] / "packages" / package / "src"
    modules = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    with zipfile.ZipFile(wheels[package]) as archive:
        names = set(archive.namelist())
        (licence,) = (n for n in names if n.endswith("/licenses/LICENSE"))
        assert archive.read(licence).lstrip().startswith(b"Apache License")
    assert {n for n in names if n.endswith(".py")} == modules
    assert f"{module}/py.typed" in names
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {module}
