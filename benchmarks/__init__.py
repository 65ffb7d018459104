"""The CPU, memory and delays of the SDK, beside those of its alternatives."""
