"""``python -m kmedclf``: the command line where scripts are not on the PATH, as often on Windows."""

from kmedclf.cli import main

if __name__ == "__main__":
    main()
