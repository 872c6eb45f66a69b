"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from pytest_scylla.calling import limits
from pytest_scylla.experiment import layout, timestamps, wording
from pytest_scylla.report import item


@pytest.mark.parametrize("module", [item, layout, limits, timestamps, wording])
def test_docstring_examples_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
