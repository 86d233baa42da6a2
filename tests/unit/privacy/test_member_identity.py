import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.errors import InputError, ProtocolError
from privacy.identity import Identity, verify_signature
from privacy.randomness import system_bytes

# RFC 8032, section 7.1, test 1
SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_the_public_key_is_that_of_the_rfc() -> None:
    assert Identity.create(lambda _: SECRET).public == PUBLIC


def test_a_signature_holds_for_its_key_domain_and_message_only() -> None:
    one, other = Identity.create(system_bytes), Identity.create(system_bytes)
    signature = one.sign("offer", b"message")
    verify_signature(one.public, "offer", b"message", signature)
    for public, domain, message, signed in [
        (other.public, "offer", b"message", signature),
        (one.public, "vote", b"message", signature),
        (one.public, "offer", b"Message", signature),
        (one.public, "offer", b"message", signature[:-1] + bytes([signature[-1] ^ 1])),
        (one.public, "offer", b"message", signature[:-1]),
        (one.public[:-1], "offer", b"message", signature),
        (b"", "offer", b"message", b""),
    ]:
        with pytest.raises(ProtocolError):
            verify_signature(public, domain, message, signed)


@pytest.mark.parametrize("domain", ["", "a\0b", "é"])
def test_a_domain_has_an_unambiguous_end(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        Identity.create(system_bytes).sign(domain, b"")


def test_an_identity_shows_nothing_secret() -> None:
    identity = Identity.create(lambda _: SECRET)
    assert SECRET.hex()[:8] not in repr(identity)
    assert str(SECRET)[2:8] not in f"{identity}"
    with pytest.raises(TypeError, match="save and load"):
        pickle.dumps(identity)
    with pytest.raises(TypeError, match="save and load"):
        copy.copy(identity)


def test_a_saved_identity_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    identity = Identity.create(system_bytes)
    identity.save(path)
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert Identity.load(path).public == identity.public
    with pytest.raises(InputError, match="already"):
        Identity.create(system_bytes).save(path)
    assert path.read_bytes() == before


def test_a_key_that_did_not_reach_the_disk_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.pem"
    identity = Identity.create(system_bytes)

    def failing(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(InputError, match="No space left"):
            identity.save(path)
    assert not path.exists()
    identity.save(path)
    assert Identity.load(path).public == identity.public


@pytest.mark.parametrize("call", ["fdopen", "fsync", "link"])
def test_a_key_whose_writer_is_killed_stands_in_nobodys_way(tmp_path: Path, call: str) -> None:
    path = tmp_path / "identity.pem"
    code = (
        "import os, sys; from pathlib import Path; from privacy.identity import Identity; "
        f"os.{call} = lambda *_: os._exit(9); Identity.create(os.urandom).save(Path(sys.argv[1]))"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    assert not path.exists()
    identity = Identity.create(system_bytes)
    identity.save(path)
    assert Identity.load(path).public == identity.public
    assert [one.name for one in tmp_path.iterdir()] == ["identity.pem"]


def test_a_saved_key_has_its_name_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, real = list[Path](), os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    Identity.create(system_bytes).save(tmp_path / "identity.pem")
    assert synced[-1] == tmp_path


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"
    Identity.create(system_bytes).save(path)
    path.chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        Identity.load(path)


def test_what_is_no_identity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Identity.load(tmp_path / "none.pem")
    with pytest.raises(InputError, match="cannot write"):
        Identity.create(system_bytes).save(tmp_path / "none" / "identity.pem")
    other_kind = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for index, data in enumerate((b"", b"not a key", other_kind)):
        path = tmp_path / f"{index}.pem"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(descriptor, data)
        os.close(descriptor)
        with pytest.raises(InputError, match="holds no"):
            Identity.load(path)
