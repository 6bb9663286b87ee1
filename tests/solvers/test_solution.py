"""`Solution` and `RESULTS`: what users ask of them, and what they must not do."""

import copy
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers import RESULTS

NAMES = (
    "successful",
    "max_steps_reached",
    "singular",
    "breakdown",
    "stagnation",
    "conlim",
    "nonfinite_input",
    "unstable",
    "preconditioner_failed",
    "not_definite",
    "out_of_memory",
    "host_failure",
    "not_real",
    "stopped",
)


class Further(RESULTS):
    """As optimisers extend it."""

    diverged = "It diverged."
    # as Diffrax has it
    max_steps_reached = (
        "The maximum number of solver steps was reached. Try increasing `max_steps`."
    )


class Furthest(Further):
    """And those who use optimisers."""

    lost = "It got lost."


def some(pred):
    return RESULTS.where(pred, RESULTS.singular, RESULTS.successful)


def solution(result, value=(1.5, 2.0), **stats):
    return lxs.Solution(jnp.array(value), result, stats, None)


def test_names():
    assert [getattr(RESULTS, name).name for name in NAMES] == list(NAMES)
    assert repr(RESULTS.singular) == "RESULTS.singular"
    assert len(RESULTS) == len(NAMES)
    assert Furthest.lost.name == "lost"
    assert Furthest.singular.name == "singular"
    assert Furthest.diverged.name == "diverged"


@pytest.mark.parametrize("enumeration", [RESULTS, Further, Furthest])
def test_one_pytree_type(enumeration):
    """However an item is come by: else `cond`, `scan` and `where` would refuse it."""
    E = enumeration
    items = [getattr(E, name) for name in NAMES]
    items += [E.where(jnp.array(True), E.singular, E.successful)]
    items += [E.where(True, E.singular, E.singular)]
    items += [jax.jit(lambda p: E.where(p, E.singular, E.successful))(False)]
    items += [jax.jit(lambda x: x)(E.singular)]
    for base in {RESULTS, Further} - {E}:
        if issubclass(E, base):
            items += [
                E.promote(base.singular),
                E.promote(jax.jit(lambda x: x)(base.singular)),
            ]
    kinds = {jax.tree.structure(item) for item in items}
    assert len(kinds) == 1
    assert all(isinstance(item, E) for item in items)

    def either(p):
        return jax.lax.cond(p, lambda: E.singular, lambda: items[-1])

    assert jax.jit(either)(True).name == "singular"


@pytest.mark.parametrize("name", NAMES)
def test_promotion_keeps_items(name):
    item = Furthest.promote(Further.promote(getattr(RESULTS, name)))
    assert bool(item == getattr(Furthest, name))
    assert item.name == name
    assert Furthest[item] == RESULTS[getattr(RESULTS, name)]


def test_no_truth_value():
    """A failure would be true."""
    for item in (RESULTS.successful, RESULTS.singular, Further.diverged):
        with pytest.raises(ValueError, match="solution.successful"):
            bool(item)
    with pytest.raises(ValueError, match="== RESULTS.successful"):
        jax.jit(lambda p: 1 if some(p) else 0)(True)


def test_successful_and_status():
    assert bool(solution(RESULTS.successful).successful)
    assert not bool(solution(RESULTS.singular).successful)
    assert solution(RESULTS.singular).status == "singular"
    assert isinstance(solution(some(True)).status, str)


def test_batched():
    failed = jnp.array([True, False, True])
    batch = jax.vmap(lambda p: solution(some(p)))(failed)
    np.testing.assert_array_equal(batch.successful, ~failed)
    np.testing.assert_array_equal(batch.status, ["singular", "successful", "singular"])
    assert repr(batch.result) == "RESULTS[singular, successful, singular]"


def test_traced():
    inside = jax.jit(lambda p: solution(some(p)).successful)
    assert not bool(inside(True)) and bool(inside(False))
    with pytest.raises(ValueError, match="solution.successful"):
        jax.jit(lambda p: solution(some(p)).status)(True)
    with pytest.raises(ValueError, match="solution.successful"):
        jax.vmap(lambda p: solution(some(p)).status)(jnp.array([True]))
    texts = []
    jax.jit(lambda p: texts.append(repr(solution(some(p)))))(True)
    assert "status=<traced>" in texts[0]


def test_print():
    assert repr(solution(RESULTS.singular, num_steps=jnp.array(3))) == (
        "Solution(value=[1.5, 2. ], status=singular, num_steps=3)"
    )
    large = lxs.Solution({"a": jnp.ones((50, 50))}, RESULTS.successful, {}, jnp.ones(9))
    text = repr(large)
    assert text.startswith("Solution(value={'a': ") and "[50,50]" in text
    assert text.endswith("status=successful)")
    shapes = jax.eval_shape(lambda: large)
    assert "(50, 50)" in repr(shapes) and "ShapeDtypeStruct>" in repr(shapes)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies(copied):
    for item in (RESULTS.singular, Furthest.lost, some(True)):
        again = copied(item)
        assert bool(again == item) and again.name == item.name
        assert jax.tree.structure(again) == jax.tree.structure(item)
    whole = solution(RESULTS.singular, num_steps=jnp.array(3))
    assert eqx.tree_equal(copied(whole), whole)
