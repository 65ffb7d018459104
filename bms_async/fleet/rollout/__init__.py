"""Rollouts: how a run walks through a fleet so that what runs on it stays up."""
