"""Keys: private, never overwritten, where the environment says, and refused when they are not ours."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from affectscope.errors import AffectscopeError
from affectscope.guarding.keys import CONTENT, PUBLIC, SIGNING, keys_folder, load_keys, load_public, new_keys


def test_keys_are_private_and_never_overwritten(tmp_path, monkeypatch):
    made = new_keys(tmp_path / "k")
    for name, mode in ((SIGNING, 0o600), (CONTENT, 0o600), (PUBLIC, 0o644)):
        assert (tmp_path / "k" / name).stat().st_mode & 0o777 == mode
    assert load_public(tmp_path / "k" / PUBLIC) == made.public == load_keys(tmp_path / "k").public
    with pytest.raises(AffectscopeError, match="already"):
        new_keys(tmp_path / "k")
    with pytest.raises(AffectscopeError, match="keys new"):
        load_keys(tmp_path / "none")
    monkeypatch.setenv("AFFECTSCOPE_KEYS", str(tmp_path / "fresh"))
    assert load_keys().public == load_keys().public
    (tmp_path / "k" / SIGNING).write_text("nonsense")
    with pytest.raises(AffectscopeError, match="cannot be read"):
        load_keys(tmp_path / "k")
    with pytest.raises(AffectscopeError, match="public key"):
        load_public(tmp_path / "k" / SIGNING)


def test_their_folder_is_private_and_made_where_none_is(tmp_path):
    folder = tmp_path / "some" / "where"
    new_keys(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "empty").mkdir()
    new_keys(tmp_path / "empty")
    assert (tmp_path / "empty" / SIGNING).exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(AffectscopeError, match=f"cannot write {tmp_path}/file/keys"):
        new_keys(tmp_path / "file" / "keys")


def test_keys_lie_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("AFFECTSCOPE_KEYS", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keys_folder() == tmp_path / ".config" / "affectscope" / "keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", "~/elsewhere")
    assert keys_folder() == tmp_path / "elsewhere" / "affectscope" / "keys"
    monkeypatch.setenv("AFFECTSCOPE_KEYS", "~/mine")
    assert keys_folder() == tmp_path / "mine"


def test_keys_that_are_read_are_those_that_were_made_and_others_are_refused(tmp_path):
    made = new_keys(tmp_path / "k")
    again = load_keys(tmp_path / "k")
    assert (again.public, again.content) == (made.public, made.content)
    (tmp_path / "k" / CONTENT).write_bytes(b"short")
    with pytest.raises(AffectscopeError, match="are not ours: they are Ed25519 and 32 bytes"):
        load_keys(tmp_path / "k")
    other = X25519PrivateKey.generate().public_key()
    (tmp_path / "k" / PUBLIC).write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(
        AffectscopeError, match=r"is no Ed25519 public key: give the public\.pem of the keys that signed"
    ):
        load_public(tmp_path / "k" / PUBLIC)
