"""What a run looks like while it goes on, before it begins, and when it has ended."""
