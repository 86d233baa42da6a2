"""The ways to protect a sum, as one table.

                masks   carrier        the coordinator reads     it and one member read
    masked      yes     words          the sum                   the sum
    sealed      yes     BFV            nothing                   the sum
    ckks        no      CKKS           nothing                   every vector
    clear       no      words          every vector              every vector

`ckks` is here to compare with, and for those who must; `clear` for tests and public data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from privacy import fixed_point
from privacy.errors import ProtocolError
from privacy.fixed_point import FixedPoint
from privacy.manifest import Protection
from privacy.secure_sum.carrier import Adder, WordAdder, WordWrap, Wrap


@dataclass(frozen=True, slots=True)
class CarrierKey:
    """What a carrier needs.

    Attributes:
        secret: For members; empty where the carrier has no key.
        public: For the coordinator; it decrypts nothing.
        wrap: A member's half.
    """

    secret: bytes = field(repr=False)
    public: bytes = field(repr=False)
    wrap: Wrap = field(repr=False)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a carrier's key leaves no process but sealed to a member")


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to protect a sum.

    Attributes:
        name: As in a manifest.
        masked: Whether vectors carry masks, so that no member's key helps to read another's.
        encrypted: Whether the coordinator cannot read the sum.
        sentence: What a person is told of it.
        create: Makes a key for so many parties.
        restore: Reads a key's secret for so many parties; ProtocolError if it is none.
        adder: From a key's public part, for so many parties.
        packings: Fields x bits that fit one number of the carrier, for so many parties.
    """

    name: Protection
    masked: bool
    encrypted: bool
    sentence: str
    create: Callable[[int], CarrierKey]
    restore: Callable[[bytes, int], CarrierKey]
    adder: Callable[[bytes, int], Adder]
    packings: Callable[[int], tuple[tuple[int, int], ...]]

    def update_layout(self, parties: int, clip: float, precision: float) -> FixedPoint:
        """Return how updates are written.

        Raises:
            InputError: no packing is so fine for so many parties.
        """
        return fixed_point.packed(parties, clip, precision, self.packings(parties))


def scheme_of(name: str) -> Scheme:
    """Return the scheme of that name.

    Raises:
        ProtocolError: there is none.
    """
    try:
        return SCHEMES[name]
    except KeyError:
        raise ProtocolError(
            f"{name!r:.40} is no way to protect a sum; choose one of {', '.join(SCHEMES)}"
        ) from None


def _no_key(_: int) -> CarrierKey:
    return CarrierKey(b"", b"", WordWrap())


def _no_secret(secret: bytes, parties: int) -> CarrierKey:
    if secret:
        raise ProtocolError("a key was given to a scheme that has none; discard it")
    return _no_key(parties)


def _word_adder(public: bytes, _: int) -> Adder:
    if public:
        raise ProtocolError("a key was given to a scheme that has none; discard it")
    return WordAdder()


def _bfv(secret: bytes | None, parties: int) -> CarrierKey:
    from privacy.secure_sum.lattice import BfvKey, BfvWrap

    key = BfvKey.create(parties) if secret is None else BfvKey.from_bytes(secret, parties)
    return CarrierKey(key.secret_bytes(), key.public_context(), BfvWrap(key))


def _bfv_adder(public: bytes, parties: int) -> Adder:
    from privacy.secure_sum.lattice import BfvAdder

    return BfvAdder(public, parties=parties)


def _bfv_packings(parties: int) -> tuple[tuple[int, int], ...]:
    from privacy.secure_sum.lattice import bfv_parameters

    bits = bfv_parameters(parties).word_bits
    return ((2, bits // 2), (1, 30))


def _ckks(secret: bytes | None, parties: int) -> CarrierKey:
    from privacy.secure_sum.lattice import CkksKey, CkksWrap

    del parties  # the usual parameters serve any number
    key = CkksKey.create() if secret is None else CkksKey.from_bytes(secret)
    return CarrierKey(key.secret_bytes(), key.public_context(), CkksWrap(key))


def _ckks_adder(public: bytes, _: int) -> Adder:
    from privacy.secure_sum.lattice import CkksAdder

    return CkksAdder(public)


SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme(
                name="masked",
                masked=True,
                encrypted=False,
                sentence="The coordinator reads the sum, and nobody a member's part of it.",
                create=_no_key,
                restore=_no_secret,
                adder=_word_adder,
                packings=lambda _: fixed_point.PACKINGS,
            ),
            Scheme(
                name="sealed",
                masked=True,
                encrypted=True,
                sentence="The coordinator reads nothing, and nobody a member's part of the sum.",
                create=lambda parties: _bfv(None, parties),
                restore=_bfv,
                adder=_bfv_adder,
                packings=_bfv_packings,
            ),
            Scheme(
                name="ckks",
                masked=False,
                encrypted=True,
                sentence="The coordinator reads nothing; together with any one member it reads "
                "everything: not collusion-resistant.",
                create=lambda parties: _ckks(None, parties),
                restore=_ckks,
                adder=_ckks_adder,
                packings=lambda _: ((3, 21), (2, 30)),
            ),
            Scheme(
                name="clear",
                masked=False,
                encrypted=False,
                sentence="Nothing is hidden from the coordinator.",
                create=_no_key,
                restore=_no_secret,
                adder=_word_adder,
                packings=lambda _: fixed_point.PACKINGS,
            ),
        )
    }
)
