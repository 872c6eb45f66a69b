"""Asking a command line for an answer: how it runs, what its output says, what it costs, what a limit means."""
