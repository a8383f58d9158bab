"""Flask's development server: a process that watches the files, and starts the one that serves pages."""

import os
import sys


def watches_only() -> bool:
    """Whether this is the process of `flask run` that watches; it loads the application, too."""
    is_served_here = os.environ.get("WERKZEUG_RUN_MAIN") == "true" or "--no-reload" in sys.argv
    is_debug = os.environ.get("FLASK_DEBUG", "").lower() not in {"", "0", "false", "no"}
    reloads = "--reload" in sys.argv or is_debug
    return os.environ.get("FLASK_RUN_FROM_CLI") == "true" and reloads and not is_served_here
