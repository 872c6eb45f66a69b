"""Reports: each a function of the session's outcomes. None of them knows pytest's hooks."""
