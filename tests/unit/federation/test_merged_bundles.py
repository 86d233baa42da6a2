"""Bundles of several machines as one."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.homes import Household

from federation.audit import export_home, verify_files, write_merged
from federation.evidence import home_bundle, merged
from privacy.errors import InputError, NotVerifiedError
from privacy.ledger.bundle import Bundle, write_bundle
from privacy.verify import verify_bundle


@pytest.fixture(name="bundle", scope="module")
def _bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    household = Household(tmp_path_factory.mktemp("household") / "home")
    household.run()
    return home_bundle(household.home)


def parts(bundle: Bundle) -> list[Bundle]:
    """What each machine would have exported of its own ledger."""
    return [replace(bundle, logs=(log,)) for log in bundle.logs]


def test_what_each_machine_exported_is_the_whole_once_it_is_put_together(bundle: Bundle) -> None:
    whole = merged(list(reversed(parts(bundle))))
    assert whole.logs[0].role == "coordinator"
    assert {log.origin for log in whole.logs} == {log.origin for log in bundle.logs}
    assert len(verify_bundle(whole).nodes) == len(bundle.logs) - 1


def test_of_two_copies_the_longer_counts(bundle: Bundle) -> None:
    node = bundle.logs[1]
    short = replace(node, leaves=node.leaves[:3])
    whole = merged([replace(bundle, logs=(short,)), bundle])
    assert next(log for log in whole.logs if log.origin == node.origin) == node


def test_two_histories_of_one_ledger_are_found(bundle: Bundle) -> None:
    node = bundle.logs[1]
    other = replace(node, leaves=[*node.leaves[:2], node.leaves[3]])
    with pytest.raises(NotVerifiedError, match="two histories"):
        merged([bundle, replace(bundle, logs=(other,))])


def test_two_coordinators_and_nothing_at_all_are_refused(bundle: Bundle) -> None:
    other = replace(bundle.logs[0], origin="tacit/other/0123456789abcdef")
    with pytest.raises(InputError, match="two coordinators"):
        merged([bundle, replace(bundle, logs=(other,))])
    with pytest.raises(InputError, match="at least one"):
        merged([])


def test_files_are_verified_together_and_written_as_one(bundle: Bundle, tmp_path: Path) -> None:
    paths = []
    for place, part in enumerate(parts(bundle)):
        path = tmp_path / f"{place}.bundle"
        with path.open("wb") as file:
            write_bundle(part, file)
        paths.append(path)
    alone = verify_files(paths[:1], policy=None, rules=None)
    together = verify_files(paths, policy=None, rules=None)
    assert alone.verdict.nodes == ()
    assert len(together.verdict.nodes) == len(paths) - 1
    write_merged(paths, tmp_path / "all.bundle")
    again = verify_files([tmp_path / "all.bundle"], policy=None, rules=None)
    assert again.verdict.nodes == together.verdict.nodes


def test_a_machine_that_is_a_node_alone_exports_its_own_ledger(tmp_path: Path) -> None:
    household = Household(tmp_path / "home")
    household.run()
    member = household.members[0]
    alone = Household(tmp_path / "alone").home
    alone.ledger.unlink()
    for folder in alone.root.glob("nodes/*/*"):
        for path in folder.iterdir():
            path.unlink()
    alone.own_node.mkdir()
    alone.participant.mkdir()
    source = household.ledger_of(member)
    (alone.own_node / source.name).write_bytes(source.read_bytes())
    for suffix in ("-wal", "-shm"):
        beside = source.with_name(source.name + suffix)
        if beside.exists():
            (alone.own_node / beside.name).write_bytes(beside.read_bytes())
    identity = source.with_name("identity.pem")
    (alone.participant / "identity.pem").write_bytes(identity.read_bytes())
    (alone.participant / "identity.pem").chmod(0o600)
    (only,) = export_home(alone, tmp_path / "node.bundle").logs
    assert (only.owner, only.role) == (member, "node")
