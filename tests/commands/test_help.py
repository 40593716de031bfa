"""Help tells what happens without a flag."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Iterator

import pytest

from aploss_mx.cli import COMMANDS
from aploss_mx.commands import demo, evaluate, train_voc


class Built(Exception):
    """A parser, about to read its command line."""


def parser_of(main, monkeypatch) -> argparse.ArgumentParser:
    def stop(parser, *_):
        raise Built(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
    with pytest.raises(Built) as built:
        main([])
    return built.value.args[0]


def flags_of(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.Action, str]]:
    """Give the flags of a parser and of its subcommands', each with its help."""
    for action in parser._actions:
        if action.option_strings:
            yield action, parser._get_formatter()._get_help_string(action)
        elif isinstance(action.choices, dict):
            for subcommand in action.choices.values():
                yield from flags_of(subcommand)


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_tell_their_defaults(command, monkeypatch):
    """In words, or in brackets where a recipe decides."""
    for flag, help in flags_of(parser_of(import_module(COMMANDS[command][0]).main, monkeypatch)):
        assert help, flag.option_strings
        has_default = flag.default not in (None, "", False, [], argparse.SUPPRESS)
        assert not has_default or "default: " in help or help.endswith("]"), flag.option_strings


@pytest.mark.parametrize("module, what", [(demo, "GPU to use"), (evaluate, "GPU to use"), (train_voc, "GPUs to use")])
def test_who_takes_one_gpu_says_so(module, what, monkeypatch):
    (gpus,) = (help for flag, help in flags_of(parser_of(module.main, monkeypatch)) if flag.dest == "gpus")
    assert gpus.startswith(what)
