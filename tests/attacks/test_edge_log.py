"""A device's log that the device did not write so, or that is less than was seen, is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import bundles

from clients.scoring.bundle import Bundle
from clients.scoring.device import DeviceFolder, open_log, pseudonym, read_head
from clients.scoring.score_log import LogHead, LogReader, line_digest
from federation.edge.kept_bundle import kept_bundle
from federation.edge.scoring import EdgeJob, score_all
from federation.edge.sync import seen_head, sync_log
from federation.home import Home
from privacy.canonical import canonical_json
from privacy.errors import InputError, NotVerifiedError, RefusedError
from privacy.identity import Identity
from privacy.randomness import system_bytes


class Setting:
    """A device that scored three rows, and the home that made its bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = Home(root / "home")
        self.device = DeviceFolder(root / "device")
        self.now_s = bundles.NOW_S
        self.bundle = self.put(bundles.bundle())
        self.rows = root / "rows.csv"
        self.rows.write_text(bundles.ROWS)
        self.device.trust([bundles.TRUSTED])

    def put(self, bundle: Bundle) -> Path:
        """A bundle where the device finds it, and where the home keeps it."""
        from clients.scoring.bundle_file import look_at_bundle

        data = bundles.signed(bundle)
        kept = kept_bundle(self.home, look_at_bundle(data).digest)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
        path = self.root / "model.tacit"
        path.write_bytes(data)
        return path

    def score(self, **changes: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any field
        """Score the rows."""
        found: list[dict[str, Any]] = []
        told: dict[str, Any] = {
            "bundle": self.bundle,
            "places": (str(self.rows),),
            "home": self.device.root,
        }
        score_all(EdgeJob(**(told | changes)), found.append, clock=lambda: self.now_s)
        return found

    def fingerprint(self) -> str:
        """The device's."""
        reader = LogReader("log")
        reader.take(self.lines()[0])
        assert reader.beginning is not None
        return reader.beginning.device

    def lines(self) -> list[bytes]:
        """Of the log."""
        return self.device.log.read_bytes().splitlines()

    def copy(self, lines: list[bytes]) -> Path:
        """A log of these lines."""
        path = self.root / "copy.log"
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return path


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    made = Setting(tmp_path)
    made.score()
    return made


def test_a_log_is_taken_in_once_and_again_is_no_harm(setting: Setting) -> None:
    device = setting.fingerprint()
    first = sync_log(setting.home, setting.device.log, device)
    assert (first.new, first.scores, first.head.lines) == (4, 3, 4)
    again = sync_log(setting.home, setting.device.log, None)
    assert (again.new, again.scores, again.head) == (0, 0, first.head)
    setting.now_s += 5
    setting.score()
    more = sync_log(setting.home, setting.device.log, None)
    assert (more.new, more.scores, more.head.lines) == (3, 3, 7)
    folder = setting.home.edge / "logs" / device
    assert seen_head(folder) == more.head
    kept = b"".join(path.read_bytes() for path in sorted(folder.glob("0*")))
    assert kept == setting.device.log.read_bytes()


def test_a_log_names_no_unit_and_no_value(setting: Setting) -> None:
    # so long that a log of 3,000 signs, mostly hexadecimal, has it by chance once in 4e14 times
    unit = "777001777001777"
    setting.rows.write_text(f"id,load,code\n{unit},0.123456789,a\n")
    setting.score()
    text = setting.device.log.read_text()
    assert unit not in text
    assert "0.123456789" not in text
    key = setting.device.unit_key(system_bytes)
    assert pseudonym(key, bundles.CONTRACT, unit) in text
    assert pseudonym(key, "d" * 64, unit) not in text


def _swap(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


def _digit(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"value":0.', b'"value":0.1', 1), *lines[3:]]


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "reordered": _swap,
    "a line left out": lambda lines: [*lines[:2], *lines[3:]],
    "a line twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "a digit": _digit,
    "no beginning": lambda lines: lines[1:],
    "two beginnings": lambda lines: [lines[0], *lines],
    "an empty line": lambda lines: [*lines, b""],
    "something else": lambda lines: [*lines, b"{}"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("seen", [False, True])
def test_a_changed_log_is_refused(
    setting: Setting, change: Callable[[list[bytes]], list[bytes]], seen: bool
) -> None:
    device = setting.fingerprint()
    if seen:
        sync_log(setting.home, setting.device.log, device)
    before = _state(setting.home)
    with pytest.raises(NotVerifiedError):
        sync_log(setting.home, setting.copy(change(setting.lines())), device)
    assert _state(setting.home) == before
    assert sync_log(setting.home, setting.device.log, device).head.lines == 4


def _state(home: Home) -> dict[str, bytes]:
    """What counts of the logs that were taken in: heads, and lines below them."""
    folder = home.edge / "logs"
    return {str(path): path.read_bytes() for path in folder.glob("*/head.json")}


def test_every_flip_of_a_line_is_refused(setting: Setting) -> None:
    lines = setting.lines()
    for place in range(0, len(lines[2]), 7):
        changed = bytearray(lines[2])
        changed[place] ^= 1
        reader = LogReader("log")
        reader.take(lines[0])
        reader.take(lines[1])
        with pytest.raises(NotVerifiedError, match="line 3"):
            reader.take(bytes(changed))
        assert reader.head.lines == 2


def test_a_log_that_was_cut_is_refused_once_more_was_seen(setting: Setting) -> None:
    device, lines = setting.fingerprint(), setting.lines()
    cut = setting.copy(lines[:3])
    assert sync_log(setting.home, cut, device).new == 3  # nobody had seen more
    assert sync_log(setting.home, setting.device.log, device).new == 1
    with pytest.raises(NotVerifiedError, match="has 3 lines, and 4 were seen before"):
        sync_log(setting.home, cut, device)
    torn = setting.root / "torn.log"
    torn.write_bytes(setting.device.log.read_bytes()[:-9])
    with pytest.raises(NotVerifiedError, match="ends within a line"):
        sync_log(setting.home, torn, device)


def test_a_log_that_the_device_itself_wrote_anew_is_refused(setting: Setting) -> None:
    """The thief of a device's key cannot change what was seen."""
    device = setting.fingerprint()
    sync_log(setting.home, setting.device.log, device)
    setting.device.log.unlink()
    setting.device.head.unlink()
    setting.rows.write_text("id,load,code\n9,0.5,b\n9,0.5,b\n9,0.5,b\n9,0.5,b\n9,0.5,b\n")
    setting.score()
    with pytest.raises(NotVerifiedError, match="another log than the one that was seen"):
        sync_log(setting.home, setting.device.log, device)


def test_the_key_in_a_log_says_nothing_by_itself(setting: Setting) -> None:
    with pytest.raises(InputError, match="give its fingerprint with --device"):
        sync_log(setting.home, setting.device.log, None)
    with pytest.raises(NotVerifiedError, match="not of"):
        sync_log(setting.home, setting.device.log, "a" * 64)
    with pytest.raises(InputError, match="neither a fingerprint"):
        sync_log(setting.home, setting.device.log, "abc")


def _resigned(setting: Setting, **changes: Any) -> Path:  # noqa: ANN401 - any key
    """A log whose second line the device's own key signed with other words."""
    lines = setting.lines()
    identity = Identity.load(setting.device.root / "device.pem")
    body = json.loads(lines[1])["body"] | changes
    signature = identity.sign("edge-log", canonical_json(body)).hex()
    return setting.copy([lines[0], canonical_json({"body": body, "signature": signature})])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bundle": "a" * 64}, "this home did not make"),
        ({"value": 0.9}, "does not follow from its output"),
        ({"output": 5.0}, "not as a device writes it"),
        ({"amounts": {"load": 0.0}, "output": -0.5, "value": 0.37754}, "does not give"),
        ({"time_s": bundles.NOW_S + 2000}, "when its bundle was not valid"),
        ({"time_s": bundles.NOW_S - 1}, "earlier than the line before"),
        ({"unit": "borrower 1"}, "not as a device writes it"),
        ({"more": 1}, "not as a device writes it"),
        ({"previous": "0" * 64}, "does not follow from the lines before"),
    ],
)
def test_a_score_that_the_bundle_does_not_give_is_refused(
    setting: Setting, changes: dict[str, Any], said: str
) -> None:
    device = setting.fingerprint()
    with pytest.raises(NotVerifiedError, match=said):
        sync_log(setting.home, _resigned(setting, **changes), device)
    assert sync_log(setting.home, _resigned(setting), device).new == 2  # as it was


def test_a_clock_that_ran_backwards_is_refused(setting: Setting) -> None:
    setting.now_s -= 1
    with pytest.raises(RefusedError, match="clock ran backwards"):
        setting.score()
    assert len(setting.lines()) == 4
    setting.now_s += 1
    assert len(setting.score()) == 3


def test_a_clock_that_runs_backwards_under_way_is_refused(setting: Setting) -> None:
    """Two files are two batches: before the second one somebody set the clock back."""
    times = iter([bundles.NOW_S + 9] * 3)
    second = setting.root / "second.csv"
    second.write_text(bundles.ROWS)
    places = (str(setting.rows), str(second))
    job = EdgeJob(bundle=setting.bundle, places=places, home=setting.device.root)
    given: list[dict[str, Any]] = []
    with pytest.raises(RefusedError, match="clock ran backwards"):
        score_all(job, given.append, clock=lambda: next(times, bundles.NOW_S + 8))
    assert len(given) == 3
    assert len(setting.lines()) == 7


def test_a_bundle_that_expires_under_way_scores_no_more(setting: Setting) -> None:
    times = iter([bundles.NOW_S, bundles.NOW_S])
    job = EdgeJob(bundle=setting.bundle, places=(str(setting.rows),), home=setting.device.root)
    given: list[dict[str, Any]] = []
    with pytest.raises(NotVerifiedError, match="expired"):
        score_all(job, given.append, clock=lambda: next(times, bundles.NOW_S + 1000))
    assert not given


def test_another_contract_is_refused_in_a_devices_folder(setting: Setting) -> None:
    from clients.scoring.bundle import ContractName

    other = ContractName(name="policies", digest="d" * 64, unit="borrower", title="")
    path = setting.put(bundles.bundle(contract=other))
    with pytest.raises(RefusedError, match="another contract in another --home"):
        setting.score(bundle=path)
    with pytest.raises(NotVerifiedError, match="is for the contract policies"):
        setting.score(bundle=path, contract="loans")


def test_a_device_notices_that_its_log_was_cut_changed_or_taken_away(setting: Setting) -> None:
    data = setting.device.log.read_bytes()
    for wrong in (data[:-1], data[: data.rindex(b"\n", 0, -1) + 1], data[:-3] + b"0}\n"):
        setting.device.log.write_bytes(wrong)
        with pytest.raises(NotVerifiedError, match="was cut or changed"):
            setting.score()
    setting.device.log.unlink()
    with pytest.raises(NotVerifiedError, match="is gone"):
        setting.score()
    setting.device.log.write_bytes(data)
    assert len(setting.score()) == 3


def test_what_a_crash_left_behind_is_taken_in_or_cut_off(setting: Setting) -> None:
    """Lines on disk that the head does not know yet, and half a line."""
    head = setting.device.head.read_bytes()
    setting.score()
    data = setting.device.log.read_bytes()
    setting.device.head.write_bytes(head)
    setting.device.log.write_bytes(data + b'{"body":{"amou')
    identity = setting.device.identity(system_bytes)
    log = open_log(setting.device, identity, bundles.CONTRACT, lambda: setting.now_s)
    assert log.head.lines == 7
    assert setting.device.log.read_bytes() == data
    assert read_head(setting.device) == (log.head, len(data))
    # a line beyond the head that does not hold is no crash
    setting.device.head.write_bytes(head)
    setting.device.log.write_bytes(data[:-3] + b"0}\n")
    with pytest.raises(NotVerifiedError):
        open_log(setting.device, identity, bundles.CONTRACT, lambda: setting.now_s)
    # half a first line
    setting.device.head.unlink()
    setting.device.log.write_bytes(data[:20])
    log = open_log(setting.device, identity, bundles.CONTRACT, lambda: setting.now_s)
    assert log.head.lines == 1


def test_an_older_bundle_is_not_put_back(setting: Setting) -> None:
    old = setting.bundle.read_bytes()
    setting.put(bundles.bundle(made_s=bundles.NOW_S - 50))
    assert len(setting.score()) == 3
    setting.bundle.write_bytes(old)
    lines = setting.lines()
    with pytest.raises(NotVerifiedError, match=r"and a newer one, of .*, scored here already"):
        setting.score()
    assert setting.lines() == lines
    # nor by a memory of it that says something else
    setting.device.root.joinpath("bundle.newest").write_text('{"made_s":1,"more":2}')
    with pytest.raises(NotVerifiedError, match="is not as it was written"):
        setting.score()


def test_a_newer_bundle_of_another_contract_does_not_take_ones_place(setting: Setting) -> None:
    old = setting.bundle.read_bytes()
    contract = replace(bundles.bundle().contract, digest="e" * 64)
    setting.put(bundles.bundle(made_s=bundles.NOW_S - 50, contract=contract))
    with pytest.raises(RefusedError, match="score another contract in another --home"):
        setting.score()
    setting.bundle.write_bytes(old)
    assert len(setting.score()) == 3


def test_two_processes_do_not_write_one_log(setting: Setting) -> None:
    with setting.device.exclusive(), pytest.raises(RefusedError, match="Another process"):
        setting.score()


def test_keys_of_a_device_are_its_owners_alone(setting: Setting) -> None:
    for name in ("device.pem", "units.key"):
        assert (setting.device.root / name).stat().st_mode & 0o077 == 0
    (setting.device.root / "device.pem").chmod(0o644)
    with pytest.raises(InputError, match="others may read"):
        setting.score()


def test_a_chain_binds_all_lines_before() -> None:
    assert line_digest(b"a") != line_digest(b"b")
    assert LogHead() == LogHead(lines=0, digest="", time_s=0)
