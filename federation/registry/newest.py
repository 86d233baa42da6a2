"""A state of the coordinator's ledger for what came after its last run: acts of membership."""

from federation.ledger_recorder import LedgerRecorder


def sign_newest(ledger: LedgerRecorder) -> bool:
    """Sign the newest state and keep it, where entries came since; return whether it did.

    To be called while no run is under way: runs keep states of their own, with cosignatures. Those
    of one that has just ended may come in meanwhile; the store keeps them.

    Raises:
        NotVerifiedError: the entries are not those that were signed before.
    """
    kept = ledger.store.checkpoints()
    size = ledger.store.size()
    if not size or (kept and kept[-1][0] >= size):
        return False
    state = ledger.state()
    ledger.store.keep_checkpoint(state.size, state.note)
    return True
