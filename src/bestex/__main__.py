"""`python -m bestex` is the `bestex` command."""

from bestex.cli import main

if __name__ == "__main__":
    main()
