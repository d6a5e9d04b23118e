from stagetransfer.api import Runs as Runs
from stagetransfer.api import load_runs as load_runs
from stagetransfer.api import report as report
from stagetransfer.api import train as train

__version__: str
