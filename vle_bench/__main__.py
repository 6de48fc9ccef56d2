"""`python -m vle_bench`, and so `accelerate launch -m vle_bench`."""

from vle_bench.cli.app import main

if __name__ == "__main__":
    main()
