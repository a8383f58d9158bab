"""`make licences`: the licence of each dependency of the images, and whether it is one that we allow."""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.txt"
# Beside these: psycopg's, the LGPL. We ship it unchanged, and who has the image can put another in its place.
OF_ONE = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
ALLOWED = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT", "MPL-2.0", "PSF-2.0"}
# What distributions without a licence expression call theirs.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
}


def locked(path: Path) -> list[str]:
    """The names in a lock, without those that are for other machines."""
    lines = re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==[^ ]+(.*)", path.read_text(), re.MULTILINE)
    return [name for name, rest in lines if ";" not in rest or _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:
        return False
    return True


def licence(name: str) -> str:
    """An installed distribution's licence, as an SPDX expression; what it says itself if that is none."""
    said = metadata(name)
    classified = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier", ()) if "License" in line]
    named = (*said.get_all("License-Expression", ()), *said.get_all("License", ()), " AND ".join(classified))
    word = next(filter(None, named), "")
    return SPDX.get(word, word)


def is_allowed(name: str, expression: str) -> bool:
    """Whether one of the licences to choose from, with all that it comes with, is allowed."""
    return OF_ONE.get(name) == expression or any(
        ALLOWED.issuperset(choice.split(" AND ")) for choice in expression.split(" OR ")
    )


def main() -> int:
    """Print each; the exit code is 1 when one of them is not allowed."""
    found = {name: licence(name) for name in locked(LOCK)}
    for name, expression in sorted(found.items()):
        sys.stdout.write(f"{name:45} {expression}\n")
    refused = [
        f"{name} ({expression})" for name, expression in found.items() if not is_allowed(name, expression)
    ]
    if refused:
        sys.stderr.write(f"licences must be among {', '.join(sorted(ALLOWED))}, got {', '.join(refused)}\n")
    return int(bool(refused))


if __name__ == "__main__":
    sys.exit(main())
