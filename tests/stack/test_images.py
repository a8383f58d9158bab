"""The images that are published: they are the same whoever builds them."""

import json
from typing import Any

from tests.stack.cluster import ROOT
from tests.stack.engine import docker, needs_engine

BUILD = ("build", "--quiet", "--target", "recommendations", str(ROOT))


def described(image: str) -> Any:
    """What the engine knows of an image."""
    (found,) = json.loads(docker("image", "inspect", image))
    return found


@needs_engine
def test_two_builds_give_the_same_layers() -> None:
    """Built again from nothing on the same base, an image has the same bytes in the same layers, and runs the same."""
    first = docker(*BUILD, timeout_s=600).strip()
    second = docker(*BUILD, "--no-cache", timeout_s=600).strip()
    assert described(first)["RootFS"] == described(second)["RootFS"]
    assert described(first)["Config"] == described(second)["Config"]
