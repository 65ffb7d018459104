"""Which servers a command is about, and how a rollout walks through them."""
