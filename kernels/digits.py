"""Whole numbers as people type them."""

MOST = 2**31 - 1


def whole(text: str, most: int = MOST) -> int | None:
    """The number that plain digits write, space around it aside; None where there is more, or it is above `most`.

    >>> whole(" 12 "), whole("0"), whole("-1"), whole("1.5"), whole(""), whole("9" * 5000)
    (12, 0, None, None, None, None)
    >>> "\u00b2".isdigit(), whole("\u00b2"), whole("3", most=2)
    (True, None, None)
    """
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > len(str(most)):
        return None
    number = int(digits.lstrip("0") or "0")
    return number if number <= most else None
