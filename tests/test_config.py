"""Recipes and flags: what is read, what is refused and how, and the numbers of the paper."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aploss_mx.commands.recipe_flags import add_test_flags, recipe_from_flags, settings_given
from aploss_mx.commands.training import training_parser
from aploss_mx.config import TEST_SETTINGS, ConfigError, Recipe, load_recipe, recipe_names
from aploss_mx.data.dataset import classes_of

NAMES = [item.name for item in fields(Recipe)]
# Words that the data set or the weights judge, not the recipe.
FREE_TEXT = {"pretrained", "train_split", "val_split", "classes"}
WRONG = {
    "network": ["resnet", "", None, 50],
    "channels": [0, -1, 1.5, "many", "", None, [256]],
    "new_conv_std": [0, -0.01, "kaiming", "nan", float("inf")],
    "pixels": ["bgr", None],
    "anchor_size": [0, -4, "nan", "inf", 1e6, None, [4]],
    "anchor_scales": ["", [], [0], "1,x", 0, True, [True], None, "1,1", list(range(1, 18))],
    "anchor_ratios": ["", [], [-1], "1;2", "nan", [1e3]],
    "augmentation": ["SSD", "mirror", True],
    "data_shape": [500, 0, -512, "512x512", 512.5, [512, 512]],
    "loss": ["AP", "cross-entropy", None],
    "temperature": [0, -1, "nan", None],
    "ranking_batch": [-1, 0.5, "all"],
    "ranking_scope": ["image", None],
    "delta": [0, -1, "nan", float("inf"), None],
    "interpolated": ["maybe", 2, None, ""],
    "sync_ranking": ["maybe", 2, None, ""],
    "box_loss_weight": [-1, "nan", "inf", "x", None],
    "batch_size": [0, -16, 2.5, "x", float("inf"), float("nan")],
    "epochs": [0, "ten", None, 1.5, float("inf"), True],
    "optimizer": ["SGD", "rmsprop"],
    "lr": [0, -0.1, "fast", "nan", "inf", None, True],
    "backbone_lr_mult": [0, -0.1, "nan", "x"],
    "pretrained": [None, False, ["a.npz"]],  # to YAML, no is false
    "lr_decay": [0, -1, "nan"],
    "lr_decay_epoch": ["110,x", [0], [-1], 0, "1.5", True, None, [[1]]],
    "warmup_steps": [-1, 0.5, "long", None, float("inf")],
    "warmup_factor": [-0.1, 1.1, "nan", "x"],
    "momentum": [-0.1, 1.1, "nan"],
    "wd": ["x", None, "nan", "inf", -1e-4],
    "seed": [-1, 0.5, "x", float("inf"), False],
    "val_interval": [-1, "x", 0.5],
    "test_short": [0, -600, "x"],
    "test_long": [0, 1.5, "x"],
    "test_scales": [[0], "500,x", True, None],
    "test_warp": ["maybe", None],
    "test_flip": ["maybe", None],
    "topk": [0, "x"],
    "score_threshold": [-0.01, 1.01, "nan"],
    "nms_threshold": [-0.01, 1.01, "nan"],
    "max_detections": [0, "x"],
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def parser_of_training() -> argparse.ArgumentParser:
    return training_parser("A training.", "voc07_resnet50", "data")


def from_command_line(*flags: str) -> Recipe:
    return recipe_from_flags(parser_of_training().parse_args(flags))


def test_unknown_settings_are_refused_with_the_list():
    with pytest.raises(ConfigError) as error:
        Recipe.from_dict({"lr": 0.01, "momentun": 0.9, "leraning_rate": 1}, "mine.yaml")
    message = str(error.value)
    assert message.startswith("mine.yaml: unknown setting leraning_rate, momentun;")
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_wrong_values_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"^mine.yaml: {name} = "):
        Recipe.from_dict({name: value}, "mine.yaml")
    with pytest.raises(ConfigError, match=f"^{name} = "):
        Recipe(**{name: value})


def test_every_setting_has_wrong_values_above():
    assert WRONG.keys() | FREE_TEXT == set(NAMES)


@given(st.sampled_from(NAMES), ANYTHING)
def test_any_value_is_read_or_refused(name, value):
    try:
        recipe = Recipe.from_dict({name: value})
    except ConfigError as error:
        assert f"{name} = " in str(error)
    else:
        assert Recipe.from_dict(recipe.to_dict()) == recipe == Recipe(**{name: value})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("lr", "1e-4", 1e-4),
        ("epochs", "7", 7),
        ("interpolated", "False", False),
        ("interpolated", "yes", True),
        ("sync_ranking", "true", True),
        ("lr_decay_epoch", "9, 3", (3, 9)),
        ("lr_decay_epoch", "", ()),
        ("lr_decay_epoch", 9, (9,)),
        ("test_scales", 500, (500,)),
        ("anchor_ratios", 1.5, (1.5,)),
        ("new_conv_std", "he", None),
        ("new_conv_std", "0.02", 0.02),
        ("warmup_steps", "0", 0),
        ("wd", "0", 0.0),
        ("network", "resnet101_v1b", "resnet101_v1b"),
        ("classes", "cat,dog", "cat,dog"),
    ],
)
def test_text_becomes_values(name, text, value):
    given_as_text = getattr(Recipe().override(**{name: text}), name)
    assert given_as_text == value
    assert type(given_as_text) is type(value)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_load_and_survive_their_files(name):
    recipe = load_recipe(name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe
    assert recipe.test_short <= recipe.test_long
    assert all(epoch < recipe.epochs for epoch in recipe.lr_decay_epoch)


PAPER = {
    "network": "resnet50_v1b",
    "channels": 256,
    "new_conv_std": 0.01,
    "pretrained": "gluoncv",
    "pixels": "torchvision",
    "anchor_size": 4,
    "anchor_scales": [1, 2**0.5],
    "anchor_ratios": [0.5, 1, 2],
    "train_split": "2007_trainval+2012_trainval",
    "val_split": "2007_test",
    "classes": "voc",
    "augmentation": "ssd",
    "data_shape": 512,
    "loss": "ap",
    "delta": 1.0,
    "interpolated": True,
    "sync_ranking": False,
    "temperature": 0.5,
    "ranking_batch": 0,
    "ranking_scope": "all",
    "box_loss_weight": 1.0,
    "batch_size": 16,
    "epochs": 160,
    "optimizer": "sgd",
    "lr": 0.001,
    "backbone_lr_mult": 1.0,
    "lr_decay": 0.1,
    "lr_decay_epoch": [110, 140],
    "warmup_steps": 500,
    "warmup_factor": 1 / 3,
    "momentum": 0.9,
    "wd": 0.0001,
    "seed": 0,
    "val_interval": 10,
    "test_short": 600,
    "test_long": 1000,
    "test_scales": [],
    "test_warp": False,
    "test_flip": False,
    "topk": 1000,
    "score_threshold": 0.01,
    "nms_threshold": 0.5,
    "max_detections": 100,
}
"""Tables 1 and 2 on PASCAL VOC."""
BENCHMARK = {**PAPER, "test_short": 500, "test_long": 833}
COCO = {
    **BENCHMARK,
    "train_split": "train2017",
    "val_split": "val2017",
    "classes": "data",
    "epochs": 100,
    "lr_decay_epoch": [60, 80],
}
RECIPES_OF_THE_PAPER = {
    "voc07_resnet50": PAPER,
    "voc07_resnet101": {**BENCHMARK, "network": "resnet101_v1b"},
    "voc12_resnet101": {
        **BENCHMARK,
        "network": "resnet101_v1b",
        "train_split": "2007_trainval+2007_test+2012_trainval",
        "val_split": "2012_val",
        "val_interval": 0,
    },
    "coco_resnet50": COCO,
    "coco_resnet101": {**COCO, "network": "resnet101_v1b"},
}


@pytest.mark.parametrize("name", RECIPES_OF_THE_PAPER)
def test_numbers_of_the_paper(name):
    assert load_recipe(name).to_dict() == RECIPES_OF_THE_PAPER[name]


def test_defaults_are_the_papers_at_its_benchmark_size():
    assert Recipe().to_dict() == BENCHMARK


def test_a_recipe_of_ones_own_is_read_by_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("lr: 1e-4\nlr_decay_epoch: [5, 2]\nnew_conv_std: he\n")  # to YAML, 1e-4 is text
    recipe = load_recipe(str(path))
    assert (recipe.lr, recipe.lr_decay_epoch, recipe.new_conv_std) == (1e-4, (2, 5), None)
    assert recipe == Recipe().override(lr=1e-4, lr_decay_epoch=(2, 5), new_conv_std=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must hold"),
        (b"- lr\n- 0.1\n", "must hold"),
        (b"lr", "must hold"),
        (b"lr: [", "is not YAML"),
        (b"lr: \x00", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"lr: !!python/object/apply:os.getcwd []", "is not YAML"),
        (b"lr: slow", "lr = 'slow'"),
        (b"speed: 1", "unknown setting speed"),
        (b"1: 2\n", "unknown setting 1"),
        (b"on: 2\nlr: 0.1\nspeed: 1\n", "unknown setting"),  # to YAML, on is true
        (b"classes: [cat, 1]\n", "classes = ['cat', 1]: must be text"),
        (b"train_split: [train]\n", "train_split = ['train']: must be text"),
    ],
)
def test_files_that_are_no_recipe_are_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value)
    assert message in str(error.value)


NAMES_OF_ANY_TEXT = ["ball, red", "two\nlines", " blank ", "'quoted'", "ä\u2028\x1b[31m", "- dash", "voc", "1"]
MANY = [f"a name of no great length, {number:05d}" for number in range(5000)]


@pytest.mark.parametrize("classes", [["cat", "Dog"], ["ball, red"], NAMES_OF_ANY_TEXT, MANY])
def test_a_list_of_classes_stays_one_in_files(tmp_path, classes):
    recipe = Recipe.from_dict({"classes": classes})
    assert recipe.classes == tuple(classes) and recipe.to_dict()["classes"] == classes
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    assert load_recipe(str(path)) == recipe == recipe.override(seed=0)
    assert classes_of(recipe.classes) == tuple(classes)


@pytest.mark.parametrize("classes", [[], ["cat", "cat"], ["cat", ""]])
def test_a_list_that_is_none_of_classes_is_refused(classes):
    with pytest.raises(ConfigError, match="must be names, each once"):
        Recipe.from_dict({"classes": classes})


def test_names_joined_by_commas_become_a_list_where_they_are_known():
    joined = Recipe.from_dict({"classes": "ball, red,cat"})
    assert joined.with_names(("ball, red", "cat")).classes == ("ball, red", "cat")
    assert joined.with_names(("ball", "red", "cat")) == joined
    assert Recipe().with_names(("voc", "cat")) == Recipe()


HOSTILE = {
    "a bomb of aliases": "a: &a [x]\n"
    + "".join(f"{b}: &{b} [{f'*{a},' * 9}]\n" for a, b in zip("abcdefghi", "bcdefghij")),
    "a bomb of merges": "a: &a {x: 1}\n"
    + "".join(f"{b}: &{b} {{<<: [{f'*{a},' * 9}]}}\n" for a, b in zip("abcdefghi", "bcdefghij")),
    "an endless list": "classes: &a [*a]\n",
    "deep lists": "lr: " + "[" * 100_000,
    "closed deep lists": "lr: " + "[" * 5000 + "]" * 5000,
    "deep maps": "".join(f"{' ' * level}a:\n" for level in range(500)),
    "10^400": "epochs: 1" + "0" * 400,
    "10^9999": "epochs: 1" + "0" * 9999,
    "a number of many hexadecimal digits": "epochs: 0x" + "f" * 9999,
    "a power of two": f"seed: {2**1000}",
    "a number of sixties": "epochs: 1" + ":59" * 9999,
    "a date that is none": "lr: 2001-99-99",
    "a tag": "lr: !!python/object/apply:os.system ['true']",
    "an unknown tag": "lr: !mine 1",
    "a key twice": "lr: 0.1\nlr: 0.2\n",
    "a list as key": "? [lr]\n: 1\n",
    "long text": "lr: " + "x" * 50_000,
    "a long key": "x" * 50_000 + ": 1",
    "a large file": "lr: 0.1  # " + "x" * (1 << 19),
    "many keys": "".join(f"a{number}: 1\n" for number in range(5000)),
}


AT_ONCE = {
    **dict.fromkeys(("a bomb of aliases", "a bomb of merges", "an endless list"), "aliases are refused"),
    **dict.fromkeys(("deep lists", "closed deep lists", "deep maps"), "more than 8 levels are refused"),
    "a large file": "more than 524288 bytes",
}
"""By which rule files are refused that, once read, would be refused for their settings."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path, name):
    path = tmp_path / "mine.yaml"
    path.write_text(HOSTILE[name])
    with pytest.raises(ConfigError) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value) and len(str(error.value)) < 2000
    assert AT_ONCE.get(name, "") in str(error.value)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "nul\0.yaml", "."])
