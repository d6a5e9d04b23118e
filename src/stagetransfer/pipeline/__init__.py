"""A chain of stages, from its config to a finished run."""
