"""Print the one command of the README's code blocks that holds a given word, so that CI runs what the README says.

python .ci/readme_command.py pytest
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def readme_command(word: str) -> str:
    """Give the only line of the README's ``sh`` blocks that holds ``word``."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if word in line.split()]
    if len(lines) != 1:
        message = f"{README.name}: found {len(lines)} commands with '{word}', expected exactly one"
        raise SystemExit(message)
    return lines[0]


if __name__ == "__main__":
    print(readme_command(sys.argv[1]))
