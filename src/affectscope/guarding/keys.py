"""Keys of evidence: Ed25519 to sign checkpoints, and a secret for the fingerprints of content.

They lie in a folder of their own, readable by their owner only. Whoever holds the signing key can write other evidence;
keep it where the guarded agent cannot read it, and give auditors the public one.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from affectscope.errors import AffectscopeError
from affectscope.files import disk_errors

SIGNING, PUBLIC, CONTENT = "signing.pem", "public.pem", "content.key"


@dataclass(frozen=True)
class Keys:
    """A signing key and the 32 bytes that fingerprints of content are keyed with."""

    signing: Ed25519PrivateKey
    content: bytes

    @property
    def public(self) -> str:
        """The public key, 32 bytes in hexadecimal."""
        return self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def keys_folder() -> Path:
    """Where keys lie: ``$AFFECTSCOPE_KEYS``, else under the XDG configuration folder."""
    if root := os.environ.get("AFFECTSCOPE_KEYS"):
        return Path(root).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".config") / "affectscope" / "keys"


def new_keys(folder: Path) -> Keys:
    """Make keys in a folder that has none.

    Raises:
        AffectscopeError: there are keys already, which are never overwritten; or the place cannot be written.
    """
    if (folder / SIGNING).exists():
        raise AffectscopeError(
            f"{folder} holds keys already: evidence signed with them needs them; choose another --out"
        )
    made = Keys(Ed25519PrivateKey.generate(), secrets.token_bytes(32))
    private = made.signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = made.signing.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content, mode in ((CONTENT, made.content, 0o600), (PUBLIC, public, 0o644), (SIGNING, private, 0o600)):
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
    return made


def load_keys(folder: Path | None = None) -> Keys:
    """The keys of a folder; where the default one has none yet, new ones.

    Raises:
        AffectscopeError: no keys in a folder that was named, or keys that cannot be read.
    """
    place = folder or keys_folder()
    if not (place / SIGNING).exists():
        if folder is not None:
            raise AffectscopeError(
                f"there are no keys in {folder}: make some with `affectscope keys new --out {folder}`"
            )
        return new_keys(place)
    try:
        signing = load_pem_private_key((place / SIGNING).read_bytes(), None)
        content = (place / CONTENT).read_bytes()
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AffectscopeError(f"the keys in {place} cannot be read ({error}): restore them, or make others") from error
    if not isinstance(signing, Ed25519PrivateKey) or len(content) != 32:
        raise AffectscopeError(f"the keys in {place} are not ours: they are Ed25519 and 32 bytes; make others")
    return Keys(signing, content)


def load_public(path: Path) -> str:
    """A public key file as hexadecimal.

    Raises:
        AffectscopeError: missing, or no Ed25519 public key.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise AffectscopeError(f"cannot read the public key {path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise AffectscopeError(f"{path} is no Ed25519 public key: give the {PUBLIC} of the keys that signed")
    raw: bytes = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return raw.hex()


def signed_by(public: str, signature: str, message: bytes) -> bool:
    """Whether ``signature`` (hexadecimal) of ``message`` was made with the key whose public half is ``public``."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True
