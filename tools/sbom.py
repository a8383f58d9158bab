"""`make sbom`: what is in both images and in the package, as CycloneDX; the same for the same content.

Of an image that is all of it, Debian's packages too, with licences: https://github.com/anchore/syft
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WRITTEN = ROOT / "var" / "sbom"
PACKAGE = ROOT / "var" / "supply" / "package"  # an environment that has it, and what it needs
SYFT = {"SYFT_FILE_METADATA_SELECTION": "none", "SYFT_CHECK_FOR_APP_UPDATE": "false"}
IMAGES = ("marketplace", "recommendations")


def of_image(name: str) -> str:
    """Build the image, and list what is in it."""
    image = _output("docker", "build", "--quiet", "--target", name, str(ROOT)).strip()
    named = ("--source-name", f"bookshop/{name}", "--source-version", image)
    listed = json.loads(
        _output("syft", "scan", "--quiet", "--output=cyclonedx-json", *named, f"docker:{image}")
    )
    del listed["serialNumber"], listed["metadata"]["timestamp"]
    return json.dumps(listed, indent=2, sort_keys=True) + "\n"


def of_package() -> str:
    """List the package and what is installed with it."""
    command = (
        sys.executable,
        "-m",
        "cyclonedx_py",
        "environment",
        "--pyproject",
        str(ROOT / "pyproject.toml"),
    )
    return _output(*command, "--output-reproducible", str(PACKAGE / "bin" / "python"))


def _output(*command: str) -> str:
    return subprocess.run(  # noqa: S603
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | SYFT
    ).stdout


def main() -> None:
    """Write one file for each."""
    WRITTEN.mkdir(parents=True, exist_ok=True)
    (WRITTEN / "observability.json").write_text(of_package())
    for name in IMAGES:
        (WRITTEN / f"{name}.json").write_text(of_image(name))


if __name__ == "__main__":
    main()
