"""The Hydra launcher `hydra/launcher=slots`: a sweep on one machine, one process and GPU per job.

`launcher.py` is the plugin, and `_process_pool.py` runs the processes. Hydra finds the plugin by
itself and imports every module here whose name has no leading underscore each time it starts, so
there is nothing to export.
"""
