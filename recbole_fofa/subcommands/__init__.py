"""What the command does beside a run: each is a module with ``main(argv)``."""
