"""Names that a person takes for one another, as whoever approves a run or a key reads them."""

import unicodedata
from collections.abc import Iterable
from typing import Final

_DRAWN: Final = str.maketrans(
    # Cyrillic, Greek, and digits that are drawn as Latin letters, each case by itself
    "АВЕЅЈКМНОРСТУХасеѕіјкорухһԁԛԝѵ" + "ΑΒΕΖΗΚΜΝΟΡΤΥΧαικνορτυχ" + "01IІΙӀӏ|",  # noqa: RUF001
    "ABESJKMHOPCTYXacesijkopyxhdqwv" + "ABEZHKMNOPTYXaikvoptux" + "Olllllll",
)


def look_alike(name: str, names: Iterable[str]) -> str:
    """Return the first of `names` that `name` is taken for; empty where there is none.

    Taken for one another are names that differ in upper and lower case, in spaces, in how a letter
    is encoded, or in letters of another script and digits that are drawn alike. A name is not taken
    for itself.
    """
    own = _folded(name), _drawn(name)
    for other in names:
        if other != name and (_folded(other) == own[0] or _drawn(other) == own[1]):
            return other
    return ""


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def _drawn(name: str) -> str:
    # I is drawn as l is, so upper case is looked at before case is taken away
    return _folded(unicodedata.normalize("NFKC", name).translate(_DRAWN))
