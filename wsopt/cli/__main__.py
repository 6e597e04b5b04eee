"""``python -m wsopt.cli`` is the `wsopt` command."""

import sys

from wsopt.cli import main

sys.exit(main())
