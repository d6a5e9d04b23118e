"""Finished runs on corrupted test images. Nothing is trained, and nothing below imports this."""
