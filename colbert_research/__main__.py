"""`python -m colbert_research` is the command `colbert-research`."""

from colbert_research.cli import main

if __name__ == "__main__":
    main(prog_name="colbert-research")
