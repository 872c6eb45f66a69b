"""How Sphinx builds the site: ``sphinx-build -W --keep-going -n docs docs/_build``, in the project's directory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pytest_scylla

project = "pytest-scylla"
author = "The pytest-scylla authors"
copyright = author  # noqa: A001
release = version = pytest_scylla.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "docs.from_code.directive"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"pytest-scylla {release}"
html_copy_source = False
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"

# Types of the standard library, whose own pages are elsewhere, and those that the library's face does not offer.
nitpick_ignore_regex = [
    ("py:class", r"(os|collections|pathlib|datetime)\..*"),
    ("py:class", r"pytest_scylla\.[a-z_]+\..*"),
    ("py:exc", "ExperimentGone"),
]
