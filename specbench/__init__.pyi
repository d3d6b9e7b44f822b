# What `from specbench import ...` gives, for type checkers and editors; the module imports it when asked.
from specbench.analysis.comparison import compare as compare
from specbench.analysis.sweeps import sweep as sweep
from specbench.bench.running import run as run
from specbench.config import Profile as Profile
from specbench.config import load_profile as load_profile
from specbench.errors import SpecbenchError as SpecbenchError
from specbench.factories import CloudModel as CloudModel
from specbench.factories import EdgeModel as EdgeModel
from specbench.records import Prompt as Prompt
from specbench.records import Run as Run
from specbench.results import Comparison as Comparison

__version__: str
