"""The registry: ledgers, checkpoints, proofs, budgets, and witnesses' cosignatures, over mTLS.

`access` says who may what, `peer` who calls, `guard` holds every call to both, to TLS 1.3, a
deadline and a `rate`; `service` answers, `server` listens, `client` asks, `credentials` are the
files of either end, `witness` holds logs to what they once signed.
"""
