"""A private authority that signs certificates of every kind while the tests run; it protects nothing."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LONG_AGO, PAST, FUTURE, FAR_OFF = (datetime(year, 1, 1, tzinfo=UTC) for year in (2015, 2020, 2100, 2120))

_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """Signs certificates and writes them to a folder.

    Attributes:
        bundle: The file of its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._written = 0
        own = (
            self._builder("Tests", self._key, PAST, FAR_OFF)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS_CERTIFICATES, critical=True)
        )
        self._certificate = own.sign(self._key, hashes.SHA256())
        self.bundle = folder / "authority.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def server(
        self,
        *hosts: str,
        not_before: datetime = PAST,
        not_after: datetime = FAR_OFF,
        signs_itself: bool = False,
    ) -> ssl.SSLContext:
        """Return the context of a server with a certificate for these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = "server" if signs_itself else "Tests"
        builder = self._builder("server", key, not_before, not_after, issuer)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(key if signs_itself else self._key, hashes.SHA256())
        self._written += 1
        file = self._folder / f"server-{self._written}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def trusted(self) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.bundle))

    def _builder(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        not_before: datetime,
        not_after: datetime,
        issuer: str = "Tests",
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            # From Python 3.13 on a certificate without these is refused for that.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(
                    (self._key if issuer == "Tests" else key).public_key()
                ),
                critical=False,
            )
        )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
