"""What the journal's stores run: transactions that are pure, one module a table."""
