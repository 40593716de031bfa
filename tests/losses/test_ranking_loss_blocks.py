"""The four ranking losses as Gluon blocks: the NumPy functions' numbers, and what must not change them."""

from __future__ import annotations

from itertools import product

import mxnet as mx
import numpy as np
import pytest
from contexts import device
from executors import bind
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from loss_blocks import MODES, in_mode, loss_and_grad, start
from mxnet import autograd

from aploss_mx.losses import APLoss, AUCLoss, SmoothAPLoss, StructuredHingeAPLoss
from aploss_mx.ranking import exact, smooth_ap, structured_hinge
from aploss_mx.ranking.problem import solve_anchors

# Block, other attributes than the defaults, and the methods of the two.
LOSSES = {
    "ap": (APLoss, {"delta": 0.5, "interpolated": False}, exact.ap_loss(1.0, True), exact.ap_loss(0.5, False)),
    "auc": (AUCLoss, {"delta": 0.5}, exact.auc_loss(1.0), exact.auc_loss(0.5)),
    "smooth": (
        SmoothAPLoss,
        {"temperature": 2.0, "epsilon": 0.1},
        smooth_ap.smooth_ap_loss(0.5, 1e-6),
        smooth_ap.smooth_ap_loss(2.0, 0.1),
    ),
    "hinge": (
        StructuredHingeAPLoss,
        {},
        structured_hinge.structured_hinge_loss,
        structured_hinge.structured_hinge_loss,
    ),
}


@pytest.fixture(params=LOSSES)
def name(request):
    return request.param


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def build(name, mode="imperative", **attributes):
    return in_mode(mode, LOSSES[name][0](**attributes))


def random_problem(seed, shape=(4, 20, 3)):
    """Logits in 64ths, none twice: shifts are exact in float32, and no loss has two gradients to choose from."""
    rng = np.random.default_rng(seed)
    logits = (rng.permutation(np.prod(shape)) - np.prod(shape) / 2).reshape(shape) / 64
    class_targets = rng.integers(-1, shape[-1] + 1, shape[:2])
    class_targets[:, 0] = 1
    return logits.astype(np.float32), class_targets.astype(np.float32)


def assert_close(result, expected, scale=1, atol=1e-7):
    np.testing.assert_allclose(result[0], scale * expected[0], rtol=1e-5, atol=atol)
    np.testing.assert_allclose(result[1], scale * expected[1], rtol=1e-5, atol=atol)


# --- the numbers ---


@pytest.mark.parametrize("others", [False, True])
def test_it_is_the_function_of_all_groups(name, mode, others):
    _, attributes, *methods = LOSSES[name]
    for ranking_batch, ranking_scope in product([0, 1, 2], ["all", "class"]):
        groups = {"ranking_batch": ranking_batch, "ranking_scope": ranking_scope}
        problem = random_problem(ranking_batch)
        result = loss_and_grad(build(name, mode, **groups, **(attributes if others else {})), *problem)
        assert_close(result, solve_anchors(methods[others], *problem, **groups))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.sampled_from(sorted(MODES)),
    st.tuples(st.integers(1, 3), st.integers(1, 10), st.integers(1, 4)),
    st.data(),
)
def test_it_is_the_function_for_any_shape(name, mode, shape, data):
    # Ties too: block and function run the same code, and so take the same subgradient.
    logits = data.draw(hnp.arrays(np.float32, shape, elements=st.integers(-12, 12).map(lambda n: n / 4)))
    class_targets = data.draw(hnp.arrays(np.float32, shape[:2], elements=st.integers(-1, shape[-1])))
    expected = solve_anchors(LOSSES[name][2], logits, class_targets)
    assert_close(loss_and_grad(build(name, mode), logits, class_targets), expected)


def test_the_attributes_matter(name):
    # Or the comparisons with the functions could not tell a forgotten attribute.
    problem = random_problem(0)
    problem[0][...] += np.float32([0, 3, -2, 5])[:, None, None] + np.float32([0, 3, -2])
    default = loss_and_grad(build(name), *problem)[0]
    for attributes in ({"ranking_batch": 1}, {"ranking_scope": "class"}, LOSSES[name][1]):
        if attributes:
            assert abs(loss_and_grad(build(name, **attributes), *problem)[0] - default) > 1e-4


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_class_targets_may_be_whole_numbers_of_either_type(name, mode, dtype):
    logits, class_targets = random_problem(1)
    expected = solve_anchors(LOSSES[name][2], logits, class_targets)
    assert_close(loss_and_grad(build(name, mode), logits, class_targets.astype(dtype)), expected)


