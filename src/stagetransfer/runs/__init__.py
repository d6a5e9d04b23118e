"""Finished runs on disk: read, written, compared, and gathered into a study."""
