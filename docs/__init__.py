"""The documentation site: pages in Markdown, and what of them is made from the code."""
