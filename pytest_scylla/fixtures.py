"""The fixtures that a repair goes through. A conftest.py may override each; its contract is in its docstring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .repair.regenerate import regenerate

if TYPE_CHECKING:
    from .repair.request import Regenerate


@pytest.fixture(scope="session")
def scylla_regenerate() -> Regenerate:
    """Rebuild one file of a run from what survives: a function of a ``RegenerateRequest`` to a ``Regenerated``.

    It is called for every file that an audit finds lost or wrong and that a rebuilt one could put right, raw files
    before those that derive from them. It receives what was read of the run, with the files rebuilt so far; it returns
    the file's bytes and the files they come from, or raises ``CannotRegenerate`` with the reason, in one line. Any
    other exception fails the item with its traceback, before anything of the run is written. It should read nothing
    and write nothing itself.

    Before: the run was audited. After: bytes that do not make the file's findings go away, or that contradict other
    records, are refused. The rest is written under the run's lock, atomically, with what it replaces in
    ``.scylla/quarantine/`` and an entry in ``.scylla/journal/``; then the run is audited again.

    A conftest.py of the directory where pytest is started overrides it, as do those above; a plugin that is loaded with
    ``-p`` does not. An override can fall back on this one::

        @pytest.fixture
        def scylla_regenerate(scylla_regenerate):
            def regenerate(request):
                if request.name == "agent/stderr.log":
                    return Regenerated(b"", sources=())
                return scylla_regenerate(request)

            return regenerate
    """
    return regenerate
