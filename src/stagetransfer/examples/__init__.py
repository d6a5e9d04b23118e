"""Tiny generated sets in the shapes of four published tasks, to copy with one's own images."""

from stagetransfer.examples.tasks import TASKS, Task, write_example

__all__ = ["TASKS", "Task", "write_example"]
