"""Keeping pytest itself away from what lies inside an experiment.

An agent worked in there: a conftest.py, a test file or an ini file in it is evidence, not something to import or obey.
This module looks at the command line before pytest acts on it, and refuses with a remedy what would go wrong.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from .experiment.errors import ExperimentError
from .experiment.expected import find_experiments
from .options import named_experiments

_CONFIG_NAMES = (
    "pytest.toml",
    ".pytest.toml",
    "pytest.ini",
    ".pytest.ini",
    "pyproject.toml",
    "tox.ini",
    "setup.cfg",
    "setup.py",
)
_RUN_ID = re.compile(r"T[0-9]+/[0-9]{2,3}/run_[0-9]{2,}.*")
_OUTPUT_OPTIONS = (
    ("xmlpath", "--junitxml"),
    ("htmlpath", "--html"),
    ("report_log", "--report-log"),
    ("basetemp", "--basetemp"),
    ("debug", "--debug"),
    ("log_file", "--log-file"),
    ("scylla_report", "--scylla-report"),
)


def experiment_roots(config: pytest.Config) -> tuple[str, ...]:
    """The root of every experiment that is asked for, as given, each once.

    :raises pytest.UsageError: there is none, or one of them is no experiment.
    """
    roots: dict[str, str] = {}
    for named in named_experiments(config, config.known_args_namespace):
        try:
            for root in find_experiments(config.invocation_params.dir / named, given=named):
                shown = root if os.path.isabs(named) else os.path.relpath(root, config.invocation_params.dir)
                roots.setdefault(os.path.realpath(root), shown)
        except ExperimentError as error:
            raise pytest.UsageError(str(error)) from None
    return tuple(roots.values())


def guard_command_line(config: pytest.Config, args: list[str], roots: Iterable[str]) -> None:
    """Refuse what would make pytest import from, obey, or write into an experiment; prepare ``args`` for the rest.

    Called before any conftest.py is loaded. Without a positional argument, the invocation directory becomes one, so
    that the experiment is collected and nothing else.

    :raises pytest.UsageError: with the remedy.
    """
    options = config.known_args_namespace
    here = config.invocation_params.dir
    inside = Inside(here, roots)
    positionals: list[str] = list(options.file_or_dir)
    _refuse_space_form(config, positionals)
    for positional in positionals:
        path = positional.split("::")[0]
        if inside(path) or (not (here / path).exists() and _RUN_ID.search(positional)):
            match = _RUN_ID.search(positional)
            wanted = match[0].replace("::run", "").replace("::", "/") if match else "T0/*"
            raise pytest.UsageError(
                f"{positional}: what lies inside an experiment is not for pytest to collect. "
                f"Select its runs and judge slots by id: --scylla-select='{wanted}'"
            )
    if inside(here):
        # Whatever conftest.py lies between the experiment's root and here would be imported.
        options.noconftest = True
    elif not options.noconftest:
        _refuse_conftests(config, positionals, inside)
    if config.pluginmanager.has_plugin("cacheprovider") and inside(_cache_directory(config)):
        config.pluginmanager.unregister(name="cacheprovider")
        if config.pluginmanager.has_plugin("stepwise"):  # it cannot do without; -p no:cacheprovider drops it as well
            config.pluginmanager.unregister(name="stepwise")
    if not positionals:
        args.insert(0, str(here))


def guard_outputs(config: pytest.Config, roots: Iterable[str]) -> None:
    """Refuse to write into an experiment. Called before any plugin opens its output.

    :raises pytest.UsageError: with the remedy.
    """
    inside = Inside(config.invocation_params.dir, roots)
    outputs = [(option, getattr(config.known_args_namespace, name, None)) for name, option in _OUTPUT_OPTIONS]
    outputs.append(("scylla_report", config.getini("scylla_report")))
    if config.pluginmanager.has_plugin("logging"):
        outputs.append(("log_file", config.getini("log_file")))
    for option, value in outputs:
        for path in value if isinstance(value, list) else [value]:
            if path and inside(path):
                raise pytest.UsageError(f"{option}={path}: that lies inside an experiment. Name a path outside of it")


class Inside:
    """Tells whether a path lies in one of the experiments (links resolved), or is its root."""

    def __init__(self, here: Path, roots: Iterable[str]) -> None:
        self._here = here
        self._roots = tuple(os.path.realpath(here / root) for root in roots)

    def __call__(self, path: str | os.PathLike[str]) -> bool:
        """Whether ``path`` (relative to the invocation directory) lies in an experiment."""
        real = os.path.realpath(self._here / path)
        return any(real == root or real.startswith(root + os.sep) for root in self._roots)


def _cache_directory(config: pytest.Config) -> Path:
    return config.rootpath / os.path.expandvars(Path(config.getini("cache_dir")).expanduser())


def _refuse_space_form(config: pytest.Config, positionals: list[str]) -> None:
    """Refuse ``--scylla-exp DIR`` where DIR could have taken part in finding rootdir and configuration.

    pytest looks for them before it knows the option, and takes DIR for a positional argument. That is harmless only if
    DIR and all positionals lie below the invocation directory with no configuration file on the way.
    """
    given = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    for index, argument in enumerate(given[:-1]):
        if argument != "--scylla-exp":
            continue
        here = config.invocation_params.dir
        directory = given[index + 1]
        explicit = config.known_args_namespace.inifilename and config.known_args_namespace.rootdir
        if explicit or all(_plainly_below(here, path.split("::")[0]) for path in (directory, *positionals)):
            continue
        raise pytest.UsageError(
            f"--scylla-exp {directory}: in this form pytest would take its rootdir and configuration from there; "
            f"write --scylla-exp={directory}"
        )


def _plainly_below(here: Path, path: str) -> bool:
    relative = os.path.relpath(here / path, here)
    if relative.startswith(os.pardir):
        return False
    place = here
    for part in Path(relative).parts:
        place /= part
        if any((place / name).exists() for name in _CONFIG_NAMES):
            return False
    return True


def _refuse_conftests(config: pytest.Config, positionals: list[str], inside: Inside) -> None:
    """pytest imports the conftest.py of every start directory, and of each directory ``test*`` in it."""
    here = config.invocation_params.dir
    starts = [here / positional.split("::")[0] for positional in positionals] or [here]
    if not positionals and here == config.rootpath:
        starts += [here / found for pattern in config.getini("testpaths") for found in glob.glob(str(here / pattern))]
    for start in starts:
        for place in (start, *start.glob("test*")):
            conftest = place / "conftest.py"
            if inside(conftest) and conftest.exists():
                raise pytest.UsageError(
                    f"{conftest}: pytest would import this file, which lies inside an experiment. "
                    "Add --noconftest, or run pytest from another directory"
                )
