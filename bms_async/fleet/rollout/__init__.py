"""Rollouts: walking through a fleet group by group, with canaries, readiness checks, windows and pauses."""
