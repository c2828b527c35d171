"""`python -m gz2vit`: the command line."""

from gz2vit.cli import run_command

if __name__ == "__main__":
    run_command()
