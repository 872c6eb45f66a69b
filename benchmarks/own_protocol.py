"""A pytest plugin that takes part in running tests, so that every item gets pytest's own protocol."""

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Do nothing, like most such hooks for most items."""
