"""`python -m grafana`: writes the dashboards; with --check it only says which of the files differ."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import bookshop, calls, telemetry

FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[Path, str]:
    """The files that there should be, with their text."""
    boards = (bookshop.dashboard(), calls.dashboard(), telemetry.dashboard())
    return {
        FOLDER / f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for board in boards
    }


def main() -> None:
    """Write them, or check them."""
    check = sys.argv[1:] == ["--check"]
    different = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    stray = set(FOLDER.glob("*.json")) - files().keys()
    if check and (different or stray):
        names = ", ".join(sorted(path.name for path in {*different, *stray}))
        sys.exit(f"grafana/dashboards: {names}: not what the code says; run `make dashboards`")
    if not check:
        for path in different:
            path.write_text(files()[path])
        for path in stray:
            path.unlink()


if __name__ == "__main__":
    main()
