"""What every `KeyService` holds, and what is sealed with it."""

import sys
from pathlib import Path

import pytest

from clients.vault import (
    CommandKey,
    KeyService,
    Label,
    MasterKey,
    Suite,
    file_key,
    is_sealed,
    passphrase_key,
    rewrap,
    seal,
    unseal,
)
from privacy.errors import InputError, NotVerifiedError
from privacy.randomness import system_bytes

LABEL = Label("session", "ab" * 32, "L3")
LONG_S = 120  # the usual ten seconds may pass while this machine does other work
SERVICE = """
import base64, hashlib, json, sys
asked = json.load(sys.stdin)
data = base64.b64decode(asked["data"])
pad = (hashlib.sha256(sys.argv[1].encode()).digest() * 4)[:64]
mask = lambda d: bytes(a ^ b for a, b in zip(d, pad))
if asked["act"] == "wrap":
    out = hashlib.sha256(pad + data).digest() + mask(data)
else:
    out = mask(data[32:])
    if hashlib.sha256(pad + out).digest() != data[:32]:
        sys.exit(1)
json.dump({"data": base64.b64encode(out).decode()}, sys.stdout)
"""


def service(kind: str, folder: Path, name: str) -> KeyService:
    if kind == "file":
        return MasterKey(file_key(folder / name, system_bytes), system_bytes)
    if kind == "passphrase":
        return MasterKey(passphrase_key(f"a long passphrase {name}", b"salt"), system_bytes)
    script = folder / "service.py"
    script.write_text(SERVICE)
    return CommandKey([sys.executable, "-I", str(script), name], timeout_s=LONG_S)


@pytest.mark.parametrize("kind", ["file", "passphrase", "command"])
def test_a_key_service_reads_its_own_keys_alone(kind: str, tmp_path: Path) -> None:
    one, other = service(kind, tmp_path, "one"), service(kind, tmp_path, "other")
    key = system_bytes(32)
    wrapped = one.wrap(key)
    assert key not in wrapped
    assert one.unwrap(wrapped) == key
    for at in (0, len(wrapped) - 1):
        with pytest.raises(NotVerifiedError):
            one.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :])
    with pytest.raises(NotVerifiedError):
        other.unwrap(wrapped)
    sealed = seal(b"rows", LABEL, one, entropy=system_bytes)
    again = rewrap(sealed, LABEL, one, other, entropy=system_bytes)
    assert unseal(again, LABEL, other) == b"rows"
    with pytest.raises(NotVerifiedError):
        unseal(again, LABEL, one)


@pytest.mark.parametrize("suite", ["aes", "sm4"])
def test_sealed_bytes_open_whole_and_in_their_place_alone(suite: Suite, tmp_path: Path) -> None:
    keys = service("file", tmp_path, "one")
    data = b"canary 31337.125"
    sealed = seal(data, LABEL, keys, entropy=system_bytes, suite=suite)
    assert is_sealed(sealed)
    assert b"canary" not in sealed
    assert sealed != seal(data, LABEL, keys, entropy=system_bytes, suite=suite)
    assert unseal(sealed, LABEL, keys) == data
    for at in range(len(sealed)):
        with pytest.raises(NotVerifiedError):
            unseal(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], LABEL, keys)
        with pytest.raises(NotVerifiedError):
            unseal(sealed[:at], LABEL, keys)
    for label in (
        Label("model", LABEL.id, "L3"),
        Label("session", "cd" * 32, "L3"),
        Label("session", LABEL.id, "L2"),
    ):
        with pytest.raises(NotVerifiedError, match="belongs elsewhere"):
            unseal(sealed, label, keys)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert file_key(path, system_bytes) == file_key(path, system_bytes)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().hex() not in repr(service("file", tmp_path, "key"))
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        file_key(path, system_bytes)
    with pytest.raises(InputError, match="12 characters"):
        passphrase_key("short", b"")


def test_a_key_service_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not answer"):
        CommandKey([str(tmp_path / "none")]).wrap(bytes(32))
    with pytest.raises(InputError, match="no usable answer"):
        CommandKey([sys.executable, "-c", "print('{}')"], timeout_s=LONG_S).wrap(bytes(32))
    with pytest.raises(InputError, match="does not answer"):
        CommandKey([sys.executable, "-c", "import time; time.sleep(9)"], timeout_s=0.2).wrap(b"k")
    endless = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with pytest.raises(InputError, match="says more than an answer"):
        CommandKey([sys.executable, "-c", endless], timeout_s=LONG_S).wrap(b"k")
    # what goes on in the background holds nobody up
    forks = "import os, time\nif os.fork() == 0: time.sleep(9)"
    with pytest.raises(InputError, match="does not answer"):
        CommandKey([sys.executable, "-c", forks], timeout_s=0.5).wrap(b"k")


def test_a_key_service_that_is_down_for_a_moment_has_not_another_key(tmp_path: Path) -> None:
    """Else a node would take what it kept for damaged, and leave its runs."""
    program = tmp_path / "service.py"
    program.write_text(
        "import base64, json, os, sys\n"
        f"if os.path.exists({str(tmp_path / 'down')!r}): sys.exit(1)\n"
        "asked = json.load(sys.stdin)\n"
        "data = bytes(one ^ 7 for one in base64.b64decode(asked['data']))\n"
        "print(json.dumps({'data': base64.b64encode(data).decode()}))\n"
    )
    keys = CommandKey([sys.executable, str(program)], timeout_s=LONG_S)
    wrapped = keys.wrap(b"k" * 32)
    (tmp_path / "down").touch()
    with pytest.raises(InputError):
        keys.unwrap(wrapped)
    (tmp_path / "down").unlink()
    assert keys.unwrap(wrapped) == b"k" * 32