def test_the_incoming_gradient_scales_the_gradient(name, mode):
    problem = random_problem(2)
    expected = solve_anchors(LOSSES[name][2], *problem)
    assert_close(loss_and_grad(build(name, mode), *problem, scale=3), expected, scale=3)


def test_one_block_follows_changing_shapes(name, mode):
    block = build(name, mode)
    for seed, shape in enumerate([(2, 30, 3), (1, 7, 2), (3, 11, 1), (2, 30, 3)]):
        problem = random_problem(seed, shape)
        assert_close(loss_and_grad(block, *problem), solve_anchors(LOSSES[name][2], *problem))


def test_forward_passes_before_a_backward_do_not_mix(name, mode):
    block, problems = build(name, mode), [random_problem(seed) for seed in range(3)]
    started = [start(block, *problem) for problem in problems]
    block(*map(mx.nd.array, random_problem(3))).wait_to_read()  # nor with what is not recorded
    for number in (1, 2, 0):
        started[number][1].backward()
    for (logits, loss), problem in zip(started, problems):
        expected = solve_anchors(LOSSES[name][2], *problem)
        assert_close((loss.asscalar(), logits.grad.asnumpy()), expected)


def test_gradients_add_up_where_asked_to(name, mode):
    block, problems = build(name, mode), [random_problem(seed) for seed in range(2)]
    logits = mx.nd.zeros(problems[0][0].shape)
    logits.attach_grad(grad_req="add")
    for values, class_targets in problems:
        logits[:] = mx.nd.array(values)
        with autograd.record():
            loss = block(logits, mx.nd.array(class_targets))
        loss.backward()
    total = sum(solve_anchors(LOSSES[name][2], *problem)[1] for problem in problems)
    np.testing.assert_allclose(logits.grad.asnumpy(), total, rtol=1e-5, atol=1e-6)


def test_two_devices_at_once_compute_what_one_does(name, mode):
    block, problems = build(name, mode), [random_problem(seed, (2, 100, 3)) for seed in range(10)]
    for pair in zip(problems[::2], problems[1::2]):
        started = [start(block, *problem, ctx=device(number)) for number, problem in enumerate(pair)]
        autograd.backward([loss for _, loss in started])
        for (logits, loss), problem in zip(started, pair):
            assert loss.context == logits.context
            expected = solve_anchors(LOSSES[name][2], *problem)
            assert_close((loss.asscalar(), logits.grad.asnumpy()), expected)


def test_it_takes_symbols(name):
    loss = build(name)(mx.sym.var("logits"), mx.sym.var("class_targets"))
    assert len(loss.list_outputs()) == 1
    logits, class_targets = random_problem(3)
    executor = bind(loss, logits=logits.shape)
    executor.forward(is_train=True, logits=logits, class_targets=class_targets)
    expected, _ = solve_anchors(LOSSES[name][2], logits, class_targets)
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), [expected], rtol=1e-5)


def test_ignored_anchors_never_matter(name, mode):
    logits, class_targets = random_problem(3)
    expected = solve_anchors(LOSSES[name][2], logits, class_targets)
    logits[class_targets == -1] = np.nan
    result = loss_and_grad(build(name, mode), logits, class_targets)
    assert_close(result, expected)
    assert not result[1][class_targets == -1].any()


def test_a_nan_shows_in_the_loss(name, mode):
    logits, class_targets = random_problem(3)
    logits[0, 0, 0] = np.nan  # of a positive
    loss, grad = loss_and_grad(build(name, mode), logits, class_targets)
    assert np.isnan(loss)
    assert np.isnan(grad[0, 0]).all()


@pytest.mark.parametrize("fill", [0, -1])
def test_without_a_positive_loss_and_gradient_are_0(name, mode, fill):
    logits, class_targets = random_problem(3)
    loss, grad = loss_and_grad(build(name, mode), logits, np.full_like(class_targets, fill))
    assert loss == 0
    assert not grad.any()


# --- what changes nothing, or only what it should ---


@pytest.mark.parametrize("shift", [-512.0, 8.0])
@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_a_shift_of_all_logits_changes_nothing(name, ranking_scope, shift):
    logits, class_targets = random_problem(4)
    block = build(name, ranking_batch=2, ranking_scope=ranking_scope)
    shifted = loss_and_grad(block, logits + np.float32(shift), class_targets)
    assert_close(shifted, loss_and_grad(block, logits, class_targets))


