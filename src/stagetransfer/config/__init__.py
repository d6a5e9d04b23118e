"""The settings of a run: schema, validation, identity, and the objects that they name."""
