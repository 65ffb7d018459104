"""Commands that change nothing: lists, servers, jobs, limits, calls and quotas."""
