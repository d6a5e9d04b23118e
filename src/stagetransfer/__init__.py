"""StageTransfer: multi-stage transfer learning for texture-like images, lung CT first.

import stagetransfer as st

run = st.train("two_stage", ["ratio=0.2"])
run.metrics
st.load_runs("outputs").to_frame()
st.report("outputs")
"""

import lazy_loader

__version__ = "0.2.0"

# Imported when they are first used: torch and pandas take seconds.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"api": ["Runs", "load_runs", "report", "train"]}
)

__all__ = ["Runs", "__version__", "load_runs", "report", "train"]
