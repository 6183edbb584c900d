"""Certificates for tests: an authority of our own, and whom it vouches for."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in a folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, folder: Path, name: str) -> Self:
        made = cls(folder, name, ec.generate_private_key(ec.SECP256R1()))
        made._write(name, made.key, made.key, name, (-DAY, 400 * DAY), authority=True)
        return made

    @property
    def certificate(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def vouch(
        self, name: str, valid: tuple[timedelta, timedelta] = (-DAY, 90 * DAY), file: str = ""
    ) -> dict[str, Path]:
        """Write a certificate for a common name, and return the settings that name its files."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write(file or name, key, self.key, name, valid, authority=False)
        return {
            "certificate": self.folder / f"{file or name}.pem",
            "private_key": self.folder / f"{file or name}.key",
            "trusted_certificates": self.certificate,
        }

    def _write(
        self,
        file: str,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        name: str,
        valid: tuple[timedelta, timedelta],
        *,
        authority: bool,
    ) -> None:
        now = datetime.now(UTC)
        local = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid[0])
            .not_valid_after(now + valid[1])
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(local), critical=False)
            .sign(signer, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.folder / f"{file}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{file}.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
