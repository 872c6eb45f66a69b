"""Running an agent again: its workspace, its prompt, its files, the checkpoint."""
