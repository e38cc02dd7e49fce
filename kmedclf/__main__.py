"""``python -m kmedclf``: the command line, where scripts are not on the PATH."""

from kmedclf.cli import main

if __name__ == "__main__":
    main()
