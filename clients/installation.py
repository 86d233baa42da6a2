"""One installation at work."""

import threading
from dataclasses import dataclass

from clients.node_settings import NodeSettings
from clients.signing_keys import SigningKeys
from privacy.randomness import Entropy


@dataclass(frozen=True, kw_only=True)
class Installation:
    """What a node has in hand in every run.

    Attributes:
        settings: What it knows of itself.
        signing: Its signing keys, suite by suite.
        entropy: Where its randomness is from.
        lock: Of what all its runs share; taken last, and never while another is waited for.
    """

    settings: NodeSettings
    signing: SigningKeys
    entropy: Entropy
    lock: threading.RLock

    @property
    def member(self) -> str:
        """The node's name in the federation."""
        return self.settings.member
