"""The box loss against a loop over the positives' coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from contexts import device
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_blocks import MODES, in_mode, loss_and_grad, start
from mxnet import autograd

from aploss_mx.losses import BoxLoss


@pytest.fixture(params=MODES)
def box_loss(request):
    """BoxLoss in each of Gluon's ways to run it."""
    return in_mode(request.param, BoxLoss())


def expected(deltas, box_targets, class_targets):
    """Loss and gradient in float64, coordinate by coordinate: smooth L1 with beta = 1."""
    total, grad, positives = 0.0, np.zeros(deltas.shape), 0
    for image, anchor in np.ndindex(class_targets.shape):
        if class_targets[image, anchor] <= 0:
            continue
        positives += 1
        for axis in range(4):
            error = float(deltas[image, anchor, axis]) - float(box_targets[image, anchor, axis])
            if abs(error) < 1:
                total += 0.5 * error**2
                grad[image, anchor, axis] = error
            else:
                total += abs(error) - 0.5
                grad[image, anchor, axis] = 1 if error > 0 else -1
    return total / (4 * max(positives, 1)), grad / (4 * max(positives, 1))


def random_problem(seed, batch=2, anchors=30):
    rng = np.random.default_rng(seed)
    deltas, box_targets = rng.normal(0, 1.5, (2, batch, anchors, 4)).astype(np.float32)
    return deltas, box_targets, rng.integers(-1, 4, (batch, anchors)).astype(np.float32)


def assert_close(loss, grad, oracle):
    np.testing.assert_allclose(loss, oracle[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grad, oracle[1], rtol=1e-5, atol=1e-7)


@st.composite
def problems(draw):
    """Coordinates of a coarse grid, so that errors of just 0 and ±1, where smooth L1 changes, are common."""
    batch, anchors = draw(st.tuples(st.integers(1, 3), st.integers(1, 10)))
    coordinates = st.integers(-16, 16).map(lambda number: number / 8)
    deltas, box_targets = (draw(hnp.arrays(np.float32, (batch, anchors, 4), elements=coordinates)) for _ in range(2))
    return deltas, box_targets, draw(hnp.arrays(np.float32, (batch, anchors), elements=st.integers(-1, 20)))


@settings(deadline=None, max_examples=60)
@given(problems(), st.booleans())
def test_it_is_the_closed_form_for_any_shape(problem, hybrid):
    block = BoxLoss()
    block.hybridize(hybrid)
    assert_close(*loss_and_grad(block, *problem), expected(*problem))


def test_one_block_follows_changing_shapes_and_values(box_loss):
    for seed, shape in enumerate([(2, 30), (2, 30), (1, 5), (3, 8)]):
        problem = random_problem(seed, *shape)
        assert_close(*loss_and_grad(box_loss, *problem), expected(*problem))


@pytest.mark.parametrize(
    "error, loss, slope", [(0, 0, 0), (0.5, 0.125, 0.5), (-1, 0.5, -1), (3, 2.5, 1), (-4, 3.5, -1)]
)
def test_one_coordinate_of_one_positive(box_loss, error, loss, slope):
    deltas, box_targets = np.full((2, 1, 1, 4), 2, np.float32)
    deltas[0, 0, 1] += error
    result, grad = loss_and_grad(box_loss, deltas, box_targets, np.ones((1, 1), np.float32))
    assert result == loss / 4
    np.testing.assert_array_equal(grad, [[[0, slope / 4, 0, 0]]])


@pytest.mark.parametrize("weight", [0, 0.25, 3])
def test_weight(weight):
    problem = random_problem(0)
    weighted, plain = (loss_and_grad(block, *problem) for block in (BoxLoss(weight), BoxLoss()))
    for one, other in zip(weighted, plain):
        np.testing.assert_allclose(one, weight * other, rtol=1e-6)


@pytest.mark.parametrize("hybrid", [False, True])
def test_ranking_batch_gives_the_mean_of_the_groups_losses(hybrid):
    """One device that ranks its images in two halves is two devices: the paper's normaliser on one GPU."""
    problem = random_problem(2, batch=4)
    problem[2][:2] = np.minimum(problem[2][:2], 0)
    problem[2][0, 0] = 1  # a positive in one half, many in the other
    grouped = BoxLoss(0.5, ranking_batch=2)
    grouped.hybridize(hybrid)
    loss, grad = loss_and_grad(grouped, *problem)
    halves = [expected(*(array[half] for array in problem)) for half in (slice(2), slice(2, 4))]
    oracle = np.mean([half[0] for half in halves]), np.concatenate([half[1] for half in halves]) / 2
    assert_close(loss, grad, (0.5 * oracle[0], 0.5 * oracle[1]))
    whole = expected(*problem)
    assert abs(whole[0] - oracle[0]) > 0.1


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_a_ranking_batch_of_all_images_changes_nothing(weight):
    problem = random_problem(3, batch=4)
    for one, other in zip(*(loss_and_grad(BoxLoss(weight, size), *problem) for size in (0, 4))):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_normaliser_counts_the_positives_of_the_whole_batch(box_loss):
    deltas, box_targets, class_targets = random_problem(1)
    deltas[:], box_targets[:], class_targets[:] = 3, 0, 0
    class_targets[0, :5], class_targets[1, :2] = 1, 3
    loss, grad = loss_and_grad(box_loss, deltas, box_targets, class_targets)
    assert loss == 2.5  # the mean over the coordinates of positives
    np.testing.assert_allclose(grad.sum(), 1)


@pytest.mark.parametrize("fill", [0, -1])
def test_without_a_positive_loss_and_gradient_are_0(box_loss, fill):
    deltas, box_targets, class_targets = random_problem(2)
    loss, grad = loss_and_grad(box_loss, deltas, box_targets, np.full_like(class_targets, fill))
    assert loss == 0
    assert not grad.any()


def test_rows_that_are_not_positive_do_not_matter(box_loss):
    deltas, box_targets, class_targets = random_problem(3)
    rest = class_targets <= 0
    before = loss_and_grad(box_loss, deltas, box_targets, class_targets)
    deltas[rest], box_targets[rest] = 1e6, -1e6
    class_targets[rest] = -1 - class_targets[rest]  # swaps ignored and background
    after = loss_and_grad(box_loss, deltas, box_targets, class_targets)
    assert not after[1][rest].any()
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)


def test_the_class_of_a_positive_does_not_matter(box_loss):
    deltas, box_targets, class_targets = random_problem(4)
    before = loss_and_grad(box_loss, deltas, box_targets, class_targets)
    class_targets[class_targets > 0] = 17
    for old, new in zip(before, loss_and_grad(box_loss, deltas, box_targets, class_targets)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_forward_passes_before_a_backward_do_not_mix(box_loss, order):
    problems = [random_problem(seed) for seed in (5, 6)]
    started = [start(box_loss, *problem) for problem in problems]
    for number in order:
        started[number][1].backward()
    for (deltas, loss), problem in zip(started, problems):
        assert_close(loss.asscalar(), deltas.grad.asnumpy(), expected(*problem))


def test_two_devices_at_once(box_loss):
    problems = [random_problem(seed) for seed in (7, 8)]
    started = [start(box_loss, *problem, ctx=device(number)) for number, problem in enumerate(problems)]
    autograd.backward([loss for _, loss in started])
    for (deltas, loss), problem in zip(started, problems):
        assert loss.context == deltas.context
        assert_close(loss.asscalar(), deltas.grad.asnumpy(), expected(*problem))
