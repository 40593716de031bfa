"""The operator `aploss` in MXNet's Symbol and Module APIs: shapes, types, and the same numbers."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from contexts import device
from executors import bind
from operator_cases import aploss, assert_close, expected, random_problem


def symbol(**attributes):
    return mx.sym.Custom(mx.sym.var("logits"), mx.sym.var("class_targets"), op_type="aploss", **attributes)


def test_shapes_are_inferred_from_the_logits():
    assert symbol().infer_shape(logits=(2, 30, 3)) == ([(2, 30, 3), (2, 30)], [(1,), (2, 30, 3)], [])
    assert symbol().list_outputs()[0].endswith("_loss")


def test_shapes_that_do_not_fit_are_refused():
    for shape in [(2, 29), (3, 30), (2, 30, 1)]:
        with pytest.raises(mx.MXNetError, match="Shape inconsistent"):
            aploss(mx.nd.zeros((2, 30, 3)), mx.nd.zeros(shape))


def test_types_are_inferred_from_the_logits():
    inputs, outputs, _ = symbol().infer_type(logits="float16", class_targets="int32")
    assert inputs == [np.float16, np.int32]
    assert outputs == [np.float32, np.float32]
    assert symbol().infer_type(logits="float64", class_targets="float32")[1] == [np.float64, np.float32]


def test_shapes_may_be_unknown_yet():
    assert symbol().infer_shape_partial() == ([(), ()], [(1,), ()], [])
    assert symbol().infer_shape_partial(class_targets=(2, 30)) == ([(), (2, 30)], [(1,), ()], [])
    partial = symbol(ranking_batch=2).infer_shape_partial(logits=(0, 5, 3))
    assert partial == ([(0, 5, 3), (0, 5)], [(1,), (0, 5, 3)], [])


def test_attributes_of_a_scope_are_not_the_operators():
    with mx.AttrScope(ctx_group="head", force_mirroring="True"):
        scoped = symbol(delta=0.5)
    logits, class_targets = random_problem(15)
    executor = bind(scoped, logits=logits.shape)
    executor.forward(logits=logits, class_targets=class_targets)
    expected_loss = aploss(mx.nd.array(logits), mx.nd.array(class_targets), delta=0.5)
    assert executor.outputs[0].asscalar() == expected_loss.asscalar()


def test_groups_that_do_not_fill_the_batch_are_refused_at_once():
    with pytest.raises(mx.MXNetError):  # not at the next read, when weights may be spoilt
        aploss(mx.nd.zeros((4, 5, 2)), mx.nd.zeros((4, 5)), ranking_batch=3)


@pytest.mark.parametrize("delta, interpolated", [(1.0, True), (0.3, False)])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_a_bound_symbol_computes_the_same(delta, interpolated, dtype):
    problem = random_problem(11)
    executor = bind(
        symbol(delta=delta, interpolated=interpolated)[0],
        logits=problem[0].shape,
        type_dict={"logits": "float32", "class_targets": dtype},
    )
    for _ in range(2):
        executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
        executor.backward(mx.nd.full((1,), 3))
    loss, grad = expected(*problem, delta, interpolated)
    assert_close((executor.outputs[0].asnumpy(), executor.grad_dict["logits"].asnumpy()), (loss, 3 * grad))


@pytest.mark.parametrize("grad_req, times", [("write", 1), ("add", 3)])
def test_a_bound_symbol_honours_the_gradient_request(grad_req, times):
    problem = random_problem(12)
    executor = bind(symbol()[0], logits=problem[0].shape, grad_req={"logits": grad_req, "class_targets": "null"})
    executor.grad_dict["logits"][:] = 0
    for _ in range(3):
        executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
        executor.backward(mx.nd.ones((1,)))
    np.testing.assert_allclose(
        executor.grad_dict["logits"].asnumpy(), times * expected(*problem)[1], rtol=1e-5, atol=1e-6
    )
    assert executor.grad_dict["class_targets"] is None


def test_a_bound_symbol_may_want_no_gradient_at_all():
    problem = random_problem(12)
    executor = bind(symbol()[0], logits=problem[0].shape, grad_req="null")
    executor.forward(is_train=True, logits=problem[0], class_targets=problem[1])
    executor.backward(mx.nd.ones((1,)))
    np.testing.assert_allclose(executor.outputs[0].asnumpy(), [expected(*problem)[0]], rtol=1e-5)
    assert executor.grad_dict["logits"] is None


def test_a_module_on_two_devices_ranks_each_part_of_the_batch_for_itself():
    images, anchors, classes, features = 4, 6, 3, 5
    rng = np.random.default_rng(13)
    data = rng.normal(size=(images, features)).astype(np.float32)
    weight = rng.normal(size=(anchors * classes, features)).astype(np.float32)
    class_targets = rng.integers(-1, classes + 1, (images, anchors)).astype(np.float32)

    scores = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=anchors * classes, no_bias=True, name="scores")
    loss = mx.sym.Custom(
        scores.reshape((-1, anchors, classes)), mx.sym.var("class_targets"), op_type="aploss", name="aploss"
    )[0]
    module = mx.mod.Module(mx.sym.MakeLoss(loss), ["data"], ["class_targets"], context=[device(0), device(1)])
    module.bind([("data", data.shape)], [("class_targets", class_targets.shape)])
    module.init_params(arg_params={"scores_weight": mx.nd.array(weight)})
    module.init_optimizer(kvstore="local", optimizer_params={"learning_rate": 1.0, "rescale_grad": 0.5})
    module.forward_backward(mx.io.DataBatch([mx.nd.array(data)], [mx.nd.array(class_targets)]))
    module.update()

    losses, step = [], np.zeros_like(weight)
    for part in (slice(0, 2), slice(2, 4)):
        part_loss, grad = expected((data[part] @ weight.T).reshape(2, anchors, classes), class_targets[part])
        losses.append(part_loss)
        step += grad.reshape(2, -1).T @ data[part] / 2
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), losses, rtol=1e-5)
    np.testing.assert_allclose(module.get_params()[0]["scores_weight"].asnumpy(), weight - step, rtol=1e-5, atol=1e-6)
