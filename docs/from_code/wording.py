"""Texts of the code as Markdown."""

from __future__ import annotations

import re


def literal(text: str) -> str:
    """``text`` as code, whatever backticks it holds."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


_LITERAL = re.compile(
    r"(?<![\w'])'(?P<quoted>[^']+)'(?!\w)"  # as help texts quote what is to be typed
    r"|(?P<named>(?<![\w/])\.[a-z]+/(?:[\w./<>*-]*[\w/])?"
    r"|(?<!\w)--[a-z][\w-]*(?:=[\w.]+)?"
    r"|(?<![\w/])\.?[\w./<>*-]*\w\.(?:html|jsonl?|log|md|txt|yaml)\b"
    r"|[\w./-]*\w_[\w/]*\w/?)"
)


def prose(text: str) -> str:
    """A sentence of the code, in which nothing is Markdown by chance; names of options and files are code."""
    told, end = [], 0
    for match in _LITERAL.finditer(text):
        told += [_escaped(text[end : match.start()]), literal(match["quoted"] or match["named"])]
        end = match.end()
    return "".join([*told, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return re.sub(r"([\\*<>\[\]|{}#`])", r"\\\1", text)


def cell(text: str) -> str:
    """Markdown that may stand in a table's cell."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
