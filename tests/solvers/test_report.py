"""Reports, pictures of convergence, versions: what people read of a solve."""

import re
import xml.etree.ElementTree as ElementTree

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers import RESULTS, Solution, plot_convergence, report, show_versions
from lx_solvers._report import sparkline


def _solution(result=RESULTS.successful, value=(1.0, 2.0), **stats):
    return Solution(jnp.asarray(value), result, stats, None)


def test_text():
    """Every figure of the solve is said, under a name that people know."""
    solution = _solution(
        num_steps=jnp.array(3),
        max_steps=20,
        backward_error=jnp.array(2.5e-9),
        residuals=jnp.array([100.0, 10.0, 1.0, 0.1, np.nan, np.nan]),
    )
    lines = str(report(solution)).splitlines()
    assert [re.sub(" +", " ", line) for line in lines] == [
        "status successful",
        "steps 3 of 20",
        "backward error 2.5e-09",
        "history █▆▃▁ 1.0e+02 to 1.0e-01",
    ]


def test_figures_of_direct_solvers():
    solution = _solution(reciprocal_condition=jnp.array(0.01), rank=jnp.array(2))
    text = str(report(solution))
    assert re.search(r"condition of the factors +100\n", text)
    assert re.search(r"rank +2$", text)
    singular = _solution(RESULTS.singular, reciprocal_condition=jnp.array(0.0))
    assert re.search(r"condition of the factors +inf", str(report(singular)))


def test_residual():
    """‖b - Ax‖₂/‖b‖₂, also of pytrees; against NumPy."""
    A = lxo.DiagonalLinearOperator({"p": jnp.array([2.0]), "q": jnp.array([1.0, 3.0])})
    b = {"p": jnp.array([3.0]), "q": jnp.array([4.0, 0.0])}
    x = {"p": jnp.array([1.0]), "q": jnp.array([4.0, 1.0])}
    solution = Solution(x, RESULTS.successful, {}, None)
    truth = np.linalg.norm([3 - 2, 4 - 4, 0 - 3]) / np.linalg.norm([3, 4, 0])
    assert f"relative residual  {truth:.3g}" in str(report(solution, A, b))
    with pytest.raises(ValueError, match="together"):
        report(solution, A)
    with pytest.raises(ValueError, match="`rhs_axis`"):
        report(_solution(), A, b)


@pytest.mark.parametrize("name", RESULTS._names)
def test_advice(name):
    """A failure says what to do next; a success has nothing to say."""
    result = getattr(RESULTS, name)
    made = report(_solution(result))
    assert made.advice == (() if name == "successful" else (str(RESULTS[result]),))
    assert ("Next: " in str(made)) == (name != "successful")


def test_batch():
    """For a batch: counts, ranges, every kind of failure, the longest history."""

    def one(code):
        result = RESULTS.where(code > 0, RESULTS.singular, RESULTS.successful)
        residuals = jnp.where(jnp.arange(4) <= code, 0.1 ** code.astype(float), jnp.nan)
        stats = {"num_steps": code, "max_steps": 9, "residuals": residuals}
        return Solution(jnp.ones(2), result, stats, None)

    made = report(jax.vmap(one)(jnp.array([0, 2, 1])))
    facts = dict(made.facts)
    assert facts["status"] == "2 singular, 1 successful"
    assert facts["steps"] == "0 to 2 of 9"
    assert len(made.advice) == 1
    np.testing.assert_allclose(made.history, 3 * [0.01])


def test_html():
    """A notebook gets a table and a picture: well-formed, and escaped."""
    stats = {"residuals": jnp.array([1.0, 1e-2, 1e-4, np.nan]), "a<b": jnp.array(1.5)}
    made = report(_solution(RESULTS.stagnation, **stats))
    tree = ElementTree.fromstring(f"<div>{made._repr_html_()}</div>")
    cells = [cell.text for cell in tree.iter("td")]
    assert cells == ["stagnation", "1.5"]
    assert [cell.text for cell in tree.iter("th")] == ["status", "a<b"]
    (line,) = tree.iter("polyline")
    points = np.array([p.split(",") for p in line.attrib["points"].split()], float)
    steps = np.diff(points, axis=0)
    np.testing.assert_allclose(steps[0], steps[1], atol=0.11)  # equal ratios
    assert np.all(steps > 0)  # to the right, and down
    assert "history" not in _html_of_none()


def _html_of_none():
    return report(_solution())._repr_html_()


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([1.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0], "█▇▆▅▄▃▂▁"),
        ([100.0, np.nan, 1.0], "█ ▁"),
        ([1.0, 0.0], "█▁"),  # exact
        ([0.0, 0.0], "▁▁"),
    ],
)
def test_sparkline(values, drawn):
    assert sparkline(np.array(values)) == drawn
    assert len(sparkline(np.geomspace(1, 1e-9, 1000))) == 40


def test_needs_values():
    with pytest.raises(ValueError, match="outside"):
        jax.jit(lambda x: str(report(_solution(value=x))))(jnp.ones(2))
    with pytest.raises(ValueError, match="must be what `linear_solve` returned"):
        report(jnp.ones(2))  # pyright: ignore


def test_plot_convergence():
    """The steps that were made, relative to the first residual."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("svg")
    residuals = jnp.array([4.0, 2.0, 1.0, np.nan, np.nan])
    solution = _solution(residuals=residuals)
    ax = plot_convergence(solution, CG=solution)
    for line in ax.get_lines():
        np.testing.assert_allclose(line.get_xdata(), [0, 1, 2])
        np.testing.assert_allclose(line.get_ydata(), [1, 0.5, 0.25])
    assert ax.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["CG"]
    assert plot_convergence(solution, ax=ax) is ax
    plt.close("all")


def test_plot_convergence_errors():
    with pytest.raises(ValueError, match="`history=True`"):
        plot_convergence(_solution())
    with pytest.raises(ValueError, match="at least one"):
        plot_convergence()
    with pytest.raises(ValueError, match="`linear_solve` returned"):
        plot_convergence(jnp.ones(3))  # pyright: ignore


def test_show_versions(capsys):
    """All that a bug report needs, in two columns."""
    show_versions()
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["lx-solvers"] == lxs.__version__
    assert said["jax"] == jax.__version__
    assert said["numpy"] == np.__version__
    assert said["enable_x64"] == str(jax.config.jax_enable_x64)
    assert said["devices"].startswith(f"{jax.device_count()} x ")
