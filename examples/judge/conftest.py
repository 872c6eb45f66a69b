"""A judge for trying things out, and a model for one of your own. It needs no account, no network and no money.

The plugin asks whatever the fixture ``scylla_judge`` returns. Put yours into the conftest.py of the directory where you
start pytest, but not this one: it looks at nothing and gives a verdict all the same.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256

import pytest

from pytest_scylla import JudgePermanent, JudgeReply, JudgeRequest


class Demonstration:
    """Counts an item of the rubric as met or not by a hash, so that the same slot always gets the same verdict."""

    command = "demonstration"  # its name in the journal; limits that it meets are kept under this name

    def __call__(self, request: JudgeRequest) -> JudgeReply:
        # Yours would send request.prompt to request.model here, and give up after request.timeout seconds.
        items = re.findall(r"^ *- id: (\w+)$", request.prompt.decode(), re.M)
        if not items:
            # Not a verdict of 0: what cannot be judged has no score.
            raise JudgePermanent("the prompt has no rubric items")
        met = [item for item in items if sha256(f"{request.slot_id} {item}".encode()).digest()[0] % 4]
        verdict = {
            "score": round(len(met) / len(items), 4),
            "passed": len(met) >= 0.6 * len(items),
            "reasoning": f"A demonstration: nothing was looked at. By a hash, these count as met: {', '.join(met)}.",
        }
        # Prose may stand before it: the plugin takes the last JSON object with a score and a passed.
        return JudgeReply(f"My verdict:\n\n```json\n{json.dumps(verdict, indent=2)}\n```\n", cost_usd=0.0)


@pytest.fixture
def scylla_judge() -> Demonstration:
    return Demonstration()
