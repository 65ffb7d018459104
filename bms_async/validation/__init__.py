"""Argument checks that run before anything is sent."""
