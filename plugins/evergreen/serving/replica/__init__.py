"""One replica of a pool: the supervisor, what it follows in the ledger, and the workers that it keeps running."""
