"""Which images an epoch holds, in which order, and that neither workers nor global state have a say in it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_images import exif, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aploss_mx.data.examples import Draw
from aploss_mx.data.loader import EpochSampler, EvaluationSet, TrainingSet, evaluation_loader, training_loader
from aploss_mx.data.pixels import normalize, read_image
from aploss_mx.data.processes import LoaderProcesses
from aploss_mx.data.sample import Sample
from aploss_mx.data.transforms import EvalTransform, TrainTransform, View
from aploss_mx.geometry.anchors import make_anchors
from aploss_mx.geometry.targets import assign_targets

SSD = TrainTransform((64, 96), "ssd")
PLAIN = TrainTransform((64, 96), "none")
EVAL = EvalTransform(32, 64)
VIEWS = [View(EVAL), View(EvalTransform(64, 64), mirrored=True)]
SHAPES = [(30, 40), (40, 30), (30, 40), (64, 64), (30, 40), (40, 30), (48, 48)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    """Seven noise images, (height, width) as in SHAPES, the first of them with a difficult object."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    return [
        write_sample(
            folder / f"{number}.png",
            rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            boxes=[[2, 3, 22, 23], [10, 5, 28, 28], [0, 0, 9, 9]],
            labels=[0, number % 3, 1],
            difficult=[False, number == 0, False],
        )
        for number, shape in enumerate(SHAPES)
    ]


def write_sample(path: Path, image: np.ndarray, boxes, labels, difficult) -> Sample:
    Image.fromarray(image).save(path)
    return Sample(
        path.stem,
        path,
        image.shape[1],
        image.shape[0],
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(difficult, bool),
    )


def assert_same(items, others) -> None:
    assert len(items) == len(others)
    for item, other in zip(items, others):
        np.testing.assert_array_equal(item, other)
        assert item.dtype == other.dtype


def batches_of(loader) -> list[list[np.ndarray]]:
    return [[array.asnumpy() for array in batch] for batch in loader]


# The order of an epoch


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5), st.integers(0, 5))
def test_epoch_shows_each_image_once_before_it_wraps_round(size, batch_size, seed, epoch):
    sampler = EpochSampler(size, batch_size, seed)
    sampler.epoch = epoch
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {len(batch) for batch in batches} == {batch_size}
    draws = [draw for batch in batches for draw in batch]
    assert [draw.position for draw in draws] == list(range(len(draws)))
    assert {draw.epoch for draw in draws} == {epoch}
    assert size <= len(draws) < size + batch_size
    indices = [draw.index for draw in draws]
    assert sorted(indices[:size]) == list(range(size))
    assert indices[size:] == [indices[position % size] for position in range(size, len(draws))]


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, 10, seed)
        sampler.epoch = epoch
        return [draw.index for batch in sampler for draw in batch]

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(4)]
    assert len(set(map(tuple, orders))) == 12
    assert order(2, 3) == orders[-1]


