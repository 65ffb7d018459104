"""The native OpenStack calls, v2.1 (API reference, chapter 5)."""
