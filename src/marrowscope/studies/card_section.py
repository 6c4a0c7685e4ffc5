"""One section of a bundle's card, replaced or added."""

from __future__ import annotations

import re


def with_section(card: str, title: str, content: str) -> str:
    """Return ``card`` with ``content`` under the heading ``title``, in place of what stood there, or at its end."""
    section = re.compile(rf"(## {re.escape(title)}\n\n).*?(?=\n## |\Z)", re.DOTALL)
    if section.search(card):
        return section.sub(lambda found: f"{found.group(1)}{content}\n", card)
    return f"{card.rstrip()}\n\n## {title}\n\n{content}\n"
