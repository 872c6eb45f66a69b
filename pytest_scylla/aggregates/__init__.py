"""Aggregates: what the runs of a subtest, a tier and the experiment amount to, audited and rebuilt."""
