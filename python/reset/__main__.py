"""``python -m reset`` is ``reset-nvfp4``."""

from reset.cli import main

if __name__ == "__main__":
    main()
