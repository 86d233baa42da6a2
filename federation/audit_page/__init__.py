"""The regulator's page: a read-only view of ledgers, in a browser, without scripts and cookies."""
