"""Standard error in processes of its own: lines are taken or passed on, and nothing hangs or is lost in a crash."""

import subprocess
import sys
import textwrap

import pytest

START = """\
import ctypes, os, time
from services.stderr import StandardError
taken = []
def take(line):
    if line.startswith("I"):
        taken.append(line)
        return True
    return 1 / 0
error = StandardError(take)
"""


def run(body: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", START + textwrap.dedent(body)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


def test_lines_are_taken_or_passed_on() -> None:
    """A line that comes in pieces is one; what is not taken arrives as it was written, also after the end."""
    done = run("""
        for piece in (b"I 1\\nF fatal\\nI1", b" 2\\n", b"no end"):
            os.write(2, piece)
            time.sleep(0.2)
        error.close(5)
        os.write(2, b", after")
        print(taken)
    """)
    assert (done.stdout, done.stderr) == ("['I 1\\n', 'I1 2\\n']\n", "F fatal\nno end, after")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("1 / 0", ["ZeroDivisionError: division by zero"]),
        ("raise SystemExit('no port')", ["no port"]),
        ("ctypes.string_at(0)", ["Segmentation fault", "most recent call first"]),
        ("ctypes.CDLL(None).abort()", ["Fatal Python error: Aborted", "most recent call first"]),
    ],
)
def test_the_last_words_arrive(end: str, said: list[str]) -> None:
    """However the process ends, what it says of that is on standard error."""
    done = run(end)
    assert done.returncode != 0
    assert all(words in done.stderr for words in said)


def test_a_reader_that_stops_holds_nobody() -> None:
    """What does not fit is refused, and the end waits no longer than it was asked to."""
    done = run("""
        error._take = lambda line: time.sleep(1000)
        try:
            while True:
                os.write(2, 100 * b"I" + b"\\n")
        except BlockingIOError:
            print("full")
        error.close(0.1)
    """)
    assert (done.returncode, done.stdout) == (0, "full\n")
