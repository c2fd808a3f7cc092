"""`python -m keras_dbq` is the command `keras-dbq`."""

import sys

from keras_dbq.command import main

if __name__ == "__main__":
    sys.exit(main())
