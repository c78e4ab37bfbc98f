"""`python -m arena_assets.cli` is `arena`."""

from arena_assets.cli.main import main

main()
