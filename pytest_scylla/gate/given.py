"""Files that a person names to steer a session: bounded, and regular, whatever links lead to them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..experiment.records import Blob, open_experiment


@dataclass(frozen=True)
class GivenFile:
    """A file that an option names. ``shown`` is how the user wrote it, for messages."""

    path: Path
    shown: str

    def read(self, max_size: int) -> Blob:
        """Read it, if it is a regular file of at most ``max_size`` bytes; the blob says otherwise why not.

        It may be named through links, for the user named it.
        """
        directory, name = os.path.split(os.path.realpath(self.path))
        try:
            folder = open_experiment(directory)
        except OSError as error:
            return Blob(self.shown, "absent", reason=os.strerror(error.errno or 0))
        with folder:
            found = folder.read(name, max_size)
        reason = found.reason or ("expected a file, found none" if found.state == "absent" else "")
        return found._replace(file=self.shown, reason=reason)
