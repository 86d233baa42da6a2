"""Promise, cost and proof: secure sums, fixed point, the ledger and its verifier.

This package knows no framework, no clock and no network. Both ends of the wire share only it.
"""