def test_one_sampler_serves_all_epochs():
    sampler = EpochSampler(10, 4, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.epoch = 1
    assert list(sampler) != first


# Training items


@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_are_used_as_they_are_stored(tmp_path, orientation):
    """Annotations refer to the stored pixels, so training and evaluation do not heed EXIF's orientation."""
    stored = noise_image(32, 64)
    sample = write_sample(tmp_path / "a.png", stored, [[0, 0, 40, 30]], [0], [False])
    Image.fromarray(stored).save(sample.image_path, exif=exif(orientation))
    np.testing.assert_array_equal(EvaluationSet([sample], VIEWS)[0][1], normalize(stored))
    transform = TrainTransform((32, 64), "none")
    np.testing.assert_array_equal(TrainingSet([sample], transform, 0)[Draw(0, 0, 0)][0], normalize(stored))


def test_training_item_is_the_image_and_its_objects_targets(samples):
    dataset = TrainingSet(samples, PLAIN, seed=0)
    image, class_targets, box_targets = dataset[Draw(epoch=0, position=0, index=1)]
    resized = cv2.resize(read_image(samples[1].image_path), (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(image, normalize(resized))
    boxes = samples[1].boxes * np.array([96 / 30, 64 / 40] * 2, np.float32)
    expected = assign_targets(make_anchors(64, 96), boxes, samples[1].labels)
    np.testing.assert_array_equal(class_targets, expected[0])
    np.testing.assert_allclose(box_targets, expected[1], rtol=1e-5, atol=1e-5)
    assert image.dtype == class_targets.dtype == box_targets.dtype == np.float32


def test_difficult_objects_are_left_out(samples):
    first = samples[0]
    keep = [0, 2]
    easy = Sample("easy", first.image_path, 40, 30, first.boxes[keep], first.labels[keep], np.zeros(2, bool))
    with_difficult, without, all_easy = (
        TrainingSet([sample], PLAIN, seed=0)[Draw(0, 0, 0)]
        for sample in (
            first,
            easy,
            Sample("all", first.image_path, 40, 30, first.boxes, first.labels, np.zeros(3, bool)),
        )
    )
    assert_same(with_difficult, without)
    assert (with_difficult[1] != all_easy[1]).any()


def test_images_without_objects_to_learn_are_left_out(samples, tmp_path):
    image = np.zeros((30, 40, 3), np.uint8)
    empty = write_sample(tmp_path / "empty.png", image, [], [], [])
    difficult = write_sample(tmp_path / "difficult.png", image, [[1, 1, 9, 9]] * 2, [0, 1], [True, True])
    dataset = TrainingSet([empty, samples[0], difficult, samples[1]], PLAIN, seed=0)
    assert len(dataset) == 2
    assert dataset.samples == [samples[0], samples[1]]
    assert len(TrainingSet([empty, difficult], PLAIN, seed=0)) == 0


def test_item_depends_on_seed_epoch_and_position(samples):
    draw = Draw(epoch=3, position=11, index=2)
    item = TrainingSet(samples, SSD, seed=5)[draw]
    others = [(6, draw), (5, draw._replace(epoch=4)), (5, draw._replace(position=12)), (5, Draw(11, 3, 2))]
    for seed, other in others:
        assert (TrainingSet(samples, SSD, seed)[other][0] != item[0]).any(), (seed, other)


def test_item_depends_on_nothing_else(samples):
    dataset = TrainingSet(samples, SSD, seed=5)
    draw = Draw(epoch=3, position=11, index=2)
    item = dataset[draw]
    np.random.rand()  # noqa: NPY002  (the global generator must not matter)
    dataset[Draw(0, 0, 0)]
    assert_same(dataset[draw], item)
    assert_same(TrainingSet(samples, SSD, seed=5)[draw], item)


# Loaders


def test_batches_do_not_depend_on_the_number_of_workers(samples):
    epochs = {}
    for workers in (0, 1, 2):
        sampler = EpochSampler(len(samples), batch_size=3, seed=4)
        loader = training_loader(TrainingSet(samples, SSD, seed=4), sampler, LoaderProcesses(workers))
        assert len(loader) == 3
        epochs[workers] = []
        for epoch in (0, 1):
            sampler.epoch = epoch
            epochs[workers].append(batches_of(loader))
    for first, second in (epochs[0], epochs[1], epochs[2]):
        assert len(first) == len(second) == 3
    for workers in (1, 2):
        for batches, expected in zip(epochs[workers], epochs[0]):
            for batch, expected_batch in zip(batches, expected):
                assert_same(batch, expected_batch)
    first, second = epochs[0]
    assert not np.array_equal(first[0][0], second[0][0])


def test_batch_is_made_of_its_draws(samples):
    dataset, sampler = TrainingSet(samples, SSD, seed=4), EpochSampler(len(samples), batch_size=3, seed=4)
    batches = batches_of(training_loader(dataset, sampler, LoaderProcesses(0)))
    for batch, draws in zip(batches, sampler):
        assert [array.shape for array in batch] == [(3, 3, 64, 96), (3, 774), (3, 774, 4)]
        for row, draw in enumerate(draws):
            assert_same([array[row] for array in batch], dataset[draw])


@given(st.lists(st.sampled_from([(30, 40), (40, 30), (31, 40), (64, 64), (10, 99)]), max_size=30), st.integers(1, 9))
@settings(max_examples=20)
def test_test_batches_hold_each_index_once_and_one_shape(shapes, batch_size):
    class NoImages(EvaluationSet):
        def item(self, index: int):
            shapes = self.input_shapes(self.samples[index])
            return lambda: (index, *(np.zeros((3, *shape), np.float32) for shape in shapes))

    listed = [Sample(str(number), Path(), width, height) for number, (height, width) in enumerate(shapes)]
    dataset = NoImages(listed, [View(EvalTransform(32, 96)), View(EvalTransform(64, 80), mirrored=True)])
    indices = []
    for rows, *inputs in evaluation_loader(dataset, LoaderProcesses(0), images=2 * batch_size):
        assert 1 <= len(rows) <= batch_size
        assert [len(array) for array in inputs] == [len(rows)] * 2
        indices += rows.asnumpy().tolist()
    assert sorted(indices) == list(range(len(shapes)))


@pytest.mark.parametrize("workers", [0, 2])
def test_test_batches_hold_the_transformed_images(samples, workers):
    loader = evaluation_loader(EvaluationSet(samples, VIEWS), LoaderProcesses(workers), images=4)
    batches = batches_of(loader)
    assert sorted(len(batch[0]) for batch in batches) == [1, 2, 2, 2]
    for indices, *inputs in batches:
        for row, index in enumerate(indices):
            image = read_image(samples[index].image_path)
            assert_same([array[row] for array in inputs], [EVAL(image), EvalTransform(64, 64)(image[:, ::-1])])
    assert sorted(index for batch in batches for index in batch[0]) == list(range(len(samples)))
    assert len(batches_of(loader)) == len(batches), "a loader serves many evaluations"


# Ctrl-C


@pytest.fixture
def handler():
    """Python's own handler of Ctrl-C, put in place: background jobs start without it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


def test_interrupt_stops_no_worker_and_still_reaches_this_process(samples, handler):
    processes = LoaderProcesses(2)
    loader = evaluation_loader(EvaluationSet(samples, VIEWS), processes, images=4)
    assert signal.getsignal(signal.SIGINT) is handler
    for pid in processes.pids:
        os.kill(pid, signal.SIGINT)
    assert len(batches_of(loader)) == 4
