"""What every command uses to read from and write to a terminal, a pipe or a log."""
