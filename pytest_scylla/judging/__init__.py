"""Judging a slot that nothing on disk can restore: the request, the answer, the attempts, the money."""
