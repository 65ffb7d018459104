"""Arguments, checked before anything is sent."""
