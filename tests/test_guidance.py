"""Guidance against what it should do on exact cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from vrestore.errors import ConfigError
from vrestore.guidance import classifier_free, data_consistent, project, restoration

generator = torch.Generator().manual_seed(0)
x0, z_input = torch.randn(2, 5, 4, 8, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_restoration_pulls_towards_the_input(time):
    out = restoration(x0, z_input, time, weight=0.5, power=2.0)
    torch.testing.assert_close(out, x0 + 0.5 * time**2 * (z_input - x0))


def test_restoration_has_its_ends():
    assert torch.equal(restoration(x0, z_input, 0.7, weight=0.0), x0)
    assert torch.equal(restoration(x0, z_input, 0.0, weight=1.0), x0)
    torch.testing.assert_close(restoration(x0, z_input, 1.0, weight=1.0), z_input)


def test_restoration_takes_a_time_for_each_frame():
    time = torch.linspace(0, 1, 5, dtype=torch.float64)
    out = restoration(x0, z_input, time, weight=0.8, power=1.5)
    for i, t in enumerate(time.tolist()):
        torch.testing.assert_close(out[i], restoration(x0[i], z_input[i], t, weight=0.8, power=1.5))


@pytest.mark.parametrize("bad", [{"weight": -0.1}, {"weight": 1.1}, {"weight": 0.5, "power": -1.0}])
def test_restoration_refuses_settings_out_of_range(bad):
    with pytest.raises(ConfigError, match="Restoration guidance"):
        restoration(x0, z_input, 0.5, **bad)


def test_classifier_free_extrapolates():
    assert classifier_free(x0, z_input, 1.0) is x0
    assert torch.equal(classifier_free(x0, z_input, 0.0), z_input)
    torch.testing.assert_close(classifier_free(x0, z_input, 3.0), 3 * x0 - 2 * z_input)


def shrink(x):
    return functional.avg_pool2d(x, 2)


def grow(y):
    return functional.interpolate(y, scale_factor=2, mode="nearest")


def test_the_pseudo_inverse_projects_in_one_iteration():
    observed = shrink(z_input)
    out = project(x0, observed, shrink, grow)  # for the mean of 2x2, repetition is the pseudo-inverse
    torch.testing.assert_close(shrink(out), observed)
    torch.testing.assert_close(project(out, observed, shrink, grow), out)
    # Only what was observed moves: what the operator does not see stays as predicted.
    torch.testing.assert_close(out - grow(shrink(out)), x0 - grow(shrink(x0)))


def test_the_adjoint_converges():
    def blur(x):
        return functional.conv2d(x, kernel, padding=1, groups=4)

    kernel = torch.tensor([[0, 1, 0], [1, 4, 1], [0, 1, 0]], dtype=torch.float64).expand(4, 1, 3, 3) / 8
    observed = blur(z_input)  # symmetric: its own adjoint
    errors = [float((blur(project(x0, observed, blur, blur, iterations=n)) - observed).norm()) for n in (0, 1, 10, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.03 * errors[0]


def test_half_the_strength_moves_half_way():
    observed = shrink(z_input)
    half = project(x0, observed, shrink, grow, strength=0.5)
    torch.testing.assert_close(half, (x0 + project(x0, observed, shrink, grow)) / 2)


@pytest.mark.parametrize("bad", [{"strength": 0.0}, {"strength": 2.0}, {"iterations": -1}])
def test_projection_refuses_settings_out_of_range(bad):
    with pytest.raises(ConfigError, match="projection"):
        project(x0, shrink(x0), shrink, grow, **bad)


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 9), columns=st.integers(1, 9), weight=st.floats(0.01, 10))
@settings(max_examples=40, deadline=None)
def test_conjugate_gradients_find_what_a_dense_solver_finds(seed, rows, columns, weight):
    """Also where the operator has fewer rows than columns: the prediction decides the rest."""
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=draw, dtype=torch.float64)
    prediction, observed = (torch.randn(n, generator=draw, dtype=torch.float64) for n in (columns, rows))
    found = data_consistent(
        prediction,
        observed,
        lambda x: matrix @ x,
        lambda y: matrix.T @ y,
        weight=weight,
        tolerance=1e-12,
        iterations=50,
    )
    normal = matrix.T @ matrix + weight * torch.eye(columns, dtype=torch.float64)
    exact = torch.linalg.solve(normal, matrix.T @ observed + weight * prediction)
    torch.testing.assert_close(found, exact, atol=1e-8, rtol=1e-8)


def test_consistent_data_leave_the_prediction():
    assert torch.equal(data_consistent(x0, shrink(x0), shrink, grow, weight=1.0), x0)
    assert torch.equal(data_consistent(x0, shrink(z_input), shrink, grow, weight=1.0, iterations=0), x0)


def test_iterations_come_nearer_and_stop_at_the_tolerance():
    calls = []

    def seen(x):
        calls.append(1)
        return matrix @ x

    matrix = torch.diag(torch.linspace(0.1, 3, 30, dtype=torch.float64))
    start, observed = torch.zeros(30, dtype=torch.float64), torch.ones(30, dtype=torch.float64)
    exact = torch.linalg.solve(matrix @ matrix + 0.01 * torch.eye(30), matrix @ observed)
    errors = []
    for n in (1, 5, 20):
        found = data_consistent(start, observed, seen, lambda y: matrix @ y, weight=0.01, tolerance=0.0, iterations=n)
        errors.append(float((found - exact).norm()))
    assert errors == sorted(errors, reverse=True)
    calls.clear()
    data_consistent(start, observed, seen, lambda y: matrix @ y, weight=0.01, tolerance=0.5, iterations=100)
    assert len(calls) < 20


@pytest.mark.parametrize(
    "bad", [{"weight": 0.0}, {"weight": 1.0, "tolerance": -1.0}, {"weight": 1.0, "iterations": -1}]
)
def test_data_consistency_refuses_settings_out_of_range(bad):
    with pytest.raises(ConfigError, match="Data consistency"):
        data_consistent(x0, shrink(x0), shrink, grow, **bad)