def test_names_of_no_file_are_told(name):
    with pytest.raises(ConfigError, match="no recipe"):
        load_recipe(name)


def test_why_a_recipe_cannot_be_read_is_told(tmp_path):
    (tmp_path / "mine.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"no recipe '.*mine.yaml' \(Is a directory\): give a YAML file"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_a_byte_order_mark_does_no_harm(tmp_path):
    (tmp_path / "mine.yaml").write_text("lr: 0.5\n", encoding="utf-8-sig")
    assert load_recipe(str(tmp_path / "mine.yaml")).lr == 0.5


@pytest.mark.parametrize("name", ["voc08", "", "nowhere/mine.yaml", "mine.yml"])
def test_missing_recipes_are_answered_with_the_shipped_ones(name):
    with pytest.raises(ConfigError, match="no recipe") as error:
        load_recipe(name)
    assert all(shipped in str(error.value) for shipped in recipe_names())


def test_flags_override_the_recipe_and_nothing_else():
    recipe = from_command_line("--recipe", "quickstart", "--lr", "0.5", "--test-long", "200", "--seed", "3")
    assert recipe == load_recipe("quickstart").override(lr=0.5, test_long=200, seed=3)
    assert from_command_line() == load_recipe("voc07_resnet50")


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_flag_and_help(name):
    value = getattr(load_recipe("quickstart"), name)
    text = {None: "he"}.get(value, ",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    flag = f"--{name.replace('_', '-')}"
    arguments = ["--recipe", "quickstart", flag, text]
    assert getattr(from_command_line(*arguments), name) == value

    shown = " ".join(parser_of_training().format_help().split())
    setting = next(item for item in fields(Recipe) if item.name == name)
    value = "[…]" if isinstance(setting.default, bool) else "…"
    assert f"{flag} {value} {setting.metadata['help']}" in shown


def test_a_flag_that_is_true_or_false_may_stand_alone():
    recipe = from_command_line("--test-flip", "--interpolated", "false")
    assert (recipe.test_flip, recipe.interpolated) == (True, False)


def test_wrong_flags_are_refused_by_name():
    with pytest.raises(ConfigError, match="^flags: batch_size = '0': must be a positive whole number, below 2\\^31$"):
        from_command_line("--batch-size", "0")


def test_settings_given_are_those_on_the_command_line():
    assert settings_given(parser_of_training().parse_args([])) == {}
    arguments = parser_of_training().parse_args(["--lr", "1", "--val-interval", "0", "--gpus", "0", "--classes", ""])
    assert settings_given(arguments) == {"lr": "1", "val_interval": "0", "classes": ""}


def test_test_flags_are_the_test_settings_alone():
    parser = argparse.ArgumentParser()
    add_test_flags(parser)
    given_flags = [text for name in TEST_SETTINGS for text in (f"--{name.replace('_', '-')}", "1")]
    assert settings_given(parser.parse_args(given_flags)) == dict.fromkeys(TEST_SETTINGS, "1")
    with pytest.raises(SystemExit):
        parser.parse_args(["--lr", "1"])
