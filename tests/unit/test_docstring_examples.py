"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from pytest_scylla.experiment import layout, wording


@pytest.mark.parametrize("module", [layout, wording])
def test_docstring_examples_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
