"""`make digests REGISTRY=...`: builds both images, pushes them, and writes their digests down.

What production runs is then one image and no other, whatever a tag is moved to.
"""

import re
import subprocess
import sys
from pathlib import Path

from kubernetes.stack import ROOT

PRODUCTION = Path(__file__).parent / "production" / "kustomization.yaml"
SERVICES = ("marketplace", "recommendations")


def publish(service: str, registry: str) -> str:
    """Build the image and push it to registry/bookshop; the result is its digest, sha256:..."""
    name = f"{registry}/bookshop/{service}"
    _docker("build", "--quiet", "--target", service, "--tag", name, str(ROOT))
    _docker("push", "--quiet", name)
    known = _docker("image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", name)
    (digest,) = (line.partition("@")[2] for line in known.split() if line.startswith(f"{name}@"))
    return digest


def pinned(text: str, service: str, registry: str, digest: str) -> str:
    """The text of a kustomization, with that image in the place of the service's."""
    image = rf"(- name: bookshop/{service}\n +newName: )\S+(\n +digest: )\S+"
    return re.sub(image, rf"\g<1>{registry}/bookshop/{service}\g<2>{digest}", text)


def _docker(*arguments: str) -> str:
    command = ["docker", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


def main() -> int:
    """Publish both images; the exit code is 2 without the name of a registry."""
    if len(sys.argv) != 2 or not sys.argv[1]:  # noqa: PLR2004
        sys.stderr.write(
            "REGISTRY must be where to push the images, as in: make digests REGISTRY=registry.example.com\n"
        )
        return 2
    registry = sys.argv[1]
    for service in SERVICES:
        digest = publish(service, registry)
        PRODUCTION.write_text(pinned(PRODUCTION.read_text(), service, registry, digest))
        sys.stdout.write(f"{registry}/bookshop/{service}@{digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
