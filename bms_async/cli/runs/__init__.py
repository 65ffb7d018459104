"""Runs in the journal: begun, found, gone on with, listed and carried out by workers."""
