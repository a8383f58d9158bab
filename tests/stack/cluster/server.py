"""A real kube-apiserver with its etcd: what Kubernetes itself says of a manifest. Nothing runs the pods."""

import os
import subprocess
from pathlib import Path
from types import TracebackType

from observability.testing import eventually
from tests.e2e.processes import free_ports
from tests.stack.cluster import tool

TOKEN = "test"


class Server:
    """The API server on loopback, empty, with all that it admits by default; stopped at the end of `with`."""

    def __init__(self, folder: Path) -> None:
        apiserver, etcd, self._kubectl = tool("kube-apiserver"), tool("etcd"), tool("kubectl")
        client, peer, self._port = free_ports(3)
        key, tokens = folder / "key.pem", folder / "tokens.csv"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
        self._log = folder / "log"
        self._processes = [
            self._start(
                etcd,
                f"--data-dir={folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--advertise-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
            ),
            self._start(
                apiserver,
                f"--etcd-servers=http://127.0.0.1:{client}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._port}",
                f"--cert-dir={folder / 'certificates'}",
                f"--token-auth-file={tokens}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-cluster-ip-range=10.0.0.0/24",
            ),
        ]

    def _start(self, *command: str) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> "Server":
        try:
            eventually(lambda: self.kubectl("get", "--raw", "/readyz").returncode == 0, 120)
        except AssertionError:
            self.close()
            raise AssertionError(self._log.read_text()[-3000:]) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop both."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(30)

    def kubectl(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """What kubectl says to the server's answer; given is its standard input."""
        connect = [
            f"--server=https://127.0.0.1:{self._port}",
            "--insecure-skip-tls-verify",
            f"--token={TOKEN}",
        ]
        return subprocess.run(
            [self._kubectl, *connect, *arguments],
            check=False,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"KUBECONFIG": os.devnull},
        )

    def apply(self, manifests: str, *options: str) -> str:
        """Have the server take manifests, or refuse them; the result is what it says, warnings included."""
        command = ("apply", "--server-side", "--validate=strict", *options, "--filename=-")
        done = self.kubectl(*command, given=manifests)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr
