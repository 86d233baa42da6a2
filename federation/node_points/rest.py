"""Whether what a node keeps of confidential rows is sealed on its disk."""

from collections.abc import Iterator
from pathlib import Path

from clients.sealed_files import kept_files
from clients.vault_folder import FILE, FileSource, PassphraseSource, open_keys, read_vault
from federation.node_points.point import Point, sentence_of
from privacy.errors import TacitError
from privacy.randomness import system_bytes


def rest_points(folder: Path) -> Iterator[Point]:
    """The key, and the files that are sealed with it; nothing where there is no key yet.

    A passphrase that is asked for on a terminal is not asked for here.
    """
    try:
        known = read_vault(folder)
        if known is None:
            return
        source = known.source
        where = f"the key is {folder / FILE}'s {source.kind}"
        if isinstance(source, FileSource):
            where = f"the key is {folder / source.file}"
        if not isinstance(source, PassphraseSource) or source.place.of == "file":
            open_keys(folder, system_bytes, ask=lambda _: "")
        kept = list(kept_files(folder))
        runs = [one for one in kept if one.kind in {"session", "review"}]
        plain = sum(not one.is_sealed() for one in runs)
        sealed = sum(one.is_sealed() for one in kept)
    except TacitError as fault:
        yield Point("at rest", "failed", sentence_of(fault), "Mend it before the node starts.")
        return
    except OSError:
        return  # a run came to its end meanwhile
    found = (
        f"{len(runs)} files of runs under way and reviews, {plain} of them not sealed; {sealed} "
        f"files sealed in all; {where}."
    )
    remedy = "They are sealed as their runs and reviews are looked at." if plain else ""
    yield Point("at rest", "warning" if plain else "ok", found, remedy)
