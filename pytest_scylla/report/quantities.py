"""Numbers as people read them, on the page and in Markdown."""

from __future__ import annotations


def usd(cost: float | None) -> str:
    """A cost in USD; small ones to four digits, so that what is not nothing does not look like it.

    >>> usd(12.5), usd(0.0312), usd(None)
    ('12.50', '0.0312', 'unknown')
    """
    if cost is None:
        return "unknown"
    return f"{cost:,.4f}" if 0 < cost < 1 else f"{cost:,.2f}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number to so many digits; a dash where there is none.

    >>> decimal(0.5), decimal(None)
    ('0.500', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def signed(number: int) -> str:
    """A difference, with its sign.

    >>> signed(3), signed(-1200), signed(0)
    ('+3', '−1,200', '+0')
    """
    return f"{number:+,}".replace("-", "−")


def percent(part: int, whole: int) -> str:
    """A share in percent with two digits, rounded down: what is not all is never told as 100 %.

    >>> percent(1, 3), percent(99_999, 100_000), percent(5, 5)
    ('33.33 %', '99.99 %', '100.00 %')
    """
    hundredths = 10_000 * part // whole
    return f"{hundredths // 100}.{hundredths % 100:02d} %"
