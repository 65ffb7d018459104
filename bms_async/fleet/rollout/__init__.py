"""Walking through a fleet so that what runs on it stays up."""
