"""`python -m gravity_devstack`, the same as the console script."""

from gravity_devstack.cli import main

main()
