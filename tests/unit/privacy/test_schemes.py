import pytest

from privacy.errors import InputError, ProtocolError
from privacy.secure_sum.schemes import SCHEMES, scheme_of

# Members -> fields x bits of one number of the carrier, the fewest bytes first.
WORDS = ((5, 12), (4, 16), (3, 21), (2, 30))
PACKINGS = {
    ("masked", 4): WORDS,
    ("masked", 1000): WORDS,
    ("clear", 4): WORDS,
    ("sealed", 48): ((2, 21), (1, 30)),
    ("sealed", 49): ((2, 20), (1, 30)),
    ("sealed", 768): ((2, 19), (1, 30)),
    ("ckks", 4): ((3, 21), (2, 30)),
}


@pytest.mark.parametrize(("how", "packings"), PACKINGS.items())
def test_each_scheme_packs_what_its_carrier_holds(
    how: tuple[str, int], packings: tuple[tuple[int, int], ...]
) -> None:
    name, parties = how
    assert scheme_of(name).packings(parties) == packings


@pytest.mark.parametrize("name", SCHEMES)
def test_updates_are_written_in_the_first_packing_that_is_fine_enough(name: str) -> None:
    scheme, parties = SCHEMES[name], 60
    packings = scheme.packings(parties)
    for fields, bits in packings:
        # A field holds the sum of all: 120 clips, and each of their roundings.
        precision = 2.0 ** (7 - bits)
        layout = scheme.update_layout(parties, 0.5, precision)
        assert (layout.fields, layout.field_bits) == (fields, bits)
        assert (layout.parties, layout.clip) == (parties, 0.5)
        assert layout.step <= precision * 0.5
    with pytest.raises(InputError, match=r"set a coarser update\.precision"):
        scheme.update_layout(parties, 0.5, 2.0**-60)


@pytest.mark.parametrize("name", ["masked", "clear"])
def test_a_scheme_without_keys_makes_none_and_reads_none(name: str) -> None:
    scheme = SCHEMES[name]
    for key in (scheme.create(4), scheme.restore(b"", 4)):
        assert (key.secret, key.public) == (b"", b"")
    with pytest.raises(ProtocolError, match="discard it"):
        scheme.restore(b"k", 4)
    with pytest.raises(ProtocolError, match="discard it"):
        scheme.adder(b"k", 4)
