# What `from specbench import ...` gives, for type checkers and editors; the module imports it when asked.
from specbench.benchmark.running import run as run
from specbench.cloud import CloudModel as CloudModel
from specbench.cloud import EdgeModel as EdgeModel
from specbench.errors import SpecbenchError as SpecbenchError
from specbench.profile import Profile as Profile
from specbench.profile import load_profile as load_profile
from specbench.results.derived import Comparison as Comparison
from specbench.results.records import Prompt as Prompt
from specbench.results.records import Run as Run
from specbench.stats.comparison import compare as compare
from specbench.sweeps.measuring import sweep as sweep

__version__: str
