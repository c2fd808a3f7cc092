"""Examples of keras_dbq, to be run from the repository root: `python -m examples.NAME.main`, or by the file's path.

`python -m` puts the working folder before everything else, and with it the source tree's keras_dbq, in which no
delegate is built. Where keras_dbq is installed that one is wanted, so the repository goes behind the installed
packages.
"""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# While Python looks for the module that -m names, sys.argv[0] is "-m": then sys.path[0] was put there for its sake.
if sys.argv[0] == "-m" and os.path.abspath(sys.path[0]) == _ROOT:
    sys.path.append(sys.path.pop(0))
