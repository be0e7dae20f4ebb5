"""Words that others wrote, made safe for where people read them."""


def printable(text: str) -> str:
    """One line of text with nothing in it that a terminal obeys: escape sequences, line ends, reversed writing."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
