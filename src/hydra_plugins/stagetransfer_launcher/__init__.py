"""`hydra/launcher=slots`: a sweep on one node, each job a fresh process with one device."""
