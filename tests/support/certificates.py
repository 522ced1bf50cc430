"""A key and a certificate for this machine's loopback address, for which nobody else vouches."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFICATE, KEY = "tls.crt", "tls.key"  # files of the directory


def make_certificate(directory: Path) -> Path:
    """Write both; returns the certificate, which is what clients have to trust."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "perennial-test")])
    about = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    valid = about.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    valid = valid.not_valid_after(now + timedelta(days=2))
    here = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = valid.add_extension(here, critical=False).sign(key, hashes.SHA256())
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / KEY).write_bytes(key.private_bytes(pem, kind, serialization.NoEncryption()))
    (directory / CERTIFICATE).write_bytes(signed.public_bytes(pem))
    return directory / CERTIFICATE
