"""`python -m dragoman`."""

import sys

from dragoman.cli.main import main

sys.exit(main())
