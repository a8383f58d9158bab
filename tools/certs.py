"""`make certs`: a development CA, and certificates of both services that it signs, for mutual TLS.

With a folder as its argument, it writes them there, unless it did so before.
"""

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DIRECTORY = Path("var/certs")
CA = "ca.pem"
LASTS = datetime.timedelta(days=365)
# As RFC 5280 has it for a CA; Python from 3.13 on is strict about it, and about the keys' identifiers.
SIGNS = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip
ALREADY = datetime.timedelta(days=1)  # clocks differ
PLACES = ("localhost", "127.0.0.1", "::1")
SERVICES = {"recommendations": ("recommendations", *PLACES), "marketplace": ("marketplace",)}

VARIABLES = {
    "TLS_CERT_FILE": "recommendations.pem",
    "TLS_KEY_FILE": "recommendations.key",
    "TLS_CLIENT_CA_FILE": CA,
    "RECOMMENDATIONS_CA_FILE": CA,
    "RECOMMENDATIONS_CERT_FILE": "marketplace.pem",
    "RECOMMENDATIONS_KEY_FILE": "marketplace.key",
}


class Authority:
    """A CA with a new key."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("bookshop development CA")
        certificate = _certificate(self._name, self._name, self._key.public_key(), LASTS)
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        certificate = certificate.add_extension(SIGNS, critical=True)
        self.pem = _pem(certificate.sign(self._key, hashes.SHA256()))

    def issue(
        self, *names: str, lasts: datetime.timedelta = LASTS, begins: datetime.timedelta | None = None
    ) -> tuple[bytes, bytes]:
        """A private key and a certificate for host names and addresses, as PEM.

        It may have ended already, or begin later: both times are counted from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(_name(names[0]), self._name, key.public_key(), lasts, begins)
        certificate = certificate.add_extension(
            x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
        ).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return pem, _pem(certificate.sign(self._key, hashes.SHA256()))

    def write(self, directory: Path) -> None:
        """Write ca.pem, and NAME.key and NAME.pem of each service."""
        directory.mkdir(parents=True, exist_ok=True)
        for service, names in SERVICES.items():
            key, certificate = self.issue(*names)
            file = directory / f"{service}.key"
            file.touch(mode=0o600)
            file.write_bytes(key)
            (directory / f"{service}.pem").write_bytes(certificate)
        (directory / CA).write_bytes(self.pem)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    lasts: datetime.timedelta,
    begins: datetime.timedelta | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    begins = -abs(lasts) - ALREADY if begins is None else begins
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + begins).not_valid_after(now + lasts)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def main() -> int:
    """Write the files, and print the variables that name them."""
    directory = Path(sys.argv[1]) if sys.argv[1:] else DIRECTORY
    if not (sys.argv[1:] and (directory / CA).exists()):  # the last that is written
        Authority().write(directory)
    for variable, file in VARIABLES.items():
        sys.stdout.write(f"{variable}={directory / file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
