"""What every ranking loss shares: labels and ignored scores, replicated anchors, groups of images and of classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from operator_cases import replicate

from aploss_mx.ranking import exact, smooth_ap, structured_hinge
from aploss_mx.ranking.problem import solve_anchors

METHODS = {
    "ap": (exact.ap_loss(), exact.ap_loss_and_grad),
    "ap 0.5": (exact.ap_loss(0.5, False), lambda s, t: exact.ap_loss_and_grad(s, t, 0.5, False)),
    "auc": (exact.auc_loss(), exact.auc_loss_and_grad),
    "auc 0.5": (exact.auc_loss(0.5), lambda s, t: exact.auc_loss_and_grad(s, t, 0.5)),
    "smooth": (smooth_ap.smooth_ap_loss(), smooth_ap.smooth_ap_loss_and_grad),
    "smooth 2": (smooth_ap.smooth_ap_loss(2.0, 0.1), lambda s, t: smooth_ap.smooth_ap_loss_and_grad(s, t, 2.0, 0.1)),
    "hinge": (structured_hinge.structured_hinge_loss, structured_hinge.structured_hinge_loss_and_grad),
}


@pytest.fixture(params=["auc", "smooth", "hinge"])
def loss_and_grad(request):
    """A loss of scores and labels, as a plain function."""
    return METHODS[request.param][1]


@pytest.fixture(params=METHODS)
def method_and_function(request):
    return METHODS[request.param]


def group_by_group(function, logits, class_targets, ranking_batch=0, ranking_scope="all"):
    """Every group a call of its own: consecutive images, then one class or all of them."""
    labels = replicate(class_targets, logits.shape[-1])
    images, classes = len(logits), logits.shape[-1]
    size = ranking_batch or images
    loss, grad = 0.0, np.zeros(logits.shape)
    for start in range(0, images, size):
        group = slice(start, start + size)
        copies = [slice(c, c + 1) for c in range(classes)] if ranking_scope == "class" else [slice(None)]
        copies = [c for c in copies if (labels[group, :, c] == 1).any()]
        for c in copies:
            part_loss, part_grad = function(logits[group, :, c], labels[group, :, c])
            share = size / images / len(copies)
            loss += share * part_loss
            grad[group, :, c] += share * part_grad
    return loss, grad


def random_problem(seed, shape=(4, 25, 3)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32), rng.integers(-1, shape[-1] + 1, shape[:2]).astype(np.float32)


def assert_close(result, expected):
    (loss, grad), (expected_loss, expected_grad) = result, expected
    assert type(loss) is float
    assert grad.dtype == np.float32
    assert grad.shape == expected_grad.shape
    assert loss == pytest.approx(expected_loss, rel=1e-6, abs=1e-9)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5, atol=1e-7)


# --- the functions of scores and labels ---


def scores_and_labels(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=60), rng.choice([-1, 0, 0, 1], 60)


@pytest.mark.parametrize("junk", [0.0, 1e30, -1e4, np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_ignored_scores_never_matter(loss_and_grad, junk):
    scores, labels = scores_and_labels(0)
    valid = labels != -1
    scores[~valid] = junk
    loss, grad = loss_and_grad(scores, labels)
    assert not grad[~valid].any()
    assert_close((loss, grad[valid]), loss_and_grad(scores[valid], labels[valid]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_non_finite_valid_score_gives_a_nan(loss_and_grad, label, bad):
    scores, labels = scores_and_labels(1)
    scores[np.flatnonzero(labels == label)[3]] = bad
    assert np.isnan(loss_and_grad(scores, labels)[0])


@pytest.mark.parametrize("labels", [[], [0, 0, 0], [-1, -1], [0, -1]])
def test_without_a_positive_loss_and_gradient_are_0(loss_and_grad, labels):
    loss, grad = loss_and_grad(np.arange(len(labels), dtype=np.float32), np.array(labels, int))
    assert type(loss) is float
    assert loss == 0
    assert grad.shape == (len(labels),)
    assert grad.dtype == np.float32
    assert not grad.any()


@pytest.mark.parametrize("shapes", [((3,), (2,)), ((3,), (3, 1)), ((2, 3), (3, 2))])
def test_shapes_that_differ_are_refused(loss_and_grad, shapes):
    with pytest.raises(ValueError, match="shape"):
        loss_and_grad(np.zeros(shapes[0]), np.zeros(shapes[1], int))


@pytest.mark.parametrize("label", [2, -2, 256, 257, 0.5, np.nan, np.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_other_labels_are_refused(loss_and_grad, label):
    with pytest.raises(ValueError, match="label"):
        loss_and_grad(np.zeros(3), np.array([1, 0, label]))


@pytest.mark.parametrize("seed", range(3))
def test_a_gradient_sums_to_0_and_follows_its_scores(loss_and_grad, seed):
    scores, labels = scores_and_labels(seed)
    before = scores.copy(), labels.copy()
    scores.flags.writeable = labels.flags.writeable = False
    loss, grad = loss_and_grad(scores, labels)
    assert abs(grad.sum(dtype=np.float64)) < 1e-6
    order = np.random.default_rng(seed).permutation(scores.size)
    assert_close(loss_and_grad(scores[order], labels[order]), (loss, grad[order]))
    layouts = np.asfortranarray(scores.reshape(5, 12)), labels.reshape(5, 12)
    assert_close(loss_and_grad(*layouts), (loss, grad.reshape(5, 12)))
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(labels, before[1])


# --- anchors ---


@pytest.mark.parametrize("ranking_scope", ["all", "class"])
@pytest.mark.parametrize("ranking_batch", [0, 1, 2, 4])
def test_groups_are_ranked_for_themselves(method_and_function, ranking_batch, ranking_scope):
    method, function = method_and_function
    problem = random_problem(ranking_batch)
    attributes = ranking_batch, ranking_scope
    assert_close(solve_anchors(method, *problem, *attributes), group_by_group(function, *problem, *attributes))


@settings(deadline=None, max_examples=150)
@given(st.data(), st.sampled_from(sorted(METHODS)), st.sampled_from(["all", "class"]))
def test_groups_of_any_shape(data, name, ranking_scope):
    groups, size = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    shape = groups * size, data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    # An order of its own for the scores: with ties the hinge loss may take another subgradient.
    logits = np.array(data.draw(st.permutations(range(np.prod(shape)))), np.float32).reshape(shape) / 7
    elements = st.sampled_from([-1, 0, *range(1, shape[-1] + 1)])
    class_targets = data.draw(hnp.arrays(np.int32, shape[:2], elements=elements, fill=st.sampled_from([-1, 0])))
    method, function = METHODS[name]
    expected = group_by_group(function, logits, class_targets, size, ranking_scope)
    assert_close(solve_anchors(method, logits, class_targets, size, ranking_scope), expected)


def test_a_group_without_a_positive_counts_as_0(method_and_function):
    method, _ = method_and_function
    logits, class_targets = random_problem(5)
    class_targets[1:] = np.minimum(class_targets[1:], 0)
    for ranking_scope in ("all", "class"):
        loss, grad = solve_anchors(method, logits, class_targets, 1, ranking_scope)
        alone, alone_grad = solve_anchors(method, logits[:1], class_targets[:1], 0, ranking_scope)
        assert alone > 0
        assert_close((loss, grad[:1]), (alone / 4, alone_grad / 4))
        assert not grad[1:].any()


def test_a_class_without_a_positive_does_not_count(method_and_function):
    method, _ = method_and_function
    logits, class_targets = random_problem(6)
    class_targets[class_targets == 2] = 0
    loss, grad = solve_anchors(method, logits, class_targets, ranking_scope="class")
    class_targets[class_targets == 3] = 2
    expected, expected_grad = solve_anchors(method, logits[..., [0, 2]], class_targets, ranking_scope="class")
    assert_close((loss, grad[..., [0, 2]]), (expected, expected_grad))
    assert not grad[..., 1].any()


def test_one_class_is_one_ranking(method_and_function):
    problem = random_problem(7, (2, 30, 1))
    by_class = solve_anchors(method_and_function[0], *problem, ranking_scope="class")
    assert_close(by_class, solve_anchors(method_and_function[0], *problem))


@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_only_ignored_anchors_may_be_non_finite(method_and_function, ranking_scope):
    method, function = method_and_function
    logits, class_targets = random_problem(8)
    class_targets[2, :2] = -1, 1
    expected = group_by_group(function, logits, class_targets, 2, ranking_scope)
    logits[2, 0] = np.nan, np.inf, -np.inf
    assert_close(solve_anchors(method, logits, class_targets, 2, ranking_scope), expected)
    logits[2, 1, 0] = np.nan
    assert np.isnan(solve_anchors(method, logits, class_targets, 2, ranking_scope)[0])


@pytest.mark.parametrize("bad", [4, -2, 1.5, -0.5, np.nan, 255, 256])
@pytest.mark.parametrize("ranking_scope", ["all", "class"])
def test_bad_class_targets_are_refused(method_and_function, ranking_scope, bad):
    logits, class_targets = random_problem(9)
    class_targets[3, 7] = bad
    with pytest.raises(ValueError):
        solve_anchors(method_and_function[0], logits, class_targets, 2, ranking_scope)


@pytest.mark.parametrize("attributes", [(3, "all"), (8, "all"), (3, "class")])
def test_groups_that_do_not_make_up_the_batch_are_refused(method_and_function, attributes):
    with pytest.raises(ValueError):
        solve_anchors(method_and_function[0], *random_problem(10), *attributes)


@pytest.mark.parametrize("shape", [(4, 24), (3, 25), (4, 25, 3), (100,)])
def test_class_targets_of_another_shape_are_refused(method_and_function, shape):
    with pytest.raises(ValueError):
        solve_anchors(method_and_function[0], random_problem(11)[0], np.zeros(shape))
