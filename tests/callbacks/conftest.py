import sys
from pathlib import Path

# The tests of this folder share `tests.callbacks.toys`. Appended, so that installed packages win.
sys.path.append(str(Path(__file__).parents[2]))
