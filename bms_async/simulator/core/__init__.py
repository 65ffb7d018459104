"""The cloud itself: its servers, jobs, clock and limits, and nothing of HTTP."""
