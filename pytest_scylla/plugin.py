"""The pytest plugin: its options, and, once a session asks for an experiment, the plugins that do the work.

Without such an option nothing else is imported and no other hook is registered.
"""

from __future__ import annotations

import gc

import pytest

from .options import add_options, is_requested

_ROOTS = pytest.StashKey[tuple[str, ...]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options and ini options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Find the experiments, and keep pytest away from what lies in them, before it imports anything."""
    if is_requested(early_config.known_args_namespace):
        from .invocation import experiment_roots, guard_command_line, guard_outputs

        roots = experiment_roots(early_config)
        guard_command_line(early_config, args, roots)
        guard_outputs(early_config, roots)
        early_config.stash[_ROOTS] = roots
        # The session freezes its items; a program that called pytest may go on. Registered this early, it comes after
        # pytest's own last search for garbage, which would walk all of them again, five times.
        early_config.add_cleanup(gc.unfreeze)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; register the session's plugins if an experiment was asked for."""
    config.addinivalue_line("markers", "scylla_run: a run of an experiment (pytest-scylla)")
    config.addinivalue_line("markers", "scylla_judge: a judge slot of an experiment (pytest-scylla)")
    config.addinivalue_line("markers", "scylla_checkpoint: the checkpoint of an experiment (pytest-scylla)")
    config.addinivalue_line("markers", "scylla_aggregates: all aggregates of an experiment (pytest-scylla)")
    roots = config.stash.get(_ROOTS, None)
    if roots is not None:
        from .protocol import ShortProtocol
        from .scheduling import Distribution
        from .session import AuditSession, RunCollection
        from .settings import in_github, read_settings

        settings = read_settings(config)
        session = AuditSession(config, settings, roots)
        config.pluginmanager.register(RunCollection(), "scylla-collection")
        config.pluginmanager.register(session, "scylla-session")
        config.pluginmanager.register(Distribution(session.locate), "scylla-distribution")
        if settings.gate.is_set or (in_github() and not hasattr(config, "workerinput")):
            from .gating import Gate

            # The last plugin comes first: this one concludes once a repair has ended, and before reports are written.
            config.pluginmanager.register(Gate(config, settings, session.experiments, roots), "scylla-gate")
        if settings.repair is not None:
            from . import fixtures
            from .repairing import RepairSession

            config.pluginmanager.register(RepairSession(config, settings, session.experiments), "scylla-repair")
            config.pluginmanager.register(fixtures, "scylla-fixtures")
            if settings.repair.asks_judges:
                from .progress import JudgingProgress

                config.pluginmanager.register(JudgingProgress(config, settings, session.experiments), "scylla-progress")
        config.pluginmanager.register(ShortProtocol(config), "scylla-protocol")
