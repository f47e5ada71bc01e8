"""`python -m nassearch`."""

from nassearch.cli import main

if __name__ == "__main__":
    main()
