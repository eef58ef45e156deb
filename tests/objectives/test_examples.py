"""The examples in the docstrings of the objectives give what they say."""

import doctest
import importlib
import inspect

import pytest

from hf_usod import objectives

FUNCTIONS = [name for name in objectives.__all__ if inspect.isfunction(getattr(objectives, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_example(name):
    function = getattr(objectives, name)
    module = importlib.import_module(function.__module__)
    (test,) = doctest.DocTestFinder(recurse=False).find(function, name, module, globs={})
    assert test.examples
    runner = doctest.DocTestRunner()
    assert runner.run(test).failed == 0
