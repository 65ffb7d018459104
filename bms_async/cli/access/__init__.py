"""Which cloud is meant, and with whose credentials: settings, the open client, the account's limits."""
