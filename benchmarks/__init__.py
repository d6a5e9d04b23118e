"""Speed, side by side with a reference; each module is a command that prints a table."""
