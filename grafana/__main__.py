"""`python -m grafana`: writes the dashboards and alerts.yml; --check only says which of the files differ."""

import json
import sys
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import alerts, bookshop, calls, rules, telemetry

FOLDER = Path(__file__).parent / "dashboards"
ALERTS = Path(__file__).parents[1] / "alerts.yml"
HEADER = "# Written by `make dashboards` from grafana/rules.py and grafana/alerts.py.\n"


def files() -> dict[Path, str]:
    """The files that there should be, with their text."""
    boards = (bookshop.dashboard(), calls.dashboard(), telemetry.dashboard())
    written = {
        FOLDER / f"{board.uid}.json": json.dumps(board, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for board in boards
    }
    groups = {"groups": [*rules.groups(), alerts.group()]}
    return written | {ALERTS: HEADER + yaml.safe_dump(groups, sort_keys=False, width=110)}


def main() -> None:
    """Write them, or check them."""
    check = sys.argv[1:] == ["--check"]
    different = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    stray = set(FOLDER.glob("*.json")) - files().keys()
    if check and (different or stray):
        names = ", ".join(sorted(path.name for path in {*different, *stray}))
        sys.exit(f"{names}: not what the code in grafana/ says; run `make dashboards`")
    if not check:
        for path in different:
            path.write_text(files()[path])
        for path in stray:
            path.unlink()


if __name__ == "__main__":
    main()
