"""Files: where an experiment keeps them, which there should be, and how to read them safely."""
