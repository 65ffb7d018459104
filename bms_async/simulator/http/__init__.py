"""The cloud over HTTP: its gateway, what it reads and what it answers."""
