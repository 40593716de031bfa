"""Read recipes: every setting that a result depends on, from YAML and overridden by flags."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, Sequence

import yaml

from aploss_mx.geometry.anchors import PAPERS, AnchorShapes
from aploss_mx.ranking.checks import LEAST_TEMPERATURE, SCOPES, check_width
from aploss_mx.text import cut, shown
from symbols.backbones import BACKBONES

RECIPES = Path(__file__).parent / "recipes"
LARGEST = 2**31  # of whole numbers
MOST_FACTORS = 16  # scales, or ratios, of anchors
LARGEST_FILE, DEEPEST = 1 << 19, 8  # bytes of a recipe, and levels of lists in it
GROUPING = {"ranking_batch", "ranking_scope"}
SETTINGS_OF_LOSSES: dict[str, set[str]] = {
    "ap": {"delta", "interpolated", "sync_ranking"} | GROUPING,
    "auc": {"delta", "sync_ranking"} | GROUPING,
    "smooth-ap": {"temperature"} | GROUPING,
    "hinge-ap": GROUPING,
    "focal": set(),
    "ohem": set(),
}
RANKING_LOSSES = tuple(name for name, settings in SETTINGS_OF_LOSSES.items() if settings >= GROUPING)


class ConfigError(ValueError):
    """A recipe or flag that cannot be used; the message says which and why."""


def _number(kind: Callable[[Any], Any], fits: Callable[[Any], bool], told: str) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        number = kind(value)
        if not fits(number) or number != float(value):
            raise ValueError(told)
        return number

    return parse


_positive = _number(int, lambda number: 0 < number < LARGEST, "must be a positive whole number, below 2^31")
_count = _number(int, lambda number: 0 <= number < LARGEST, "must be a whole number, 0 or more, below 2^31")
_positive_float = _number(float, lambda number: 0 < number < math.inf, "must be a positive number")
_not_negative = _number(float, lambda number: 0 <= number < math.inf, "must be a number, 0 or more")
_fraction = _number(float, lambda number: 0 <= number <= 1, "must lie in 0 … 1")
_factor = _number(float, lambda number: 0.01 <= number <= 100, "must lie in 0.01 … 100")


def _width(value: Any) -> float:
    number = float(value)
    check_width("it", number)
    return number


def _temperature(value: Any) -> float:
    number = float(value)
    check_width("it", number, LEAST_TEMPERATURE)
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _source(value: Any) -> str:
    return str(value) if isinstance(value, Path) else _text(value)


def _names(value: Any) -> str | tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return _text(value)
    names = tuple(map(_text, value))
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError("must be names, each once")
    return names


def _std(value: Any) -> float | None:
    return None if value in (None, "he") else _positive_float(value)


def _boolean(value: Any) -> bool:
    if str(value).lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("must be true or false")
    return str(value).lower() in ("true", "yes", "1")


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [item for item in value.split(",") if item.strip()]
    return value if isinstance(value, (list, tuple)) else [value]


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(sorted(_positive(item) for item in _items(value)))


def _factors(value: Any) -> tuple[float, ...]:
    numbers = tuple(_factor(item) for item in _items(value))
    if not 0 < len(numbers) <= MOST_FACTORS or len(set(numbers)) < len(numbers):
        raise ValueError(f"must be 1 to {MOST_FACTORS} numbers, each once")
    return numbers


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return check


def _image_side(value: Any) -> int:
    side = _positive(value)
    if side % 32:
        raise ValueError("must be a multiple of 32 pixels")
    return side


def _setting(default: Any, parse: Callable[[Any], Any], help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True)
class Recipe:
    """All settings of a run that its result depends on. The defaults are the paper's on PASCAL VOC."""

    network: str = _setting("resnet50_v1b", _one_of(*BACKBONES), f"backbone: {', '.join(BACKBONES)}")
    channels: int = _setting(256, _positive, "width of the pyramid and the heads")
    new_conv_std: float | None = _setting(
        0.01, _std, "standard deviation of new convolutions' weights, or 'he' for He's, which suits narrow heads"
    )
    pretrained: str = _setting(
        "gluoncv",
        _source,
        "backbone weights: 'gluoncv' downloads, 'none' starts at random, else a .params, .npz or .safetensors file; "
        "or a checkpoint to fine-tune, with the same classes or others; 'voc-resnet18' comes with the package",
    )
    pixels: str = _setting(
        "torchvision",
        _one_of("torchvision", "caffe"),
        "what the weights were trained on: 'torchvision' (RGB over mean and deviation) or 'caffe' (BGR less the mean)",
    )
    anchor_size: float = _setting(
        PAPERS.size, _factor, "side of the square anchor of scale 1, in strides of its level (8, 16 … 128)"
    )
    anchor_scales: tuple[float, ...] = _setting(PAPERS.scales, _factors, "factors on anchor_size")
    anchor_ratios: tuple[float, ...] = _setting(
        PAPERS.ratios, _factors, "height / width of the anchors, of each at every scale"
    )
    train_split: str = _setting(
        "2007_trainval+2012_trainval",
        _text,
        "splits to train on, joined by +: VOC's YEAR_NAME, COCO's train2017 or train2017:ids.txt",
    )
    val_split: str = _setting("2007_test", _text, "splits to evaluate on")
    classes: str | tuple[str, ...] = _setting(
        "voc",
        _names,
        "'voc', 'data' for those in the data, names joined by commas, or a file with a name a line; in a recipe also a "
        "list, whose names may hold commas",
    )
    augmentation: str = _setting("ssd", _one_of("ssd", "flip", "none"), "training augmentation: ssd, flip or none")
    data_shape: int = _setting(512, _image_side, "side of the square training images in pixels, a multiple of 32")
    loss: str = _setting(
        "ap",
        _one_of(*SETTINGS_OF_LOSSES),
        "classification loss: ap (the paper's), auc, smooth-ap (gradient descent on smoothed AP), hinge-ap (structured "
        "hinge), focal, or ohem (cross entropy with hard example mining)",
    )
    delta: float = _setting(1.0, _width, "ap, auc: half width of the step function's ramp")
    interpolated: bool = _setting(True, _boolean, "ap: interpolate the precision, true or false")
    temperature: float = _setting(0.5, _temperature, "smooth-ap: temperature of the sigmoid")
    ranking_batch: int = _setting(
        0,
        _count,
        "images that a ranking loss ranks together, and whose boxes are normalised together, a divisor of a device's "
        "images a step; 0 for all of them",
    )
    ranking_scope: str = _setting(
        "all", _one_of(*SCOPES), "'all' ranks the scores of all classes together, 'class' each class for itself"
    )
    sync_ranking: bool = _setting(
        False, _boolean, "ap, auc: rank the images of all devices as one list, instead of each device's, true or false"
    )
    box_loss_weight: float = _setting(
        1.0, _not_negative, "weight of box regression in the loss; 0 trains the classes alone, as Figure 5b does"
    )
    batch_size: int = _setting(16, _positive, "images a step, over all devices")
    epochs: int = _setting(160, _positive, "passes over the training images")
    optimizer: str = _setting("sgd", _one_of("sgd", "adam"), "sgd (the paper's) or adam")
    lr: float = _setting(0.001, _positive_float, "learning rate")
    backbone_lr_mult: float = _setting(
        1.0, _positive_float, "factor on the learning rate of the backbone's layers (MXNet's lr_mult)"
    )
    lr_decay: float = _setting(0.1, _positive_float, "factor on the learning rate at each decay epoch")
    lr_decay_epoch: tuple[int, ...] = _setting((110, 140), _numbers, "epochs after which the learning rate decays")
    warmup_steps: int = _setting(500, _count, "steps of linear warm-up")
    warmup_factor: float = _setting(1 / 3, _fraction, "fraction of the learning rate that the warm-up starts from")
    momentum: float = _setting(0.9, _fraction, "SGD momentum")
    wd: float = _setting(1e-4, _not_negative, "weight decay")
    seed: int = _setting(0, _count, "seed of initialisation, order and augmentation")
    val_interval: int = _setting(10, _count, "epochs between evaluations, 0 for the last epoch only")
    test_short: int = _setting(500, _positive, "shorter side of test images in pixels")
    test_long: int = _setting(833, _positive, "longest that the longer side may get, in pixels")
    test_scales: tuple[int, ...] = _setting(
        (),
        _numbers,
        "shorter sides of a multi-scale test in place of test_short; test_long follows in proportion",
    )
    test_warp: bool = _setting(
        False, _boolean, "warp test images to squares of test_short, as training does, true or false"
    )
    test_flip: bool = _setting(False, _boolean, "test each image mirrored, too, true or false")
    topk: int = _setting(1000, _positive, "candidates kept on each pyramid level before NMS")
    score_threshold: float = _setting(0.01, _fraction, "score that a candidate must exceed (not applied on P7)")
    nms_threshold: float = _setting(0.5, _fraction, "IoU above which per-class NMS drops the lower score")
    max_detections: int = _setting(100, _positive, "boxes kept on an image")

    def __post_init__(self) -> None:
        """Read each setting as a flag's text is read; raise ConfigError where a value cannot be used."""
        for item in fields(self):
            object.__setattr__(self, item.name, _parse(item, getattr(self, item.name)))
        if self.test_short > self.test_long:
            raise ConfigError(f"test_short = {self.test_short} exceeds test_long = {self.test_long}")
        if self.sync_ranking and (self.ranking_batch or self.ranking_scope != "all"):
            raise ConfigError("sync_ranking ranks all together, without ranking_batch or ranking_scope")
        useless = set().union(*SETTINGS_OF_LOSSES.values()) - SETTINGS_OF_LOSSES[self.loss]
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in useless and value != item.default:
                raise ConfigError(f"{item.name} = {value!r}: of no use to loss = {self.loss!r}")

    @classmethod
    def from_dict(cls, settings: dict[str, Any], source: str = "recipe") -> Recipe:
        """Return the recipe of `settings`, defaults filled in; `source` names them in errors.

        Raises
        ------
        ConfigError
            If a key is unknown or a value cannot be used.
        """
        known = [item.name for item in fields(cls)]
        unknown = sorted(name if isinstance(name, str) else shown(name) for name in settings if name not in known)
        if unknown:
            raise ConfigError(f"{source}: unknown setting {cut(', '.join(unknown))}; there are {', '.join(known)}")
        try:
            return cls(**settings)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    @property
    def anchors(self) -> AnchorShapes:
        """The shapes of a cell's anchors."""
        return AnchorShapes(self.anchor_size, self.anchor_scales, self.anchor_ratios)

    @property
    def background(self) -> bool:
        """Whether the network has a logit for the background, which a softmax needs."""
        return self.loss == "ohem"

    def images_together(self, devices: int) -> int:
        """Return how many images are ranked, and normalise their boxes, together, of a batch on so many devices."""
        return self.ranking_batch or self.batch_size // (1 if self.sync_ranking else devices)

    def to_dict(self) -> dict[str, Any]:
        """Return plain YAML and JSON types, which `from_dict` reads back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def with_names(self, classes: Sequence[str]) -> Recipe:
        """Return a copy with these class names where they are joined by commas, as older checkpoints have them."""
        return replace(self, classes=tuple(classes)) if self.classes == ",".join(classes) else self

    def override(self, **settings: Any) -> Recipe:
        """Return a copy with other values, given as text or as values; errors as in `from_dict`."""
        return self.from_dict({**self.to_dict(), **settings}, "flags")


def _parse(item: Any, value: Any) -> Any:
    parse = item.metadata["parse"]
    try:
        if parse is not _boolean and any(isinstance(one, bool) for one in _items(value)):  # which Python counts with
            raise ValueError("must not be true or false, as YAML reads yes and no, too")
        return parse(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{item.name} = {shown(value)}: {cut(str(error))}") from None


def recipe_names() -> list[str]:
    """Return the names of the recipes that the package ships."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by the name of a shipped one or by the path of a YAML file.

    Raises
    ------
    ConfigError
        If there is no such recipe, it is no YAML mapping, or a setting cannot be used.
    """
    path = Path(os.path.expanduser(name_or_path))
    if not path.suffix:
        path = RECIPES / f"{name_or_path}.yaml"
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        why, shipped = error.strerror if isinstance(error, OSError) else error, ", ".join(recipe_names())
        raise ConfigError(f"no recipe {shown(name_or_path)} ({why}): give a YAML file or one of {shipped}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path} has more than {LARGEST_FILE} bytes: it is no recipe")
    try:
        settings = yaml.load(content.decode("utf-8-sig"), RecipeLoader)
    # Besides YAML's own errors: of numbers, dates and text that YAML takes and Python does not.
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} is not YAML: {cut(str(error), 500)}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold 'setting: value' lines")
    return Recipe.from_dict(settings, str(path))


class RecipeLoader(yaml.SafeLoader):
    """YAML without aliases or depths, which let a short file stand for an endless one, nor a key given twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        alias = self.check_event(yaml.AliasEvent)
        if alias or self.depth > DEEPEST:
            message = "aliases are refused" if alias else f"more than {DEEPEST} levels are refused"
            raise yaml.composer.ComposerError(None, None, message, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                message = f"{shown(key.value)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


TEST_SETTINGS = (
    "test_short", "test_long", "test_scales", "test_warp", "test_flip", "topk", "score_threshold", "nms_threshold",
    "max_detections",
)  # fmt: skip
"""The settings that a trained detector may be used with in other values."""
