"""`python -m sndqn.cli`."""

import sys

from sndqn.cli import main

sys.exit(main())
