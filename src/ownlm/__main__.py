"""``python -m ownlm`` is the command ``ownlm``."""

import sys

from .cli.main import main

sys.exit(main())
