"""What runs Perennial elsewhere: its files are held against the code (`make test`), and checked (`make check-deploy`)."""
