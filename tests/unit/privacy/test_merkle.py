import hashlib

import pytest

from privacy.errors import NotVerifiedError
from privacy.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    Nodes,
    consistency_proof,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    new_nodes,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# Leaves, roots and proofs that all implementations of certificate transparency are tested with
# (github.com/google/certificate-transparency, merkletree/merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    bytes.fromhex(each)
    for each in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
INCLUSIONS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): INCLUSIONS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def _nodes(level: int, index: int) -> bytes:
    return root_of(HASHES[index << level : (index + 1) << level])


def _kept_in(made: dict[tuple[int, int], bytes]) -> Nodes:
    return lambda level, index: made[level, index]


def _proof(words: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(word) for word in words)


def test_roots_are_those_of_certificate_transparency() -> None:
    assert ROOTS[0] == EMPTY_ROOT
    frontier = Frontier()
    for size, root in enumerate(ROOTS):
        assert root_of(iter(HASHES[:size])) == root
        assert frontier.root() == root
        assert frontier_at(_nodes, size) == frontier
        if size < len(HASHES):
            frontier = frontier.append(HASHES[size])


@pytest.mark.parametrize(("place", "words"), INCLUSIONS.items())
def test_inclusions_are_those_of_certificate_transparency(
    place: tuple[int, int], words: list[str]
) -> None:
    index, size = place
    assert inclusion_proof(_nodes, index, size) == _proof(words)
    verify_inclusion(HASHES[index], index, size, _proof(words), ROOTS[size])


@pytest.mark.parametrize(("sizes", "words"), CONSISTENCIES.items())
def test_consistencies_are_those_of_certificate_transparency(
    sizes: tuple[int, int], words: list[str]
) -> None:
    old, new = sizes
    assert consistency_proof(_nodes, old, new) == _proof(words)
    verify_consistency(old, ROOTS[old], new, ROOTS[new], _proof(words))


def test_no_leaf_can_be_taken_for_a_node() -> None:
    left, right = HASHES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)
    assert leaf_hash(b"x") == hashlib.sha256(b"\0x").digest()
    assert node_hash(left, right) == hashlib.sha256(b"\1" + left + right).digest()


def test_appending_makes_each_complete_subtree_once() -> None:
    made: dict[tuple[int, int], bytes] = {}
    for index, leaf in enumerate(HASHES):
        nodes = new_nodes(index, leaf, _kept_in(made))
        assert nodes[0] == (0, index, leaf)
        assert not {(level, at) for level, at, _ in nodes} & made.keys()
        made |= {(level, at): value for level, at, value in nodes}
    assert made == {
        (level, at): _nodes(level, at) for level in range(4) for at in range(8 >> level)
    }


def test_a_frontier_keeps_one_hash_for_each_one_bit() -> None:
    frontier = Frontier()
    for leaf in HASHES[:7]:
        frontier = frontier.append(leaf)
    assert frontier.hashes == (_nodes(2, 0), _nodes(1, 2), _nodes(0, 6))
    for size, hashes in [(-1, ()), (1, ()), (0, (bytes(32),)), (3, (bytes(32),))]:
        with pytest.raises(ValueError, match="frontier"):
            Frontier(size, hashes)


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_what_is_no_hash_is_refused(wrong: bytes) -> None:
    for attempt in (
        lambda: Frontier().append(wrong),
        lambda: Frontier(1, (wrong,)),
        lambda: root_of([wrong]),
        lambda: new_nodes(0, wrong, _nodes),
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            attempt()
    with pytest.raises(NotVerifiedError, match="32 bytes"):
        verify_inclusion(wrong, 0, 1, (), wrong)
    with pytest.raises(NotVerifiedError, match="32 bytes"):
        verify_consistency(1, wrong, 2, ROOTS[2], (HASHES[1],))


def test_a_proof_with_hashes_of_other_lengths_is_refused() -> None:
    # The concatenation of two hashes must not pass where only it is looked at.
    left, right = HASHES[0], HASHES[1]
    with pytest.raises(NotVerifiedError, match="32 bytes"):
        verify_inclusion(left + right[:1], 0, 2, (right[1:],), ROOTS[2])
    verify_inclusion(left, 0, 2, (right,), ROOTS[2])


@pytest.mark.parametrize(("index", "size"), [(-1, 8), (8, 8), (0, 0), (9, 8)])
def test_a_place_outside_the_tree_is_refused(index: int, size: int) -> None:
    with pytest.raises(NotVerifiedError, match="no leaf"):
        verify_inclusion(HASHES[0], index, size, (), ROOTS[8])
    with pytest.raises(ValueError, match="index"):
        inclusion_proof(_nodes, index, size)


def test_what_is_not_shown_is_named_with_both_sizes() -> None:
    for proof in ((), (HASHES[0],), (HASHES[0],) * 4):
        with pytest.raises(NotVerifiedError, match="log of 5 entries begins with the 3 seen"):
            verify_consistency(3, ROOTS[3], 5, ROOTS[5], proof)
    with pytest.raises(NotVerifiedError, match="log of 5 entries begins with the 5 seen"):
        verify_consistency(5, ROOTS[5], 5, ROOTS[5], (HASHES[0],))
    with pytest.raises(NotVerifiedError, match="log of 3 entries begins with the 2 seen"):
        verify_consistency(2, ROOTS[2], 3, ROOTS[3], (HASHES[0],))


def test_logs_never_go_back() -> None:
    with pytest.raises(NotVerifiedError, match="rolled back"):
        verify_consistency(3, ROOTS[3], 2, ROOTS[2], ())
    with pytest.raises(NotVerifiedError, match="rolled back"):
        verify_consistency(-1, ROOTS[0], 2, ROOTS[2], ())
    for old, new in [(3, 2), (-1, 2)]:
        with pytest.raises(ValueError, match="old"):
            consistency_proof(_nodes, old, new)


def test_a_fork_of_one_size_is_refused() -> None:
    with pytest.raises(NotVerifiedError, match="different roots"):
        verify_consistency(2, ROOTS[2], 2, ROOTS[3], ())
    verify_consistency(2, ROOTS[2], 2, ROOTS[2], ())


def test_every_log_follows_on_the_empty_one() -> None:
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
    verify_consistency(0, EMPTY_ROOT, 5, ROOTS[5], ())
    for old, old_root, new, new_root, proof in [
        (0, ROOTS[1], 5, ROOTS[5], ()),
        (0, ROOTS[1], 0, ROOTS[1], ()),
        (0, EMPTY_ROOT, 5, ROOTS[5], (HASHES[0],)),
        (5, ROOTS[5], 5, ROOTS[5], (HASHES[0],)),
    ]:
        with pytest.raises(NotVerifiedError, match=r"without entries|nothing shows"):
            verify_consistency(old, old_root, new, new_root, proof)


def test_negative_sizes_are_no_trees() -> None:
    with pytest.raises(ValueError, match="size"):
        frontier_at(_nodes, -1)
    with pytest.raises(ValueError, match="index"):
        new_nodes(-1, HASHES[0], _nodes)
