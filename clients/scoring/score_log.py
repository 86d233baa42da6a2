"""What was scored at the edge: each line signed by the device and binding all lines before it.

    {"body":{...},"signature":HEX}

The first line names the device's key and the contract; each later one a bundle, a time of the
device's clock, the unit's pseudonym, the score and what made it. Whoever keeps the head of a log
that it saw notices every line that is changed, left out, reordered, or cut off at the end.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clients.scoring.bundle import LAST_S, MOST_INPUTS
from clients.scoring.form import Form
from clients.scoring.trust import key_fingerprint
from privacy.canonical import canonical_json, parse_canonical
from privacy.errors import NotVerifiedError, ProtocolError
from privacy.suites import SUITES
from privacy.suites.suite import Signer

FORMAT: Final = 1
SIGNING_DOMAIN: Final = "edge-log"
LONGEST_LINE: Final = 2**22
MOST_LINES: Final = 2**40
_DOMAIN: Final = b"tacit/edge-log/v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """Where a log stands.

    Attributes:
        lines: How many there are.
        digest: SHA-256, hex, of the last one; empty before the first.
        time_s: Of the last one.
    """

    lines: int = 0
    digest: str = ""
    time_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedScore:
    """One score, as a line has it.

    Attributes:
        bundle: Digest of the bundle that made it.
        time_s: By the device's clock.
        unit: The unit's pseudonym, 64 hexadecimal digits.
        output: In the model's own scale.
        value: As people read it.
        base: Of the model.
        amounts: Input -> what it adds; they and `base` add up to `output`.
        reasons: Inputs that raised it, the strongest first.
    """

    bundle: str
    time_s: int
    unit: str
    output: float
    value: float
    base: float
    amounts: Mapping[str, float]
    reasons: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBeginning:
    """Whose log it is.

    Attributes:
        suite: Of its signatures.
        key: The device's public key.
        contract: Digest of the contract of all that it scores.
        time_s: When it began.
    """

    suite: str
    key: bytes
    contract: str
    time_s: int

    @property
    def device(self) -> str:
        """Fingerprint of the device's key."""
        return key_fingerprint(self.suite, self.key)


def first_line(beginning: LogBeginning, signer: Signer) -> tuple[bytes, LogHead]:
    """The line that begins a log, and where the log then stands."""
    said = {
        "kind": "begun",
        "suite": beginning.suite,
        "key": beginning.key.hex(),
        "contract": beginning.contract,
    }
    return _line(said, LogHead(), beginning.time_s, signer)


def score_line(score: LoggedScore, head: LogHead, signer: Signer) -> tuple[bytes, LogHead]:
    """The line of a score after `head`, and where the log then stands."""
    said = {
        "kind": "score",
        "bundle": score.bundle,
        "unit": score.unit,
        "output": score.output,
        "value": score.value,
        "base": score.base,
        "amounts": dict(score.amounts),
        "reasons": list(score.reasons),
    }
    return _line(said, head, score.time_s, signer)


def line_digest(line: bytes) -> str:
    """What the next line binds, hex."""
    return hashlib.sha256(_DOMAIN + line).hexdigest()


class LogReader:
    """Takes a log's lines in order, and raises at the first that does not hold."""

    def __init__(self, where: str) -> None:
        """Begin; `where` is what sentences call the log."""
        self._where = where
        self.beginning: LogBeginning | None = None
        self.head = LogHead()

    def take(self, line: bytes) -> LoggedScore | None:
        """Take one line without its end; None for the one that begins the log.

        Raises:
            NotVerifiedError: It is not as the device wrote it, or not where it wrote it.
        """
        try:
            outer = Form(parse_canonical(line), "line")
            body = outer.form("body")
            raw = canonical_json(body.value)
            signature = bytes.fromhex(outer.text("signature", longest=10_000))
            outer.done()
            body.whole("format", low=FORMAT, high=FORMAT)
            index = body.whole("index", low=0, high=MOST_LINES)
            previous = body.text("previous", least=0)
            time_s = body.whole("time_s", low=0, high=LAST_S)
            kind = body.choice("kind", "begun", "score")
            found = None if kind == "begun" else _score(body, time_s)
            beginning = _beginning(body, time_s) if found is None else self.beginning
            body.done()
        except (ProtocolError, NotVerifiedError, ValueError):
            raise self._fault("is not as a device writes it") from None
        if (index, previous) != (self.head.lines, self.head.digest) or (index == 0) != (not found):
            raise self._fault("does not follow from the lines before")
        if time_s < self.head.time_s:
            raise self._fault("is earlier than the line before")
        if beginning is None:
            raise self._fault("is no beginning")
        try:
            SUITES[beginning.suite].verify(beginning.key, SIGNING_DOMAIN, raw, signature)
        except ProtocolError:
            raise self._fault("was not signed by this device") from None
        self.beginning = beginning
        self.head = LogHead(lines=index + 1, digest=line_digest(line), time_s=time_s)
        return found

    def _fault(self, what: str) -> NotVerifiedError:
        return NotVerifiedError(
            f"{self._where}: line {self.head.lines + 1} {what}; fetch the log from the device "
            f"again."
        )


def _line(
    said: Mapping[str, Any], head: LogHead, time_s: int, signer: Signer
) -> tuple[bytes, LogHead]:
    body = {
        "format": FORMAT,
        "index": head.lines,
        "previous": head.digest,
        "time_s": time_s,
        **said,
    }
    signature = signer.sign(SIGNING_DOMAIN, canonical_json(body))
    line = canonical_json({"body": body, "signature": signature.hex()})
    return line, LogHead(lines=head.lines + 1, digest=line_digest(line), time_s=time_s)


def _beginning(form: Form, time_s: int) -> LogBeginning:
    suite = form.choice("suite", *SUITES)
    key = bytes.fromhex(form.text("key", longest=10_000))
    return LogBeginning(suite=suite, key=key, contract=form.hexadecimal("contract"), time_s=time_s)


def _score(form: Form, time_s: int) -> LoggedScore:
    amounts = form.form("amounts")
    names = amounts.keys()
    found = LoggedScore(
        bundle=form.hexadecimal("bundle"),
        time_s=time_s,
        unit=form.hexadecimal("unit"),
        output=form.number("output"),
        value=form.number("value"),
        base=form.number("base"),
        amounts={name: amounts.number(name) for name in names},
        reasons=form.texts("reasons", most=MOST_INPUTS),
    )
    total = found.base + math.fsum(found.amounts.values())
    if abs(total - found.output) > 1e-6 * (1 + abs(found.output)):
        raise form.fault("amounts", "do not add up")
    return found
