"""Make all vectors anew: `PYTHONPATH=.:tests python -m vectors.make` at the root of the repository.

Keys, times and names are fixed, so the same files come out every time; README.md says what they
are. Only what a bundle that holds must be found to contain is taken from a verifier.
"""

import difflib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vectors import negatives, positives
from vectors.builder import World, identity
from vectors.forging import head_of

from privacy.ledger.head import LedgerHead
from privacy.ledger.keys import log_key
from privacy.ledger.trust import parse_policy
from privacy.verify import verify_data

HERE = Path(__file__).parent
POSITIVES, NEGATIVES, FOLDER = "positives.json", "negatives.json", "positives"
_RUN = re.compile(r"(.{1,40}?)\1{999,}", re.DOTALL)
_PLACE = re.compile(rb'"index":[0-9]+')  # changes where an entry before is taken out
_DIGITS = 10


def edits(old: bytes, new: bytes) -> list[list[Any]]:
    """What turns `old` into `new`; see README.md. Offsets are in `old`, and ascend."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    found: list[list[Any]] = []
    alike = [[_PLACE.sub(b"", line) for line in lines] for lines in (before, after)]
    matcher = difflib.SequenceMatcher(a=alike[0], b=alike[1], autojunk=False)
    for _, a, a_end, b, b_end in matcher.get_opcodes():
        pairs = [(starts[a], b"".join(before[a:a_end]), b"".join(after[b:b_end]))]
        if a_end - a == b_end - b:
            pairs = [(starts[a + n], before[a + n], after[b + n]) for n in range(a_end - a)]
        for at, out, put in pairs:
            if out != put:
                found += _spliced(at, out, put)
    return found


def _spliced(at: int, out: bytes, put: bytes) -> Iterator[list[Any]]:
    """One change without what is the same at both ends; long runs are told by their length."""
    head = 0
    while head < min(len(out), len(put)) and out[head] == put[head]:
        head += 1
    tail = 0
    while tail < min(len(out), len(put)) - head and out[-1 - tail] == put[-1 - tail]:
        tail += 1
    at, removed = at + head, len(out) - head - tail
    text = put[head : len(put) - tail].decode("latin-1")
    begun = 0
    parts: list[tuple[str, int]] = []
    for run in _RUN.finditer(text):
        parts += [(text[begun : run.start()], 1), (run[1], len(run[0]) // len(run[1]))]
        begun = run.end()
    parts.append((text[begun:], 1))
    for part, times in parts:
        if part or removed:
            yield [at, removed, part] if times == 1 else [at, removed, part, times]
            at, removed = at + removed, 0


def edited(data: bytes, changes: list[list[Any]]) -> bytes:
    """What README.md says about edits, in seven lines."""
    parts, done = [], 0
    for at, removed, put, *times in changes:
        parts += [data[done:at], put.encode("latin-1") * (times[0] if times else 1)]
        done = at + removed
    return b"".join((*parts, data[done:]))


def _expected(data: bytes, vector: dict[str, Any]) -> dict[str, Any]:
    heads: dict[str, list[LedgerHead]] = {}
    for origin, leaves, root in vector.get("heads", ()):
        heads.setdefault(origin, []).append(LedgerHead(leaves, root))
    policy = parse_policy(vector["policy"]) if "policy" in vector else None
    found = asdict(verify_data(data, policy=policy, heads=heads))
    del found["steps"]
    if not found["founder"]:
        del found["founder"]  # there is none where no federation was begun
    for row in found["privacy"]:
        for name in ("epsilon", "solo_epsilon"):
            if row[name] is not None:
                row[name] = float(f"{row[name]:.{_DIGITS}g}")
    return found


def _positive_vectors(worlds: dict[str, World]) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = [
        {
            "name": name,
            "about": _about(positives.POSITIVES[name]),
            "file": f"{FOLDER}/{name}.bundle",
        }
        for name in worlds
    ]
    full, rotated = worlds["full"], worlds["rotated"]
    heads = [
        head_of(full, book.owner, size) for book in full.books for size in (1, 7, len(book.lines))
    ]
    lines = full.policy.split("\n")
    spaced = ["# whom we trust", "", *(f"\t{line.replace(' ', '  ', 1)} " for line in lines[:-2])]
    spaced = [f"{line}https://example.org/w " if "witness" in line else line for line in spaced]
    group = ["group  either any two+thirds+and", "quorum either", ""]
    second = log_key(rotated.main.origin, identity("coordinator 2").public)
    extra: list[tuple[str, str, dict[str, Any]]] = [
        (
            "full",
            "remembered",
            {"heads": heads, "about": "Somebody remembers states of all ledgers."},
        ),
        ("full", "trusted", {"policy": full.policy, "about": "The auditor has the same policy."}),
        (
            "full",
            "spaced",
            {
                "policy": "\n".join([*spaced, *group]),
                "about": "The auditor's policy has comments, tabs, addresses, a group of a group.",
            },
        ),
        (
            "rotated",
            "second_key",
            {
                "policy": f"log {second.to_text()}\nquorum none\n",
                "about": "The auditor knows the key that the ledger has now.",
            },
        ),
    ]
    for of, name, more in extra:
        vectors.append({"name": f"{of}_{name}", "file": f"{FOLDER}/{of}.bundle", **more})
    return vectors


def _about(function: object) -> str:
    return " ".join((getattr(function, "__doc__", "") or "").split())


def files() -> dict[str, bytes]:
    """Path below this folder -> what is in it."""
    worlds = {name: make().settle() for name, make in positives.POSITIVES.items()}
    bundles = {name: world.bundle() for name, world in worlds.items()}
    made = {f"{FOLDER}/{name}.bundle": data for name, data in bundles.items()}
    vectors = _positive_vectors(worlds)
    for vector in vectors:
        vector["expect"] = _expected(made[vector["file"]], vector)
    made[POSITIVES] = _rows(vectors)
    rows = []
    for one in negatives.all_forgeries():
        row: dict[str, Any] = {"name": one.name, "about": one.about, "step": one.step}
        row["of"] = f"{FOLDER}/{one.of}.bundle"
        if one.policy is not None:
            row["policy"] = one.policy
        if one.heads:
            row["heads"] = one.heads
        row["edits"] = edits(bundles[one.of], one.data)
        if edited(bundles[one.of], row["edits"]) != one.data:
            raise RuntimeError(f"the edits of {one.name} do not make it")
        rows.append(row)
    made[NEGATIVES] = _rows(rows)
    return made


def _rows(rows: list[dict[str, Any]]) -> bytes:
    """A JSON list with one vector a line."""
    return ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode("ascii")


def main() -> None:
    """Write all files, and take away bundles that are made no more."""
    made = files()
    (HERE / FOLDER).mkdir(exist_ok=True)
    for path in (HERE / FOLDER).glob("*.bundle"):
        if f"{FOLDER}/{path.name}" not in made:
            path.unlink()
    for name, data in made.items():
        (HERE / name).write_bytes(data)
    count = len(json.loads(made[NEGATIVES]))
    size = sum(map(len, made.values()))
    sys.stdout.write(f"{count} forgeries of {len(made) - 2} bundles, {size} bytes\n")


if __name__ == "__main__":
    main()
