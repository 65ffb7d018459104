"""Commands that change servers."""
