"""`python -m tools.reference`: writes docs/reference.md; --check only says whether it differs."""

import sys
from pathlib import Path

from tools.reference import api, signals

FILE = Path(__file__).parents[2] / "docs" / "reference.md"
HEADER = """# Reference

Written by `make reference` from the docstrings of `observability/`, and from what it records of a call
and of a page. How to use it: [observability.md](observability.md).
"""


def main() -> None:
    """Write it, or check it."""
    text = "\n".join([HEADER, *api.sections(), *signals.sections()])
    if sys.argv[1:] != ["--check"]:
        FILE.write_text(text)
    elif not FILE.exists() or FILE.read_text() != text:
        sys.exit("docs/reference.md: not what the code of observability/ says; run `make reference`")


if __name__ == "__main__":
    main()
