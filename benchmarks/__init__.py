"""What the SDK costs, beside what a user would pick instead."""