def test_groups_and_classes_shift_for_themselves(name):
    # A shift between what is ranked together does show.
    logits, class_targets = random_problem(4)
    by_image = np.float32([0, 3, -2, 5])[:, None, None]
    by_class = np.float32([0, 3, -2])
    for attributes, shift in [({"ranking_batch": 1}, by_image), ({"ranking_scope": "class"}, by_class)]:
        block = build(name, **attributes)
        expected = loss_and_grad(block, logits, class_targets)
        assert_close(loss_and_grad(block, logits + shift, class_targets), expected)
        together = [loss_and_grad(build(name), logits + s, class_targets)[0] for s in (0, shift)]
        assert abs(together[0] - together[1]) > 1e-3


@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_gradients_follow_their_anchors(name, ranking_scope):
    logits, class_targets = random_problem(5)
    block = build(name, ranking_scope=ranking_scope)
    loss, grad = loss_and_grad(block, logits, class_targets)
    order = np.random.default_rng(5).permutation(logits.shape[1])
    assert_close(loss_and_grad(block, logits[:, order], class_targets[:, order]), (loss, grad[:, order]))
    assert_close(loss_and_grad(block, logits[::-1].copy(), class_targets[::-1].copy()), (loss, grad[::-1]))


@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_a_second_copy_of_an_image_shares_its_gradient(name, ranking_scope):
    logits, class_targets = random_problem(6, (1, 40, 3))
    block = build(name, ranking_batch=1, ranking_scope=ranking_scope)
    loss, grad = loss_and_grad(block, logits, class_targets)
    twice = loss_and_grad(block, np.repeat(logits, 2, axis=0), np.repeat(class_targets, 2, axis=0))
    assert_close(twice, (loss, np.repeat(grad, 2, axis=0) / 2))


# --- what they are for ---


@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_descent_lowers_it(name, ranking_scope):
    rng = np.random.default_rng(7)
    logits, class_targets = rng.normal(size=(2, 30, 3)).astype(np.float32), rng.choice([-1, 0, 0, 0, 1, 2, 3], (2, 30))
    block, losses = build(name, ranking_scope=ranking_scope), []
    for _ in range(50):
        loss, grad = loss_and_grad(block, logits, class_targets)
        losses.append(loss)
        logits -= 10 * grad
    assert losses[-1] < 0.1 * losses[0]


# --- errors ---


@pytest.mark.parametrize("bad", [4, 1.5])
def test_an_error_inside_reaches_the_caller_and_passes(name, mode, bad):
    block = build(name, mode)
    logits, class_targets = random_problem(8)
    wrong = class_targets.copy()
    wrong[0, 0] = bad
    with pytest.raises(mx.MXNetError):
        block(mx.nd.array(logits), mx.nd.array(wrong)).asnumpy()
    mx.nd.waitall()
    problem = logits[:3], class_targets[:3]
    assert_close(loss_and_grad(block, *problem), solve_anchors(LOSSES[name][2], *problem))


def test_groups_that_do_not_fill_the_batch_are_refused_at_once(name, mode):
    with pytest.raises(ValueError, match="a batch of 4 images cannot be ranked in groups of 3"):
        build(name, mode, ranking_batch=3)(mx.nd.zeros((4, 5, 2)), mx.nd.zeros((4, 5)))


REFUSED = [(n, "ranking_batch", bad) for n in LOSSES for bad in (-1, 1.5)]
REFUSED += [(n, "ranking_scope", bad) for n in LOSSES for bad in ("image", "", None)]
REFUSED += [(n, "delta", bad) for n in ("ap", "auc") for bad in (0, -1, np.nan, np.inf)]
REFUSED += [("ap", "interpolated", bad) for bad in ("no", None, 2)]
REFUSED += [("smooth", "temperature", bad) for bad in (0, -1, np.nan, np.inf)]
REFUSED += [("smooth", "epsilon", bad) for bad in (-1e-6, np.nan, np.inf)]


@pytest.mark.parametrize("name, attribute, bad", REFUSED)
def test_attributes_that_cannot_be_used_are_refused(name, attribute, bad):
    with pytest.raises(ValueError, match=attribute):
        build(name, **{attribute: bad})
