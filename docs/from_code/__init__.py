"""What the site says of the code, read off the code, so that it cannot grow stale: each module makes Markdown.

Only :mod:`docs.from_code.directive` knows Sphinx.
"""
