"""A tour of the main job, on a copy of the sample ``interrupted``: broken, repaired, whole.

Run it with the Python that has pytest-scylla installed: ``python examples/tour.py``. The copy lies in a temporary
directory and is removed at the end. The one judge call is answered by ``judge/conftest.py``, which needs no account.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parent

STEPS = (
    ("What is wrong, and what would it cost to put right?", ("--scylla-exp=interrupted",), 1),
    ("What would a repair do? Nothing is written.", ("--repair-plan", "-q", "--tb=no", "--scylla-exp=interrupted"), 1),
    (
        "Do it: files from files, and one call of a judge, here one that only demonstrates.",
        ("--repair", "--scylla-exp=interrupted"),
        0,
    ),
    ("And now?", ("--scylla-exp=interrupted", "--scylla-strict"), 0),
)


def main() -> int:
    """Run the steps; the exit code is 1 if one of them does not end as it should."""
    with tempfile.TemporaryDirectory(prefix="scylla-tour-") as directory:
        shutil.copytree(EXAMPLES / "interrupted", Path(directory, "interrupted"))
        shutil.copy(EXAMPLES / "judge" / "conftest.py", directory)
        for number, (title, options, expected) in enumerate(STEPS, 1):
            print(f"\n### {number}. {title}\n\n$ pytest {' '.join(options)}", flush=True)
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
            code = subprocess.run(command, cwd=directory).returncode
            if code != expected:
                print(f"\nexpected the exit code {expected}, found {code}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
