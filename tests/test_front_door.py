"""What `import aploss_mx` gives, and what it leaves alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import aploss_mx
from aploss_mx import cli
from aploss_mx.extras import needs

NEWER_NUMPY = sys.version_info >= (3, 12)  # which setup.py gives it, without the names that MXNet wants
HEAVY = {"mxnet", "gluoncv", "numpy", "scipy", "matplotlib", "cv2", "yaml"}
USE_OPERATOR = """
import mxnet as mx
loss, _ = mx.nd.Custom(mx.nd.zeros((1, 2, 1)), mx.nd.array([[0, 1]]), op_type="aploss")
assert abs(float(loss.asscalar()) - 1 / 3) < 1e-6
"""


def run(code: str) -> str:
    """Run Python code in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("code", ["import aploss_mx", "from aploss_mx.cli import main; main(['--version'])"])
def test_the_import_and_the_commands_own_help_load_nothing_heavy(code):
    code = f"import atexit, sys\natexit.register(lambda: print(*{HEAVY!r} & sys.modules.keys()))\n{code}"
    assert run(code).splitlines()[-1] == ""


def test_the_door_shows_what_there_is():
    assert dir(aploss_mx) == sorted(aploss_mx.__all__)
    for name in aploss_mx.__all__:
        assert getattr(aploss_mx, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'aploss_mx' has no attribute 'APLos'"):
        aploss_mx.APLos  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(aploss_mx.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING")
    shown = {alias.name: node.module for node in checked.body for alias in node.names}
    assert sorted(shown) == sorted(aploss_mx.__all__)
    for name, module in shown.items():
        assert getattr(import_module(module), name) is getattr(aploss_mx, name)


@pytest.mark.parametrize(
    "first",
    [
        "import aploss_mx",
        pytest.param("import mxnet, aploss_mx", marks=pytest.mark.skipif(NEWER_NUMPY, reason="MXNet wants us first")),
        pytest.param("from aploss_mx.ranking.gpu import rtc", marks=pytest.mark.slow),
        pytest.param("import symbols.fpn", marks=pytest.mark.slow),
    ],
)
def test_whoever_imports_mxnet_has_the_operators(first):
    run(f"{first}\nimport aploss_mx\n{USE_OPERATOR}")


def test_numpy_stays_as_it_is_until_mxnet_is_imported():
    run(
        "import aploss_mx, symbols.backbones, os, numpy as np\n"
        "aploss_mx.ap_loss_and_grad(np.zeros(2), np.array([0, 1]))\n"
        "aploss_mx.Recipe(), aploss_mx.Detections\n"
        "before = {'int', 'object'} & np.__dict__.keys()\n"
        "import mxnet\n"
        "assert (before, np.int, np.object) == (set(), int, object), before\n"
    )


def test_without_mxnet_the_mathematics_work_and_the_rest_tells_what_to_install():
    printed = run(
        "import sys, numpy as np\n"
        "sys.modules.update(mxnet=None, gluoncv=None, yaml=None, cv2=None)\n"  # as if they were not installed
        "import aploss_mx\n"
        "from aploss_mx.cli import main\n"
        "labels = np.array([0, 1])\n"
        "for name in aploss_mx.__all__:\n"
        "    if name.endswith('and_grad'): getattr(aploss_mx, name)(np.zeros(2), labels)\n"
        "for use in ('APLoss', 'Detector', 'Recipe'):\n"
        "    try: getattr(aploss_mx, use)\n"
        "    except ImportError as error: print(error)\n"
        "try: main(['train-voc'])\n"
        "except SystemExit as end: print(end)\n"
    )
    *names, command = printed.splitlines()
    for name, line in zip(("APLoss", "Detector", "Recipe"), names):
        assert line.startswith(f"aploss_mx.{name} needs ") and "pip install '.[cpu]' in a clone" in line
    assert len(names) == 3
    assert command.startswith("error: aploss-mx train-voc needs ") and "pip install '.[cpu]' in a clone" in command


def test_a_fault_of_our_own_is_not_taken_for_a_missing_package():
    error = ModuleNotFoundError("no module", name="aploss_mx.gone")
    with pytest.raises(ModuleNotFoundError) as raised:
        needs(error)
    assert raised.value is error


def test_nor_for_a_missing_driver(monkeypatch):
    monkeypatch.setattr(cli, "import_module", lambda _: exec("from aploss_mx.text import gone"))
    with pytest.raises(ImportError, match="cannot import name 'gone'"):
        cli.main(["demo"])


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_takes_the_command_line_and_its_name(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: aploss-mx {command} ")


def test_a_command_that_there_is_not(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train"])
    assert end.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_no_number_of_threads_is_told_without_a_traceback(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    with pytest.raises(SystemExit, match="^error: OMP_NUM_THREADS must be a number of threads, at least 1, not '0'$"):
        cli.main(["train-voc", "--help"])


def test_without_a_command_those_that_there_are_are_listed(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in cli.COMMANDS)


@pytest.mark.parametrize("error, told", [(KeyboardInterrupt, "\ninterrupted"), (MemoryError, "error: out of memory")])
@pytest.mark.parametrize(
    "command, work, flags",
    [
        ("check", "commands.check.is_coco", "--dataset-root . --split train"),
        ("reproduce", "commands.reproduce.list_commands", "list"),
        ("shapes", "data.shapes.generate", "--output shapes"),
    ],
)
def test_a_command_that_is_stopped_prints_no_traceback(command, work, flags, error, told, tmp_path):
    code = f"""
import sys
from unittest import mock
from aploss_mx import cli
with mock.patch("aploss_mx.{work}", side_effect={error.__name__}):
    sys.exit(cli.main("{command} {flags}".split()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.stderr.startswith(told) and "Traceback" not in done.stderr
    assert done.returncode == (130 if error is KeyboardInterrupt else 1)


def test_the_status_of_a_command_is_that_of_the_program(tmp_path, capsys):
    assert cli.main(["check", "--dataset-root", str(tmp_path), "--split", "2007_train"]) == 1
    assert cli.main(["shapes", "--output", str(tmp_path / "s"), "--train", "1", "--val", "1", "--size", "64"]) == 0
    assert cli.main(["check", "--dataset-root", str(tmp_path / "s"), "--split", "2007_val", "--classes", "data"]) == 0
