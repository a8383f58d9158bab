"""An observed application for gunicorn."""

import atexit
import os
import time

from flask import Flask
from opentelemetry.trace import get_current_span

from observability import Telemetry

telemetry = Telemetry("shop")
atexit.register(telemetry.shutdown)
app = Flask(__name__)
telemetry.instrument_flask(app)


@app.get("/pid")
def pid() -> str:
    get_current_span().set_attribute("pid", os.getpid())
    time.sleep(0.02)
    return str(os.getpid())


@app.get("/hang")
def hang() -> str:
    time.sleep(600)
    return ""
