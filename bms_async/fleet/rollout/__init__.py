"""How a fleet is walked through: in which order, how much of it at a time, and when."""
