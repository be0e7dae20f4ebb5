"""Who has been promised how much memory: the ledger of reservations, and what really is in use."""
